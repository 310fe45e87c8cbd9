//! Feeds libFuzzer's input to `vellum_fuzz::options`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vellum_fuzz::options::fuzz_one(input));
