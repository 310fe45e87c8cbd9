//! Renames: atomic, with flags, and everything that POSIX refuses.

use crate::harness::{Mounted, fails, names, other_filesystem};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

// [S-RENAME-1]
#[test]
fn a_reader_sees_the_old_or_the_new_file_and_never_none() {
    let Some(m) = Mounted::new() else { return };
    let (target, draft) = (m.path("target"), m.path("draft"));
    fs::write(&target, "version 0").expect("write");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0_u32;
            while !done.load(Ordering::Relaxed) {
                let text = fs::read_to_string(&target).expect("the name is always there");
                assert!(text.starts_with("version "), "a torn version: {text:?}");
                reads += 1;
            }
            reads
        });
        for n in 1..=500 {
            fs::write(&draft, format!("version {n}")).expect("write");
            fs::rename(&draft, &target).expect("rename");
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().expect("the reader never fails") > 0);
    });
    assert_eq!(fs::read_to_string(&target).expect("read"), "version 500");
    assert_eq!(names(&m.root()), ["target"]);
}

// [S-RENAME-2]
#[test]
fn noreplace_refuses_a_taken_name() {
    let Some(m) = Mounted::new() else { return };
    let (a, b) = (m.path("a"), m.path("b"));
    fs::write(&a, "a").expect("write");
    fs::write(&b, "b").expect("write");
    fails(renameat_with(CWD, &a, CWD, &b, RenameFlags::NOREPLACE), Errno::EXIST);
    assert_eq!(fs::read_to_string(&b).expect("read"), "b");
    renameat_with(CWD, &a, CWD, m.path("c"), RenameFlags::NOREPLACE).expect("a free name");
    assert_eq!(names(&m.root()), ["b", "c"]);
}

// [S-RENAME-3]
#[test]
fn exchange_swaps_two_names_of_any_kind() {
    let Some(mut m) = Mounted::new() else { return };
    let exchange = |a: &Path, b: &Path| renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE);
    fs::create_dir_all(m.path("d/below")).expect("mkdir");
    fs::create_dir(m.path("e")).expect("mkdir");
    fs::write(m.path("e/file"), "file").expect("write");
    exchange(&m.path("d"), &m.path("e/file")).expect("a directory and a file of another directory");
    fails(exchange(&m.path("d"), &m.path("missing")), Errno::NOENT);
    fails(exchange(&m.path("e"), &m.path("e/file/below")), Errno::INVAL);
    for _ in 0..2 {
        assert_eq!(fs::read_to_string(m.path("d")).expect("read"), "file");
        assert_eq!(names(&m.path("e/file")), ["below"]);
        assert_eq!(fs::metadata(m.root()).expect("stat").nlink(), 3);
        assert_eq!(fs::metadata(m.path("e")).expect("stat").nlink(), 3);
        let parent = fs::metadata(m.path("e/file/..")).expect("stat");
        assert_eq!(parent.ino(), fs::metadata(m.path("e")).expect("stat").ino());
        m.remount();
    }
}

// [S-RENAME-4]
#[test]
fn rename_over_an_open_file_keeps_the_old_inode_readable() {
    let Some(m) = Mounted::new() else { return };
    let (old, new) = (m.path("old"), m.path("new"));
    fs::write(&old, "the old contents").expect("write");
    let mut open = File::open(&old).expect("open");
    fs::write(&new, "the new contents").expect("write");
    fs::rename(&new, &old).expect("rename");
    let mut text = String::new();
    open.read_to_string(&mut text).expect("read");
    assert_eq!(text, "the old contents");
    assert_eq!(open.metadata().expect("fstat").nlink(), 0);
    open.rewind().expect("seek");
    assert_eq!(fs::read_to_string(&old).expect("read"), "the new contents");
}

#[test]
fn a_rename_to_another_name_of_the_same_inode_does_nothing() {
    let Some(m) = Mounted::new() else { return };
    fs::write(m.path("a"), "x").expect("write");
    fs::hard_link(m.path("a"), m.path("b")).expect("link");
    fs::rename(m.path("a"), m.path("b")).expect("rename");
    assert_eq!(names(&m.root()), ["a", "b"]);
    fs::rename(m.path("a"), m.path("a")).expect("rename onto itself");
    assert_eq!(fs::metadata(m.path("a")).expect("stat").nlink(), 2);
}

// [S-RENAME-5]
#[test]
fn a_directory_does_not_go_below_itself() {
    let Some(m) = Mounted::new() else { return };
    fs::create_dir_all(m.path("a/b/c")).expect("mkdir");
    fails(fs::rename(m.path("a"), m.path("a/x")), Errno::INVAL);
    fails(fs::rename(m.path("a"), m.path("a/b/c/x")), Errno::INVAL);
    fs::write(m.path("f"), "x").expect("write");
    fails(fs::rename(m.path("f"), m.path("f/x")), Errno::NOTDIR);
    assert_eq!(names(&m.root()), ["a", "f"]);
}

#[test]
fn a_rename_over_a_directory_wants_an_empty_directory() {
    let Some(m) = Mounted::new() else { return };
    fs::create_dir_all(m.path("full/x")).expect("mkdir");
    fs::create_dir_all(m.path("source/y")).expect("mkdir");
    fs::create_dir(m.path("empty")).expect("mkdir");
    fs::write(m.path("file"), "x").expect("write");
    fails(fs::rename(m.path("source"), m.path("full")), Errno::NOTEMPTY);
    fails(fs::rename(m.path("source"), m.path("file")), Errno::NOTDIR);
    fails(fs::rename(m.path("file"), m.path("empty")), Errno::ISDIR);
    fails(fs::rename(m.path("missing"), m.path("empty")), Errno::NOENT);
    fs::rename(m.path("source"), m.path("empty")).expect("over an empty directory");
    assert_eq!(names(&m.path("empty")), ["y"]);
    assert_eq!(names(&m.root()), ["empty", "file", "full"]);
}

#[test]
fn a_moved_directory_moves_a_link_of_its_parent() {
    let Some(mut m) = Mounted::new() else { return };
    fs::create_dir_all(m.path("a/moved")).expect("mkdir");
    fs::create_dir(m.path("b")).expect("mkdir");
    fs::rename(m.path("a/moved"), m.path("b/moved")).expect("rename");
    for _ in 0..2 {
        let nlink = |name: &str| fs::metadata(m.path(name)).expect("stat").nlink();
        assert_eq!((nlink("a"), nlink("b"), nlink("b/moved")), (2, 3, 2));
        m.remount();
    }
}

#[test]
fn a_rename_to_another_filesystem_is_exdev() {
    let Some(m) = Mounted::new() else { return };
    let other = other_filesystem();
    fs::write(m.path("f"), "x").expect("write");
    fails(fs::rename(m.path("f"), other.path().join("f")), Errno::XDEV);
    fails(fs::hard_link(m.path("f"), other.path().join("f")), Errno::XDEV);
    assert_eq!(names(&m.root()), ["f"]);
}

#[test]
fn a_rename_changes_the_change_time_of_what_it_moves() {
    let Some(m) = Mounted::new() else { return };
    fs::write(m.path("f"), "x").expect("write");
    let ctime = |name: &str| {
        let meta = fs::metadata(m.path(name)).expect("stat");
        (meta.ctime(), meta.ctime_nsec())
    };
    let before = ctime("f");
    thread::sleep(std::time::Duration::from_millis(20));
    fs::rename(m.path("f"), m.path("g")).expect("rename");
    assert!(ctime("g") > before);
}

// [S-RENAME-6]
#[test]
fn a_file_renamed_while_it_is_written_brings_its_bytes_along() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    fs::write(m.path("old"), "old content").expect("write");
    let mut new = File::create(m.path("new")).expect("create");
    new.write_all(&[7; 100_000]).expect("write");
    // Neither closed nor synced: what makes the rename durable brings the bytes along.
    fs::rename(m.path("new"), m.path("old")).expect("rename");
    File::open(m.root()).and_then(|root| root.sync_all()).expect("fsync of the directory");
    m.kill();
    drop(new);
    m.mount_again();
    assert!(fs::read(m.path("old")).expect("read") == [7; 100_000]);
    assert_eq!(names(&m.root()), ["old"]);
}
