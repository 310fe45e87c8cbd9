//! Feeds libFuzzer's input to `vellum_fuzz::page_files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vellum_fuzz::page_files::fuzz_one(input));
