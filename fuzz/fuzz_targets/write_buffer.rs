//! Feeds libFuzzer's input to `vellum_fuzz::write_buffer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vellum_fuzz::write_buffer::fuzz_one(input));
