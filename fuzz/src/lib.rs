//! Fuzz targets: one module each, whose `fuzz_one` panics when what it tests is wrong.
//!
//! Every target turns its input into operations in bounded ranges, so that random bytes already make sense,
//! and compares with a naive model after each one. `fuzz_targets/` runs them under libFuzzer;
//! `tests/smoke.rs` replays the corpus and then bounded random input on stable.

pub mod control_wire;
mod disk;
pub mod extent_map;
pub mod fuse_frames;
pub mod kv_log;
pub mod operations;
pub mod options;
pub mod page_files;
pub mod records;
pub mod segment;
pub mod write_buffer;
pub mod write_log_decode;

/// A target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, which is also its folder under `corpus/`.
    pub name: &'static str,
    /// Its entry: panics when something is wrong.
    pub fuzz_one: fn(&[u8]),
    /// Inputs to begin with, each with a name, where random bytes would not get far.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
    /// Longest input worth trying.
    pub len_max: u32,
    /// Random inputs that a test tries in a few seconds.
    pub runs: u64,
}

/// All of them.
pub const TARGETS: [Target; 11] = [
    target("control_wire", control_wire::fuzz_one, control_wire::seeds, 1024, 2000),
    target("extent_map", extent_map::fuzz_one, Vec::new, 512, 2000),
    target("fuse_frames", fuse_frames::fuzz_one, fuse_frames::seeds, 512, 5000),
    target("kv_log", kv_log::fuzz_one, kv_log::seeds, 512, 500),
    target("operations", operations::fuzz_one, operations::seeds, 400, 100),
    target("options", options::fuzz_one, options::seeds, 256, 2000),
    target("page_files", page_files::fuzz_one, page_files::seeds, 512, 300),
    target("records", records::fuzz_one, records::seeds, 300, 5000),
    target("segment", segment::fuzz_one, segment::seeds, 512, 2000),
    target("write_buffer", write_buffer::fuzz_one, Vec::new, 512, 2000),
    target("write_log_decode", write_log_decode::fuzz_one, Vec::new, 512, 2000),
];

const fn target(
    name: &'static str,
    fuzz_one: fn(&[u8]),
    seeds: fn() -> Vec<(String, Vec<u8>)>,
    len_max: u32,
    runs: u64,
) -> Target {
    Target { name, fuzz_one, seeds, len_max, runs }
}
