#!/bin/sh
# Runs the tests of keops-cpu, whose code is unsafe where it calls what it compiled, under sanitizers and under
# Miri, on a nightly toolchain. A tool that is missing is an error that says how to get it.
#
#   scripts/sanitize.sh             all of them; where all pass, scripts/sanitized says so
#   scripts/sanitize.sh address     one: address, thread, miri
#   scripts/sanitize.sh changed     runs nothing: says whether the sources that hold unsafe code are those of
#                                   which scripts/sanitized says that all passed. CI asks this; the tools
#                                   themselves build the dependencies three times.
#
# - address: machine code written at run time is not instrumented. The portable level, which runs
#   the same vector code over the same memory, is; so are packing, scheduling and results.
# - thread: the standard library has to be instrumented too (component rust-src); without it, reports
#   about its own synchronisation are false.
# - miri: the portable machine, where its code reads and writes memory by addresses; machine code cannot
#   be interpreted. A program of a few rows is seconds there, making one from a formula is minutes:
#   known results, a Gaussian sum, and a workspace that is too small. Miri alters the results of
#   some functions in their last bits unless it is told not to.
set -u
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-gnu
folder="${CARGO_TARGET_DIR:-$PWD/target}"
record=scripts/sanitized
status=0

# The sources that hold unsafe code, or decide what it may touch.
fingerprint() {
  find crates/keops-core/src crates/keops-cpu/src crates/keops-cuda/src -type f |
    LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d' ' -f1
}

missing() {
  echo "$1 cannot run: $2" >&2
  status=1
}
have() { [ -e "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library" ]; }
run() {
  echo "== $1"
  shift
  "$@" || status=1
}
nightly() { rustc +nightly --version 2>/dev/null; }

address() {
  # Leaks are looked for too. A tenth of the random formulas: everything is slower.
  # What no machine has is asked for too, and refused.
  run "address sanitizer" env RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS=allocator_may_return_null=1 CARGO_TARGET_DIR="$folder/sanitize-address" \
    KEOPS_CONFORMANCE_CASES=200 \
    cargo +nightly test --release -p keops-cpu --target "$target" --lib --tests -- --skip refused_memory
}

thread() {
  if ! have; then
    missing "the thread sanitizer" "rustup component add rust-src --toolchain nightly"
    return
  fi
  run "thread sanitizer" env RUSTFLAGS="-Zsanitizer=thread" CARGO_TARGET_DIR="$folder/sanitize-thread" \
    cargo +nightly test --release -p keops-cpu -Zbuild-std --target "$target" --test concurrency
}

miri() {
  if ! cargo +nightly miri --version >/dev/null 2>&1; then
    missing Miri "rustup component add miri --toolchain nightly"
    return
  fi
  run Miri env MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-deterministic-floats" \
    CARGO_TARGET_DIR="$folder/sanitize-miri" cargo +nightly miri test -p keops-cpu --lib -- \
    vm::tests::known_results vm::tests::gaussian_reduction vm::tests::a_small_workspace
}

need_nightly() {
  if [ -z "$(nightly)" ]; then
    echo "there is no nightly toolchain: rustup toolchain install nightly --component rust-src,miri" >&2
    exit 1
  fi
}

case "${1:-all}" in
  address | thread | miri)
    need_nightly
    "$1"
    ;;
  all)
    need_nightly
    before=$(fingerprint)
    address
    thread
    miri
    if [ "$status" = 0 ] && [ "$before" = "$(fingerprint)" ]; then
      printf '%s\n%s, %s\n' "$before" "$(date -u +%Y-%m-%d)" "$(nightly)" >"$record"
    fi
    ;;
  changed)
    if [ "$(head -n 1 "$record" 2>/dev/null)" = "$(fingerprint)" ]; then
      echo "sources are those that passed on $(sed -n 2p "$record")"
    else
      echo "skipped: SOURCES WITH UNSAFE CODE ARE NOT THOSE THAT PASSED THE SANITIZERS (last: $([ -e "$record" ] && sed -n 2p "$record" || echo never recorded)): run scripts/sanitize.sh"
    fi
    ;;
  *)
    echo "usage: $0 [address | thread | miri | changed]" >&2
    exit 2
    ;;
esac
exit $status
