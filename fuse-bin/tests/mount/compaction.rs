//! Compaction, gc and scrub on a mount: what goes, what stays, what is said.

use crate::harness::{Expect, Mounted, pattern, rounds, wait_until};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// What a verb says in JSON.
fn json(m: &Mounted, args: &[&str], path: &Path) -> Value {
    let out = m.volume().vellum(args).arg("--json").arg(path).output().expect("it runs");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("JSON")
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {value}"))
}

/// Bytes that the page files of the volume take on its disk.
fn physical(m: &Mounted) -> u64 {
    let files = fs::read_dir(m.volume().path().join("pages")).expect("page files");
    files.filter_map(|f| f.ok()?.metadata().ok()).map(|f| f.blocks() * 512).sum()
}

/// Writes 4 KiB pieces over a file in an order that looks random; returns what it holds then.
fn scatter(file: &File, bytes: &mut [u8], count: u64, seed: u64) {
    let pages = bytes.len() as u64 / 4096;
    for n in 0..count {
        let page = (n * 2_654_435_761 + seed * 40_503) % pages;
        let piece = pattern(seed + n, page * 4096, 4096);
        file.write_all_at(&piece, page * 4096).expect("write");
        bytes[page as usize * 4096..][..4096].copy_from_slice(&piece);
    }
}

// [S-SPACE-3]
#[test]
fn overwritten_bytes_give_their_space_back_while_the_file_is_in_use() {
    let Some(m) = Mounted::by_daemon() else { return };
    let path = m.path("f");
    let mut bytes = pattern(1, 0, 64 << 20);
    fs::write(&path, &bytes).expect("write");
    let file = File::options().read(true).write(true).open(&path).expect("open");
    file.sync_all().expect("fsync");
    for round in 0..4 {
        scatter(&file, &mut bytes, 8192, round);
        file.sync_all().expect("fsync");
    }
    let mtime = file.metadata().expect("stat").modified().expect("mtime");
    wait_until("compaction gives space back", || physical(&m) < 110 * MIB);
    let status = json(&m, &["status"], &m.root());
    assert!(number(&status, "/compacted/folds") > 0, "{status}");
    let (moved, written) =
        (number(&status, "/compacted/moved_bytes"), number(&status, "/compacted/written_bytes"));
    assert!(moved <= 2 * written, "moved {moved} for {written} written");
    assert_eq!(file.metadata().expect("stat").modified().expect("mtime"), mtime);
    let mut found = vec![0; bytes.len()];
    file.read_exact_at(&mut found, 0).expect("read");
    assert!(found == bytes, "compaction changed the file");
    json(&m, &["compact"], &path);
    json(&m, &["gc", "--now"], &m.root());
    wait_until("nothing but the file is left", || physical(&m) < 70 * MIB);
    drop(file);
    let mut m = m;
    m.remount();
    assert!(fs::read(m.path("f")).expect("read") == bytes, "compaction changed the file");
    m.unmount();
    m.volume().is_sound();
}

// [S-SPACE-3]
#[test]
fn a_file_in_small_pieces_is_put_in_order_when_somebody_asks() {
    let Some(m) = Mounted::by_daemon() else { return };
    let path = m.path("dir/f");
    fs::create_dir(m.path("dir")).expect("mkdir");
    let mut bytes = pattern(1, 0, 4 << 20);
    fs::write(&path, &bytes).expect("write");
    let file = File::options().read(true).write(true).open(&path).expect("open");
    scatter(&file, &mut bytes, 200, 7);
    file.sync_all().expect("fsync");
    let extents = |m: &Mounted| json(m, &["info"], &path)["extents"].as_array().map_or(0, Vec::len);
    assert!(extents(&m) > 100);
    let done = json(&m, &["compact"], &m.path("dir"));
    assert_eq!((number(&done, "/files"), number(&done, "/folds")), (1, 1), "{done}");
    assert_eq!(extents(&m), 1);
    assert!(fs::read(&path).expect("read") == bytes, "compaction changed the file");
}

// [S-SPACE-4]
#[test]
fn gc_counts_and_collects() {
    let Some(m) = Mounted::by_daemon() else { return };
    let path = m.path("f");
    for seed in 0..3 {
        fs::write(m.path("g"), pattern(seed, 0, 4 << 20)).expect("write");
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let file = file.expect("open");
        file.write_all_at(&pattern(seed, 0, 8 << 20), 0).expect("write");
        file.sync_all().expect("fsync");
    }
    fs::remove_file(m.path("g")).expect("unlink");
    let counted = json(&m, &["gc"], &m.root());
    assert_eq!(counted["before"], counted["after"]);
    assert!(number(&counted, "/after/stored_bytes") >= 16 * MIB, "{counted}");
    let collected = json(&m, &["gc", "--now"], &m.root());
    assert_eq!(number(&collected, "/after/stored_bytes"), 8 * MIB, "{collected}");
    assert_eq!(number(&collected, "/after/unnamed_bytes"), 0, "{collected}");
    assert_eq!(number(&collected, "/after/removed_inodes"), 0, "{collected}");
    assert!(fs::read(&path).expect("read") == pattern(2, 0, 8 << 20));
    let mut m = m;
    m.unmount();
    let again = json(&m, &["gc", "--now"], &m.volume().path());
    assert_eq!(number(&again, "/after/orphan_segments"), 0, "{again}");
    m.volume().is_sound();
}

// [S-SCRUB-1]
#[test]
fn scrub_verifies_at_its_rate_and_names_what_is_damaged() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    fs::create_dir(m.path("d")).expect("mkdir");
    let mark = b"\xd7scrub-finds-me\x1d\x01";
    let mut bytes = pattern(3, 0, 8 << 20);
    bytes[5 << 20..][..mark.len()].copy_from_slice(mark);
    fs::write(m.path("d/victim"), &bytes).expect("write");
    m.remount();
    let clean = json(&m, &["scrub", "--rate", "0"], &m.root());
    assert_eq!(number(&clean, "/bytes_verified"), 8 * MIB, "{clean}");
    let began = Instant::now();
    json(&m, &["scrub", "--rate", "8M"], &m.root());
    assert!(began.elapsed() >= Duration::from_millis(900), "8 MiB at 8 MiB a second");
    m.unmount();
    flip(&m.volume().path(), mark);
    let said = m.volume().vellum(&["scrub"]).arg(m.volume().path()).exits_with(8);
    let out = m.volume().vellum(&["scrub"]).arg(m.volume().path()).output().expect("it runs");
    let said = said + &String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("d/victim") && said.contains("bytes 5242880.."), "{said}");
}

/// Flips a bit of what stands once in the page files.
fn flip(volume: &Path, mark: &[u8]) {
    for entry in fs::read_dir(volume.join("pages")).expect("page files") {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("read");
        if let Some(at) = bytes.windows(mark.len()).position(|w| w == mark) {
            let file = File::options().write(true).open(&path).expect("open");
            return file.write_all_at(&[bytes[at] ^ 1], at as u64).expect("write");
        }
    }
    panic!("the mark is nowhere");
}

// [S-SPACE-3]
#[test]
fn killed_in_the_midst_of_compaction_or_gc_it_loses_nothing_and_leaves_nothing() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    let mut bytes = pattern(1, 0, 32 << 20);
    fs::write(m.path("f"), &bytes).expect("write");
    for round in 0..u64::from(rounds("VELLUM_TEST_KILLS", 2)) {
        let file = File::options().write(true).open(m.path("f")).expect("open");
        scatter(&file, &mut bytes, 6000, round * 10_000);
        file.sync_all().expect("fsync");
        let (verb, path) = match round % 2 {
            0 => (["compact", "-q"], m.path("f")),
            _ => (["gc", "--now"], m.root()),
        };
        let mut work = m.volume().vellum(&verb).arg(path).spawn().expect("it runs");
        std::thread::sleep(Duration::from_millis((round * 37) % 250));
        drop(file);
        m.kill();
        let _ = work.wait();
        m.volume().is_sound();
        m.mount_again();
        assert!(
            fs::read(m.path("f")).expect("read") == bytes,
            "round {round}: synced bytes are lost"
        );
        let after = json(&m, &["gc", "--now"], &m.root());
        assert_eq!(number(&after, "/after/orphan_segments"), 0, "round {round}: {after}");
        assert_eq!(number(&after, "/after/stored_bytes"), 32 * MIB, "round {round}: {after}");
    }
}
