//! See `fuzzed::shapes`.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/keops-shapes/tests/fuzzed/mod.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::shapes(data));
