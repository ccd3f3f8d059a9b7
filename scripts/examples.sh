#!/bin/sh
# Fails where a public function, type, trait or macro has no code example in its documentation. (Methods and fields
# need none: the example of their type shows them where that helps, and one for each getter hides the code.)
#
#   scripts/examples.sh               all crates
#   scripts/examples.sh keops-core    one crate
#
# Rustdoc's lint missing_doc_code_examples does not look at what a private module re-exports, and asks
# for examples of impl blocks; so this walks what rustdoc documents, as its JSON output tells. That is
# unstable: a stable rustdoc is asked with RUSTC_BOOTSTRAP, for itself alone, so that nothing is
# built anew. Constants, statics, type aliases, variants and fields need no example.
if [ -n "${KEOPS_RUSTDOC:-}" ]; then RUSTC_BOOTSTRAP=1 exec "$KEOPS_RUSTDOC" "$@"; fi
set -eu
script="$(cd "$(dirname "$0")" && pwd)/$(basename "$0")"
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- keops-core keops-cpu keops-cuda keops-linalg keops-shapes keops-lddmm keops
folder="${CARGO_TARGET_DIR:-$PWD/target}"
for crate in "$@"; do
  KEOPS_RUSTDOC="${RUSTDOC:-rustdoc}" RUSTDOC="$script" \
    cargo rustdoc --quiet --locked --all-features -p "$crate" --lib -- -Zunstable-options --output-format json
  python3 - "$folder/doc/$(echo "$crate" | tr - _).json" <<'PYTHON'
import json, sys

index = json.load(open(sys.argv[1]))
index, root = index["index"], index["root"]
seen, shown, missing = set(), [], []

def shows_code(docs):
    """Is there a block of Rust in it that is compiled?"""
    fences = [line.strip()[3:] for line in docs.split("\n") if line.strip().startswith("```")]
    compiled = {"", "rust", "should_panic"}
    return any(compiled.issuperset(info.split(",")) for info in fences[::2])

def walk(ids, path):
    for id in map(str, ids):
        if id in seen or id not in index:
            continue
        seen.add(id)
        item = index[id]
        (kind, inner), = item["inner"].items()
        name = f"{path}::{item['name']}"
        if kind in ("function", "struct", "enum", "union", "trait", "macro", "proc_macro"):
            place = f"{item['span']['filename']}:{item['span']['begin'][0]}"
            (shown if shows_code(item["docs"] or "") else missing).append(f"{place}: {name}")
        if kind == "module":
            walk(inner["items"], name)
        elif kind == "use":
            walk([inner["id"]], path)

walk(index[str(root)]["inner"]["module"]["items"], index[str(root)]["name"])
for place in sorted(missing):
    print(place, "has no example")
print(f"{index[str(root)]['name']}: {len(shown)} items with an example, {len(missing)} without")
sys.exit(bool(missing))
PYTHON
done
