//! Feeds libFuzzer's input to `vellum_fuzz::segment`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vellum_fuzz::segment::fuzz_one(input));
