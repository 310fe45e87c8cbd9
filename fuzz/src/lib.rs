//! Fuzz targets: one module each, whose `fuzz_one` panics when what it tests is wrong.
//!
//! Every target turns its input into operations in bounded ranges, so that random bytes already make sense,
//! and compares with a naive model after each one. `fuzz_targets/` runs them under libFuzzer;
//! `tests/smoke.rs` replays the corpus and then bounded random input on stable.

pub mod extent_map;
pub mod write_buffer;
pub mod write_log_decode;

/// A target: its name, which is also its folder under `corpus/`, and its entry.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 3] = [
    ("extent_map", extent_map::fuzz_one),
    ("write_buffer", write_buffer::fuzz_one),
    ("write_log_decode", write_log_decode::fuzz_one),
];
