//! Files without a name: O_TMPFILE.

use crate::harness::{Expect, Mounted, fails, names};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use rustix::io::Errno;
use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

fn tmpfile(dir: &Path, flags: OFlags) -> rustix::io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | flags;
    open(dir, flags, Mode::from_raw_mode(0o640)).map(|fd: OwnedFd| File::from(fd))
}

fn name_by_proc(file: &File, path: &Path) -> rustix::io::Result<()> {
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)
}

// [S-TMPFILE-1]
#[test]
fn a_file_without_a_name_works_and_gets_one_in_one_step() {
    let Some(mut m) = Mounted::new() else { return };
    let mut file = tmpfile(&m.root(), OFlags::empty()).expect("O_TMPFILE");
    let meta = file.metadata().expect("fstat");
    assert_eq!((meta.nlink(), meta.mode(), meta.len()), (0, 0o100_640, 0));
    assert!(names(&m.root()).is_empty());
    file.write_all(b"content").expect("write");
    file.rewind().expect("seek");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("read");
    assert_eq!(text, "content");

    name_by_proc(&file, &m.path("named")).expect("linkat");
    assert_eq!(file.metadata().expect("fstat").nlink(), 1);
    linkat(&file, "", CWD, m.path("second"), AtFlags::EMPTY_PATH).expect("AT_EMPTY_PATH");
    file.write_all(b" and more").expect("write");
    drop(file);
    for _ in 0..2 {
        for name in ["named", "second"] {
            assert_eq!(fs::read_to_string(m.path(name)).expect("read"), "content and more");
            assert_eq!(fs::metadata(m.path(name)).expect("stat").nlink(), 2);
        }
        m.remount();
    }
    let taken = tmpfile(&m.root(), OFlags::empty()).expect("O_TMPFILE");
    fails(name_by_proc(&taken, &m.path("named")), Errno::EXIST);
    name_by_proc(&taken, &m.path("third")).expect("another name");
}

// [S-TMPFILE-1]
#[test]
fn one_that_was_opened_exclusively_or_lost_its_name_never_gets_one() {
    let Some(m) = Mounted::new() else { return };
    let file = tmpfile(&m.root(), OFlags::EXCL).expect("O_TMPFILE | O_EXCL");
    fails(name_by_proc(&file, &m.path("f")), Errno::NOENT);
    let unlinked = File::create(m.path("g")).expect("create");
    fs::remove_file(m.path("g")).expect("unlink");
    fails(name_by_proc(&unlinked, &m.path("h")), Errno::NOENT);
    assert!(names(&m.root()).is_empty());
}

// [S-TMPFILE-1] [S-ATTR-3] [S-ACL-3]
#[test]
fn it_inherits_of_its_directory() {
    let Some(m) = Mounted::new() else { return };
    let dir = m.path("d");
    fs::create_dir(&dir).expect("mkdir");
    chown(&dir, None, Some(4321)).expect("chgrp");
    fs::set_permissions(&dir, Permissions::from_mode(0o2777)).expect("chmod");
    let setfacl =
        std::process::Command::new("setfacl").args(["-m", "d:u:7:rwx,d:g::r"]).arg(&dir).succeeds();
    assert_eq!(setfacl, "");
    let file = tmpfile(&dir, OFlags::empty()).expect("O_TMPFILE");
    let meta = file.metadata().expect("fstat");
    assert_eq!((meta.gid(), meta.mode() & 0o777), (4321, 0o640));
    name_by_proc(&file, &dir.join("f")).expect("linkat");
    let acl = std::process::Command::new("getfacl").arg("-np").arg(dir.join("f")).succeeds();
    assert!(acl.contains("user:7:rwx"), "{acl}");
}

// [S-TMPFILE-2]
#[test]
fn it_goes_with_its_last_close_and_with_a_crash() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    let mut closed = tmpfile(&m.root(), OFlags::empty()).expect("O_TMPFILE");
    closed.write_all(&[1; 300_000]).expect("write");
    drop(closed);
    let mut open = tmpfile(&m.root(), OFlags::empty()).expect("O_TMPFILE");
    open.write_all(&[2; 300_000]).expect("write");
    open.sync_all().expect("fsync");
    let mut named = tmpfile(&m.root(), OFlags::empty()).expect("O_TMPFILE");
    named.write_all(&[3; 300_000]).expect("write");
    name_by_proc(&named, &m.path("named")).expect("linkat");
    File::open(m.root()).expect("open").sync_all().expect("fsync of the directory");
    m.kill();
    drop((open, named));
    m.mount_again();
    assert_eq!(names(&m.root()), ["named"]);
    assert!(fs::read(m.path("named")).expect("read") == [3; 300_000]);
    m.unmount();
    m.volume().is_sound();
}
