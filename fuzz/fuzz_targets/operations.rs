//! Feeds libFuzzer's input to `vellum_fuzz::operations`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vellum_fuzz::operations::fuzz_one(input));
