//! Feeds libFuzzer's input to `vellum_fuzz::control_wire`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vellum_fuzz::control_wire::fuzz_one(input));
