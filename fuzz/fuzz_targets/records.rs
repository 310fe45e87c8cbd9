//! Feeds libFuzzer's input to `vellum_fuzz::records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vellum_fuzz::records::fuzz_one(input));
