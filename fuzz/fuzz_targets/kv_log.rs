//! Feeds libFuzzer's input to `vellum_fuzz::kv_log`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vellum_fuzz::kv_log::fuzz_one(input));
