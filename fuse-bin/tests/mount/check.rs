//! `vellum fsck`, on a mount and on a volume.

use crate::harness::{Expect, Mounted, pattern};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

// [S-FSCK-1]
#[test]
fn a_mount_is_checked_while_it_is_written_to() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    let stop = AtomicBool::new(false);
    let root = m.root();
    thread::scope(|scope| {
        for worker in 0..4 {
            let (root, stop) = (&root, &stop);
            scope.spawn(move || load(&root.join(format!("w{worker}")), stop));
        }
        for round in 0..6 {
            let data = if round % 2 == 0 { "--data" } else { "--progress=0" };
            let said = m.volume().vellum(&["fsck", "--json", data]).arg(&root).succeeds();
            for part in [r#""mounted":true"#, r#""clean":true"#, r#""exact":true"#] {
                assert!(said.contains(part), "{part} in {said}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    m.unmount();
    m.volume().is_sound();
}

/// Creates, overwrites, renames, truncates and removes.
fn load(dir: &Path, stop: &AtomicBool) {
    fs::create_dir(dir).expect("mkdir");
    for n in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let path = dir.join(format!("f{}", n % 20));
        let len = [10, 5000, 70_000, 300_000][(n % 4) as usize];
        let mut file = File::create(&path).expect("create");
        file.write_all(&pattern(n, 0, len)).expect("write");
        match n % 5 {
            0 => file.sync_all().expect("fsync"),
            1 => file.set_len(len as u64 / 2).expect("truncate"),
            2 => fs::rename(&path, dir.join(format!("g{}", n % 7))).expect("rename"),
            3 => fs::remove_file(&path).expect("unlink"),
            _ => {
                let _ = fs::hard_link(&path, dir.join(format!("h{}", n % 11)));
            }
        }
    }
}

// [S-FSCK-1]
#[test]
fn what_is_buffered_is_part_of_a_check_of_its_mount() {
    let Some(m) = Mounted::by_daemon() else { return };
    fs::write(m.path("f"), pattern(1, 0, 3 << 20)).expect("write");
    let said = m.volume().vellum(&["fsck", "--data"]).arg(m.root()).succeeds();
    assert!(said.contains("clean") && said.contains("3.0 MiB verified"), "{said}");
}

// [S-FSCK-1]
#[test]
fn damage_is_found_by_a_check_of_the_mount() {
    let Some(m) = Mounted::by_daemon() else { return };
    let file = m.path("f");
    fs::write(&file, pattern(1, 0, 3 << 20)).expect("write");
    File::open(&file).expect("open").sync_all().expect("fsync");
    let pages = m.volume().path().join("pages");
    let segment = fs::read_dir(pages).expect("readdir").next().expect("a page file").expect("it");
    let mut bytes = fs::read(segment.path()).expect("read");
    let at = bytes.len() - 1_000_000;
    bytes[at] ^= 1;
    fs::write(segment.path(), bytes).expect("write");
    let output = m.volume().vellum(&["fsck", "--data", "--json"]).arg(m.root()).output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    assert!(said.contains("frame-checksum") && said.contains(r#""exact":true"#), "{said}");
    m.volume().vellum(&["fsck"]).arg(m.root()).succeeds();
}

// [S-FSCK-2]
#[test]
fn a_mounted_volume_is_not_repaired_and_a_sound_one_is_left_alone() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    fs::write(m.path("f"), pattern(1, 0, 100_000)).expect("write");
    m.volume().vellum(&["fsck", "--repair"]).arg(m.root()).exits_with(6);
    m.volume().vellum(&["fsck", "--repair"]).arg(m.volume().path()).exits_with(6);
    m.unmount();
    let said = m.volume().vellum(&["fsck", "--repair"]).arg(m.volume().path()).succeeds();
    assert!(said.contains("clean, 0 repaired"), "{said}");
    m.mount_again();
    assert!(fs::read(m.path("f")).expect("read") == pattern(1, 0, 100_000));
}

// [S-FSCK-2]
#[test]
fn what_cannot_be_repaired_is_left_and_exits_with_8() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    fs::write(m.path("gone"), pattern(1, 0, 3 << 20)).expect("write");
    fs::write(m.path("kept"), pattern(2, 0, 1000)).expect("write");
    m.unmount();
    let pages = m.volume().path().join("pages");
    for file in fs::read_dir(&pages).expect("readdir") {
        fs::remove_file(file.expect("a page file").path()).expect("unlink");
    }
    let output = m.volume().vellum(&["fsck", "--repair", "--json"]).arg(m.volume().path()).output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("segment-missing") && said.contains(r#""repaired":[]"#), "{said}");
    m.mount_again();
    assert!(fs::read(m.path("kept")).expect("read") == pattern(2, 0, 1000));
}
