//! Write-log packs as they lie in stores out there: `tests/golden/write_log_*.hex`.
//!
//! A pack that this build wrote once must decode for ever. So a golden file is never changed and never
//! removed. A new version of the format:
//! 1. describe it in `docs/formats.md` and give it a number in `core/src/data/write_log.rs`;
//! 2. move the present cases from `CURRENT` to `EARLIER`: they are still decoded, no longer encoded;
//! 3. add cases with file names of the new version, run
//!    `cargo test -p vellum-core --test golden_write_log`, check by hand that the bytes it prints are those
//!    that the document describes, and put them into the files.

use bytes::Bytes;
use std::path::PathBuf;
use vellum_core::data::extent_map::Source;
use vellum_core::data::write_log::{LogExtent, decode, encode, encode_folded};
use vellum_core::id::{SegmentId, SessionId};
use vellum_core::limits::REGION_SIZE;

/// A golden file, the region it belongs to, and what it says.
type Case = (&'static str, u64, fn() -> Vec<LogExtent>);

/// Written by this build.
const CURRENT: [Case; 3] = [
    ("write_log_v1_sequential", 0, sequential),
    ("write_log_v1_scattered", 5, scattered),
    ("write_log_v1_embedded", (1 << 37) - 1, embedded),
];

/// Written by folds of this build.
const FOLDED: [Case; 1] = [("write_log_v2_folded", 0, sequential)];

/// Written by earlier builds.
const EARLIER: [Case; 0] = [];

/// A full sub-buffer at the start of a file.
fn sequential() -> Vec<LogExtent> {
    vec![stored(0, 4 << 20, 1, 0)]
}

/// Two segments, in file order and back, over the whole of a region.
fn scattered() -> Vec<LogExtent> {
    let base = 5 * REGION_SIZE;
    vec![
        stored(base + 4096, 4096, 1, 0),
        stored(base + 64 * 4096, 4096, 1, 4096),
        stored(base + REGION_SIZE - 1, 1, 1, 8192),
        stored(base, 100, 2, (64 << 20) - 100),
        stored(base + 50, 300, 1, 10),
    ]
}

/// A small write carried by the log itself, next to a stored extent.
fn embedded() -> Vec<LogExtent> {
    let base = ((1 << 37) - 1) * REGION_SIZE;
    let content = Bytes::from_static(b"a line of a log file\n");
    let len = content.len() as u64;
    vec![
        LogExtent { offset: base + 1000, len, source: Source::Bytes(content) },
        stored(base + 4096, 128, u64::MAX, 77),
        LogExtent { offset: base + 1007, len: 2, source: Source::Bytes(Bytes::from_static(b"42")) },
    ]
}

fn stored(offset: u64, len: u64, sequence: u64, at: u32) -> LogExtent {
    let session = SessionId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
    LogExtent {
        offset,
        len,
        source: Source::Segment { segment: SegmentId { session, sequence }, offset: at },
    }
}

#[test]
fn golden_packs_decode() {
    for (name, region, extents) in CURRENT.iter().chain(&FOLDED).chain(&EARLIER) {
        let pack = read(name);
        assert_eq!(decode(*region, &pack), Ok(extents()), "{name}");
    }
}

#[test]
fn this_build_writes_the_current_golden_packs() {
    let written = CURRENT.map(|case| (case, encode(&case.2())));
    let folded = FOLDED.map(|case| (case, encode_folded(&case.2())));
    for ((name, region, _), packs) in written.into_iter().chain(folded) {
        assert_eq!(packs.len(), 1, "{name} is one pack");
        assert_eq!(packs[0].0, region, "{name}");
        assert_eq!(hex(&packs[0].1), hex(&read(name)), "{name}");
    }
}

#[test]
fn every_flipped_byte_of_a_golden_pack_is_detected() {
    for (name, region, _) in CURRENT.iter().chain(&FOLDED).chain(&EARLIER) {
        let good = read(name);
        for at in 0..good.len() {
            for flip in 1..=255 {
                let mut bad = good.to_vec();
                bad[at] ^= flip;
                assert!(
                    decode(*region, &Bytes::from(bad)).is_err(),
                    "{name}: byte {at} ^ {flip:#04x}"
                );
            }
        }
    }
}

/// The bytes of a golden file: hexadecimal digits, with white space and lines that begin with `#` in between.
fn read(name: &str) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
        .with_extension("hex");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let digits: String = lines.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
    assert!(digits.len().is_multiple_of(2), "{}: a digit is missing", path.display());
    let byte = |i: usize| u8::from_str_radix(&digits[i..i + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// As golden files are written: 32 bytes a line.
fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|b| format!("{b:02x}")).collect::<String>();
    bytes.chunks(32).map(line).collect::<Vec<_>>().join("\n")
}
