//! Feeds libFuzzer's input to `vellum_fuzz::extent_map`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vellum_fuzz::extent_map::fuzz_one(input));
