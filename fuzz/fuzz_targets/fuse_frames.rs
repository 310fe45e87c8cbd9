//! Feeds libFuzzer's input to `vellum_fuzz::fuse_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vellum_fuzz::fuse_frames::fuzz_one(input));
