#!/bin/sh
# Runs the tests of keops-cpu, whose code is unsafe where it calls what it compiled, under sanitizers and under
# Miri, on a nightly toolchain. A tool that is missing is an error that says how to get it.
#
#   scripts/sanitize.sh             all of them
#   scripts/sanitize.sh address     one: address, thread, miri
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
status=0

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

if ! rustc +nightly --version >/dev/null 2>&1; then
  echo "there is no nightly toolchain: rustup toolchain install nightly --component rust-src,miri" >&2
  exit 1
fi

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

case "${1:-all}" in
  address | thread | miri) "$1" ;;
  all) address; thread; miri ;;
  *) echo "usage: $0 [address | thread | miri]" >&2; exit 2 ;;
esac
exit $status
