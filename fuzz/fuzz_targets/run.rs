//! See `fuzzed::run`.
#![no_main]

#[path = "../../crates/keops-cpu/tests/fuzzed/mod.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::run(data));
