//! See `fuzzed::construction`.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/keops-core/tests/fuzzed/mod.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::construction(data));
