#!/bin/sh
# Fetches NVIDIA's run-time compiler (a Python wheel; no GPU, driver or toolkit is needed) into
# target/nvrtc and prints the line that makes tests and programs use it:
#   eval "$(scripts/nvrtc.sh)"
set -eu
cd "$(dirname "$0")/.."
folder="${CARGO_TARGET_DIR:-$PWD/target}/nvrtc"
if ! ls "$folder"/libnvrtc.so.* >/dev/null 2>&1; then
  mkdir -p "$folder"
  python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$folder" 'nvidia-cuda-nvrtc==13.0.*' >&2
  python3 - "$folder" <<'PYTHON'
import glob, os, sys, zipfile
folder = sys.argv[1]
for wheel in glob.glob(folder + "/*.whl"):
    with zipfile.ZipFile(wheel) as z:
        for name in z.namelist():
            if "/lib/" in name and ".so." in name and ".alt." not in name:
                with open(os.path.join(folder, os.path.basename(name)), "wb") as out:
                    out.write(z.read(name))
    os.remove(wheel)
PYTHON
fi
echo "export KEOPS_NVRTC_PATH='$folder'"
