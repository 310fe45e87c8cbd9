//! Bytes: what was written is read, what was not is zero.

use crate::harness::{Mounted, fails, pattern};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Where one region of a file ends and the next begins.
const REGION: u64 = 64 << 20;

// [S-WRITE-1]
#[test]
fn a_file_across_a_region_border_reads_back() {
    let Some(mut m) = Mounted::new() else { return };
    let path = m.path("big");
    let len = REGION + (16 << 20);
    let mut file = File::create(&path).expect("create");
    for offset in (0..len).step_by(1 << 20) {
        file.write_all(&pattern(1, offset, 1 << 20)).expect("write");
    }
    drop(file);
    // Overwrites on both sides of the border and across it, aligned to nothing.
    let file = File::options().write(true).open(&path).expect("open");
    let patches = [
        (REGION - 100_001, 50_000),
        (REGION - 3, 7),
        (REGION + 12_345, 1),
        (4_194_304, 11),
        (len - 1, 1),
    ];
    for (offset, size) in patches {
        file.write_all_at(&pattern(2, offset, size), offset).expect("overwrite");
    }
    drop(file);
    for _ in 0..2 {
        assert_eq!(fs::metadata(&path).expect("stat").len(), len);
        let file = File::open(&path).expect("open");
        for offset in (0..len).step_by(1 << 20) {
            let mut expected = pattern(1, offset, 1 << 20);
            for (at, size) in patches {
                overlay(&mut expected, offset, at, &pattern(2, at, size));
            }
            assert!(read(&file, offset, 1 << 20) == expected, "the MiB at {offset} differs");
        }
        drop(file);
        m.remount();
    }
}

// [S-WRITE-2]
#[test]
fn small_overwrites_in_any_order_match_a_copy_in_memory() {
    let Some(mut m) = Mounted::new() else { return };
    let path = m.path("f");
    let mut copy = vec![0; 300_000];
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("create");
    file.set_len(copy.len() as u64).expect("truncate");
    let mut state = 0x1234_5678_u64;
    let mut next = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..2_000 {
        let at = next(copy.len());
        let len = next(5_000).min(copy.len() - at);
        let bytes = pattern(round, at as u64, len);
        file.write_all_at(&bytes, at as u64).expect("write");
        copy[at..at + len].copy_from_slice(&bytes);
        if round % 50 == 0 {
            file.sync_data().expect("fdatasync");
            assert!(read(&file, 0, copy.len()) == copy, "differs after {round} writes");
        }
    }
    drop(file);
    m.remount();
    assert!(fs::read(&path).expect("read") == copy, "differs after a new mount");
}

// [S-HOLE-1]
#[test]
fn holes_read_as_zeros_and_take_no_space() {
    let Some(mut m) = Mounted::new() else { return };
    let path = m.path("sparse");
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("create");
    file.write_all_at(b"x", 1 << 20).expect("write");
    file.write_all_at(b"y", 1 << 40).expect("write a TiB out");
    drop(file);
    for _ in 0..2 {
        let file = File::open(&path).expect("open");
        let meta = file.metadata().expect("fstat");
        assert_eq!(meta.len(), (1 << 40) + 1);
        assert!(meta.blocks() * 512 < 1 << 20, "a hole of a TiB takes {} blocks", meta.blocks());
        assert!(read(&file, 0, 1 << 20).iter().all(|b| *b == 0));
        assert_eq!(read(&file, (1 << 20) - 2, 4), [0, 0, b'x', 0]);
        assert_eq!(read(&file, (1 << 40) - 3, 10), [0, 0, 0, b'y']);
        drop(file);
        m.remount();
    }
}

// [S-TRUNCATE-1]
#[test]
fn bytes_beyond_a_truncate_never_come_back() {
    let Some(mut m) = Mounted::new() else { return };
    for (name, synced) in [("synced", true), ("buffered", false)] {
        let path = m.path(name);
        let file =
            File::options().read(true).write(true).create_new(true).open(&path).expect("create");
        file.write_all_at(&pattern(1, 0, 1 << 20), 0).expect("write");
        if synced {
            file.sync_all().expect("fsync");
        }
        file.set_len(100_001).expect("truncate down");
        file.set_len(600_000).expect("truncate up");
        file.write_all_at(b"end", 700_000).expect("write beyond");
        let mut expected = pattern(1, 0, 100_001);
        expected.resize(700_000, 0);
        expected.extend_from_slice(b"end");
        assert!(read(&file, 0, 1 << 20) == expected, "{name}: differs while open");
    }
    m.remount();
    for name in ["synced", "buffered"] {
        let mut expected = pattern(1, 0, 100_001);
        expected.resize(700_000, 0);
        expected.extend_from_slice(b"end");
        assert!(
            fs::read(m.path(name)).expect("read") == expected,
            "{name}: differs after a new mount"
        );
    }
}

#[test]
fn truncation_to_nothing_and_growth_across_regions() {
    let Some(mut m) = Mounted::new() else { return };
    let path = m.path("f");
    fs::write(&path, pattern(1, 0, 100_000)).expect("write");
    let file = File::options()
        .read(true)
        .write(true)
        .truncate(true)
        .open(&path)
        .expect("open with O_TRUNC");
    assert_eq!(file.metadata().expect("fstat").len(), 0);
    file.set_len(3 * REGION).expect("truncate up");
    file.write_all_at(b"z", 2 * REGION - 1).expect("write");
    file.set_len(2 * REGION).expect("truncate down");
    drop(file);
    m.remount();
    let file = File::open(&path).expect("open");
    assert_eq!(file.metadata().expect("fstat").len(), 2 * REGION);
    assert_eq!(read(&file, 2 * REGION - 2, 10), [0, b'z']);
    assert!(read(&file, REGION - 1000, 2000).iter().all(|b| *b == 0));
}

#[test]
fn the_size_of_an_open_file_is_exact_while_another_descriptor_writes() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    let mut file = File::create(&path).expect("create");
    for n in 1..=200 {
        file.write_all(&[b'x'; 777]).expect("write");
        assert_eq!(fs::metadata(&path).expect("stat").len(), n * 777);
    }
}

#[test]
fn every_size_around_the_inline_limit_survives() {
    let Some(mut m) = Mounted::new() else { return };
    let sizes = [0, 1, 511, 4095, 4096, 4097, 8192, 16_383, 16_384, 16_385, 65_536, 1 << 20];
    for size in sizes {
        fs::write(m.path(format!("f{size}")), pattern(size as u64, 0, size)).expect("write");
    }
    m.remount();
    for size in sizes {
        let path = m.path(format!("f{size}"));
        assert!(
            fs::read(&path).expect("read") == pattern(size as u64, 0, size),
            "{size} bytes differ"
        );
        // Grow it by one byte at its end, and change its first one.
        let file = File::options().write(true).open(&path).expect("open");
        file.write_all_at(b"!", size as u64).expect("append");
        file.write_all_at(b"?", 0).expect("overwrite");
    }
    m.remount();
    for size in sizes {
        let mut expected = pattern(size as u64, 0, size);
        expected.push(b'!');
        expected[0] = b'?';
        assert!(
            fs::read(m.path(format!("f{size}"))).expect("read") == expected,
            "{size} bytes differ when grown"
        );
    }
}

// [S-APPEND-1]
#[test]
fn append_writes_at_the_end_whatever_the_offset() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("log");
    fs::write(&path, "one\n").expect("write");
    let mut a = File::options().append(true).open(&path).expect("open");
    let mut b = File::options().append(true).open(&path).expect("open");
    a.write_all(b"two\n").expect("append");
    b.write_all(b"three\n").expect("append");
    a.write_all(b"four\n").expect("append");
    assert_eq!(fs::read_to_string(&path).expect("read"), "one\ntwo\nthree\nfour\n");
    File::options().write(true).open(&path).expect("open").set_len(4).expect("truncate");
    a.write_all(b"five\n").expect("append after a truncate");
    assert_eq!(fs::read_to_string(&path).expect("read"), "one\nfive\n");
}

#[test]
fn direct_io_sees_and_is_seen_by_buffered_io() {
    const O_DIRECT: i32 = rustix::fs::OFlags::DIRECT.bits() as i32;
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    fs::write(&path, pattern(1, 0, 1 << 16)).expect("write");
    let status = std::process::Command::new("dd")
        .args([
            "bs=4096",
            "count=1",
            "seek=3",
            "conv=notrunc",
            "oflag=direct",
            "if=/dev/zero",
            "status=none",
        ])
        .arg(format!("of={}", path.display()))
        .status();
    assert!(status.expect("dd runs").success(), "dd with O_DIRECT failed");
    File::options().read(true).custom_flags(O_DIRECT).open(&path).expect("open with O_DIRECT");
    let mut expected = pattern(1, 0, 1 << 16);
    expected[3 * 4096..4 * 4096].fill(0);
    assert!(fs::read(&path).expect("read") == expected);
}

#[test]
fn reads_and_writes_of_nothing_and_beyond_the_end() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("create");
    assert_eq!(file.write_at(b"", 100).expect("an empty write"), 0);
    assert_eq!(file.metadata().expect("fstat").len(), 0, "an empty write changes nothing");
    file.write_all_at(b"abc", 0).expect("write");
    assert_eq!(file.read_at(&mut [0; 8], 3).expect("read at the end"), 0);
    assert_eq!(file.read_at(&mut [0; 8], 1 << 50).expect("read far beyond"), 0);
    fails(rustix::fs::ftruncate(&file, 1 << 63), Errno::INVAL);
    fails(fs::read(m.root()), Errno::ISDIR);
}

// [S-SEEK-1]
#[test]
fn seeking_for_data_never_skips_any() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("create");
    file.write_all_at(&[1; 4096], 1 << 20).expect("write");
    file.set_len(4 << 20).expect("truncate up");
    let data = seek(&file, SeekFrom::Data(0)).expect("there is data");
    assert!(data <= 1 << 20, "data found at {data}, behind the first byte");
    let hole = seek(&file, SeekFrom::Hole(1 << 20)).expect("there is a hole, at the end at least");
    assert!(((1 << 20) + 4096..=4 << 20).contains(&hole), "a hole at {hole}");
    fails(seek(&file, SeekFrom::Data(4 << 20)), Errno::NXIO);
}

fn read(file: &File, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xAA; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut bytes[filled..], offset + filled as u64).expect("read") {
            0 => break,
            n => filled += n,
        }
    }
    bytes.truncate(filled);
    bytes
}

/// Puts what `bytes` at `at` covers of the block that begins at `offset` into it.
fn overlay(block: &mut [u8], offset: u64, at: u64, bytes: &[u8]) {
    for (n, byte) in bytes.iter().enumerate() {
        let place = (at + n as u64).checked_sub(offset).and_then(|p| usize::try_from(p).ok());
        if let Some(slot) = place.and_then(|p| block.get_mut(p)) {
            *slot = *byte;
        }
    }
}

#[test]
fn a_full_copy_by_the_tools_is_the_same_file() {
    let Some(m) = Mounted::new() else { return };
    let source = m.volume().beside("source");
    fs::write(&source, pattern(9, 0, 5 << 20)).expect("write");
    let copy = |from: &Path, to: &Path| fs::copy(from, to).expect("copy");
    copy(&source, &m.path("in"));
    copy(&m.path("in"), &m.path("within"));
    copy(&m.path("within"), &m.volume().beside("out"));
    assert!(fs::read(m.volume().beside("out")).expect("read") == pattern(9, 0, 5 << 20));
}
