//! Listings: complete, without repetition, while others change the directory.

use crate::harness::{Mounted, names};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const STEADY: usize = 10_000;

// [S-READDIR-1]
#[test]
fn ten_thousand_names_are_listed_exactly_once_while_others_come_and_go() {
    let Some(mut m) = Mounted::new() else { return };
    let dir = m.path("d");
    fs::create_dir(&dir).expect("mkdir");
    let steady: BTreeSet<String> = (0..STEADY).map(|n| format!("steady-{n:05}")).collect();
    for name in &steady {
        File::create(dir.join(name)).expect("create");
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                let passing = dir.join(format!("passing-{}", n % 97));
                File::create(&passing).expect("create");
                fs::remove_file(&passing).expect("unlink");
            }
        });
        for _ in 0..5 {
            let listed: Vec<String> =
                names(&dir).into_iter().filter(|n| n.starts_with("steady-")).collect();
            let distinct: BTreeSet<String> = listed.iter().cloned().collect();
            if listed.len() != STEADY || distinct != steady {
                done.store(true, Ordering::Relaxed);
                panic!(
                    "{} names listed, {} distinct, {STEADY} expected",
                    listed.len(),
                    distinct.len()
                );
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    m.remount();
    assert_eq!(names(&dir), steady.into_iter().collect::<Vec<_>>());
}

// [S-READDIR-2]
#[test]
fn removing_each_listed_name_empties_a_directory_in_one_pass() {
    let Some(m) = Mounted::new() else { return };
    let dir = m.path("d");
    fs::create_dir(&dir).expect("mkdir");
    for n in 0..3000 {
        File::create(dir.join(format!("f{n}"))).expect("create");
    }
    for entry in fs::read_dir(&dir).expect("open") {
        fs::remove_file(entry.expect("read the directory").path()).expect("unlink");
    }
    assert!(names(&dir).is_empty(), "one pass left {} names", names(&dir).len());
    fs::remove_dir(&dir).expect("rmdir");
}

#[test]
fn a_listing_names_inode_and_kind_as_stat_does() {
    let Some(m) = Mounted::new() else { return };
    fs::create_dir(m.path("dir")).expect("mkdir");
    fs::write(m.path("file"), "x").expect("write");
    std::os::unix::fs::symlink("file", m.path("link")).expect("symlink");
    for entry in fs::read_dir(m.root()).expect("open") {
        let entry = entry.expect("read the directory");
        let meta = fs::symlink_metadata(entry.path()).expect("lstat");
        assert_eq!(entry.ino(), meta.ino(), "{entry:?}");
        assert_eq!(entry.file_type().expect("kind"), meta.file_type(), "{entry:?}");
    }
}

#[test]
fn a_directory_counts_its_subdirectories() {
    let Some(mut m) = Mounted::new() else { return };
    let dir = m.path("d");
    fs::create_dir(&dir).expect("mkdir");
    for n in 0..20 {
        fs::create_dir(dir.join(format!("s{n}"))).expect("mkdir");
        fs::write(dir.join(format!("f{n}")), "x").expect("write");
    }
    for n in 0..5 {
        fs::remove_dir(dir.join(format!("s{n}"))).expect("rmdir");
    }
    for _ in 0..2 {
        assert_eq!(fs::metadata(&dir).expect("stat").nlink(), 2 + 15);
        m.remount();
    }
}

#[test]
fn the_parent_of_the_root_is_outside_and_of_a_directory_is_its_parent() {
    let Some(m) = Mounted::new() else { return };
    fs::create_dir_all(m.path("a/b")).expect("mkdir");
    let ino = |name: &str| fs::metadata(m.path(name)).expect("stat").ino();
    assert_eq!(ino("a/b/.."), ino("a"));
    assert_eq!(ino("a/b/../.."), ino("."));
    assert_eq!(ino("a/."), ino("a"));
}

#[test]
fn changes_of_a_directory_move_its_times() {
    let Some(m) = Mounted::new() else { return };
    let dir = m.path("d");
    fs::create_dir(&dir).expect("mkdir");
    let times = || {
        let meta = fs::metadata(&dir).expect("stat");
        ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()))
    };
    let mut last = times();
    let mut moved = |what: &str, change: &dyn Fn() -> std::io::Result<()>| {
        thread::sleep(std::time::Duration::from_millis(20));
        change().expect(what);
        let now = times();
        assert!(now.0 > last.0 && now.1 > last.1, "{what}: {last:?} -> {now:?}");
        last = now;
    };
    moved("create", &|| File::create(dir.join("f")).map(drop));
    moved("rename", &|| fs::rename(dir.join("f"), dir.join("g")));
    moved("link", &|| fs::hard_link(dir.join("g"), dir.join("h")));
    moved("unlink", &|| fs::remove_file(dir.join("g")));
    moved("mkdir", &|| fs::create_dir(dir.join("s")));
    moved("rmdir", &|| fs::remove_dir(dir.join("s")));
}

#[test]
fn a_deep_path_works_to_its_end() {
    let Some(mut m) = Mounted::new() else { return };
    let deep = (0..200).map(|n| format!("d{n}")).collect::<Vec<_>>().join("/");
    fs::create_dir_all(m.path(&deep)).expect("mkdir -p");
    fs::write(m.path(&deep).join("f"), "deep").expect("write");
    m.remount();
    assert_eq!(fs::read_to_string(m.path(&deep).join("f")).expect("read"), "deep");
    fs::remove_dir_all(m.path("d0")).expect("rm -r");
    assert!(names(&m.root()).is_empty());
}
