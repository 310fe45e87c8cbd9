//! What remains of something removed while somebody uses it.

use crate::harness::{Mounted, fails, names, pattern, sh};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

// [S-UNLINK-1]
#[test]
fn an_unlinked_open_file_keeps_its_data_and_takes_more() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    let first = pattern(1, 0, 3 << 20);
    fs::write(&path, &first).expect("write");
    let open = File::options().read(true).write(true).open(&path).expect("open");
    fs::remove_file(&path).expect("unlink");
    fails(fs::metadata(&path), Errno::NOENT);
    assert_eq!(open.metadata().expect("fstat").nlink(), 0);

    let more = pattern(2, 0, 1 << 20);
    open.write_all_at(&more, 3 << 20).expect("write to an unlinked file");
    open.sync_all().expect("fsync of an unlinked file");
    fs::write(&path, "another file under the same name").expect("write");

    let mut all = vec![0; 4 << 20];
    open.read_exact_at(&mut all, 0).expect("read");
    assert!(all[..3 << 20] == first && all[3 << 20..] == more, "the unlinked file changed");
    assert_eq!(open.metadata().expect("fstat").len(), 4 << 20);
    drop(open);
    assert_eq!(fs::read_to_string(&path).expect("read"), "another file under the same name");
}

#[test]
fn an_unlinked_open_file_reopens_through_proc() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    fs::write(&path, "still here").expect("write");
    let text = sh(&m, r#"exec 3<"$MNT/f"; rm "$MNT/f"; cat /proc/self/fd/3; cat <&3"#);
    assert_eq!(text, "still herestill here");
}

// [S-RMDIR-1]
#[test]
fn a_removed_working_directory_still_stats_and_takes_no_names() {
    let Some(m) = Mounted::new() else { return };
    fs::create_dir(m.path("d")).expect("mkdir");
    let dir = rustix::fs::open(m.path("d"), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())
        .expect("open");
    let links = sh(&m, r#"cd "$MNT/d"; rmdir "$MNT/d"; stat -c %h ."#);
    assert_eq!(links, "0\n");
    assert_eq!(rustix::fs::fstat(&dir).expect("fstat").st_nlink, 0);
    let create = openat(&dir, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR);
    fails(create, Errno::NOENT);
    fails(rustix::fs::mkdirat(&dir, "e", Mode::RWXU), Errno::NOENT);
}

// [S-RMDIR-2]
#[test]
fn a_directory_with_entries_is_not_removed() {
    let Some(m) = Mounted::new() else { return };
    fs::create_dir_all(m.path("d/e")).expect("mkdir");
    fails(fs::remove_dir(m.path("d")), Errno::NOTEMPTY);
    fs::remove_dir(m.path("d/e")).expect("rmdir");
    fs::write(m.path("d/f"), "x").expect("write");
    fails(fs::remove_dir(m.path("d")), Errno::NOTEMPTY);
    fs::remove_file(m.path("d/f")).expect("unlink");
    fs::remove_dir(m.path("d")).expect("rmdir");
    fails(fs::remove_dir(m.path("d")), Errno::NOENT);
    assert!(names(&m.root()).is_empty());
}

#[test]
fn the_wrong_kind_of_removal_is_refused() {
    let Some(m) = Mounted::new() else { return };
    fs::create_dir(m.path("d")).expect("mkdir");
    fs::write(m.path("f"), "x").expect("write");
    fails(fs::remove_file(m.path("d")), Errno::ISDIR);
    fails(fs::remove_dir(m.path("f")), Errno::NOTDIR);
    fails(fs::remove_file(m.path("missing")), Errno::NOENT);
}

// [S-SPACE-1]
#[test]
fn removed_files_give_their_space_back() {
    let Some(m) = Mounted::by_daemon() else { return };
    let used = || {
        fs::metadata(m.volume().path()).map(|_| disk_usage(&m.volume().path())).expect("the volume")
    };
    for round in 0..4 {
        let path = m.path(format!("f{round}"));
        fs::write(&path, pattern(round, 0, 32 << 20)).expect("write");
        File::open(&path).expect("open").sync_all().expect("fsync");
        fs::remove_file(&path).expect("unlink");
    }
    // Space comes back in the background; without it 128 MiB would stay.
    crate::harness::wait_until("the space of removed files is free", || used() < 64 << 20);
}

fn disk_usage(dir: &std::path::Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).expect("readdir").flatten() {
        // A file may vanish between the listing and the question.
        let Ok(meta) = entry.metadata() else { continue };
        bytes += if meta.is_dir() { disk_usage(&entry.path()) } else { meta.blocks() * 512 };
    }
    bytes
}
