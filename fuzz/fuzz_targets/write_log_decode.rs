//! Feeds libFuzzer's input to `vellum_fuzz::write_log_decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vellum_fuzz::write_log_decode::fuzz_one(input));
