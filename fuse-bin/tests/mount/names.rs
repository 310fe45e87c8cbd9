//! Creating, linking and looking up names.

use crate::harness::{Mounted, fails, names};
use rustix::fs::{AtFlags, CWD, linkat};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};

// [S-CREATE-1]
#[test]
fn exclusive_create_succeeds_exactly_once() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("once");
    File::create_new(&path).expect("the first one creates");
    fails(File::create_new(&path), Errno::EXIST);
    symlink("nowhere", m.path("dangling")).expect("symlink");
    fails(File::create_new(m.path("dangling")), Errno::EXIST);
    assert_eq!(names(&m.root()), ["dangling", "once"]);
}

#[test]
fn a_created_file_has_the_mode_asked_for_and_the_callers_owner() {
    let Some(mut m) = Mounted::new() else { return };
    let path = m.path("f");
    File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o640)
        .open(&path)
        .expect("create");
    for _ in 0..2 {
        let meta = fs::metadata(&path).expect("stat");
        assert_eq!(meta.permissions().mode(), 0o100_640);
        assert_eq!((meta.uid(), meta.gid()), (0, 0));
        assert_eq!((meta.len(), meta.blocks(), meta.nlink()), (0, 0, 1));
        m.remount();
    }
}

#[test]
fn a_missing_name_is_noent_and_a_file_on_the_way_is_notdir() {
    let Some(m) = Mounted::new() else { return };
    File::create(m.path("file")).expect("create");
    fails(fs::metadata(m.path("missing")), Errno::NOENT);
    fails(File::create(m.path("missing/f")), Errno::NOENT);
    fails(fs::metadata(m.path("file/f")), Errno::NOTDIR);
    fails(fs::create_dir(m.path("file")), Errno::EXIST);
    fails(File::create(m.root()), Errno::ISDIR);
}

#[test]
fn a_name_that_was_missing_appears_when_it_is_created() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("late");
    for _ in 0..10 {
        fails(fs::metadata(&path), Errno::NOENT);
        fs::write(&path, "x").expect("write");
        assert_eq!(fs::metadata(&path).expect("stat").len(), 1);
        fs::remove_file(&path).expect("unlink");
    }
}

// [S-LINK-1]
#[test]
fn hard_links_count_and_share_one_inode() {
    let Some(mut m) = Mounted::new() else { return };
    let (a, b, c) = (m.path("a"), m.path("b"), m.path("d/c"));
    fs::create_dir(m.path("d")).expect("mkdir");
    fs::write(&a, "shared").expect("write");
    fs::hard_link(&a, &b).expect("link");
    fs::hard_link(&b, &c).expect("link");
    fails(fs::hard_link(&a, &b), Errno::EXIST);
    fails(fs::hard_link(m.path("d"), m.path("e")), Errno::PERM);
    for _ in 0..2 {
        let (ma, mc) = (fs::metadata(&a).expect("stat"), fs::metadata(&c).expect("stat"));
        assert_eq!((ma.ino(), ma.nlink()), (mc.ino(), 3));
        m.remount();
    }
    fs::write(&c, "changed through another name").expect("write");
    fs::remove_file(&a).expect("unlink");
    assert_eq!(fs::read_to_string(&b).expect("read"), "changed through another name");
    assert_eq!(fs::metadata(&b).expect("stat").nlink(), 2);
    m.remount();
    assert_eq!(fs::metadata(&c).expect("stat").nlink(), 2);
}

#[test]
fn a_link_to_a_symlink_is_a_second_name_of_the_symlink() {
    let Some(m) = Mounted::new() else { return };
    symlink("nowhere", m.path("s")).expect("symlink");
    linkat(CWD, m.path("s"), CWD, m.path("t"), AtFlags::empty()).expect("link");
    let meta = fs::symlink_metadata(m.path("t")).expect("lstat");
    assert!(meta.is_symlink());
    assert_eq!(meta.nlink(), 2);
}

// [S-NAME-1]
#[test]
fn a_name_of_255_bytes_works_and_256_is_too_long() {
    let Some(mut m) = Mounted::new() else { return };
    let (longest, above) = ("n".repeat(255), "n".repeat(256));
    fs::write(m.path(&longest), "x").expect("255 bytes");
    fails(fs::write(m.path(&above), "x"), Errno::NAMETOOLONG);
    fails(fs::create_dir(m.path(&above)), Errno::NAMETOOLONG);
    fails(fs::metadata(m.path(&above)), Errno::NAMETOOLONG);
    fails(fs::rename(m.path(&longest), m.path(&above)), Errno::NAMETOOLONG);
    m.remount();
    assert_eq!(names(&m.root()), [longest]);
}

#[test]
fn names_are_bytes_and_nothing_else() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let Some(mut m) = Mounted::new() else { return };
    let strange: Vec<&[u8]> =
        vec![b"\xff\xfe", b" ", b"a\nb", b"...", "ü".as_bytes(), b"U\xcc\x88", b"%00", b"\\"];
    for name in &strange {
        fs::write(m.path(OsStr::from_bytes(name)), name).expect("write");
    }
    m.remount();
    for name in &strange {
        assert_eq!(fs::read(m.path(OsStr::from_bytes(name))).expect("read"), *name);
    }
    assert_eq!(fs::read_dir(m.root()).expect("readdir").count(), strange.len());
}

// [S-SYMLINK-1]
#[test]
fn symlink_targets_of_up_to_4095_bytes_come_back_unchanged() {
    let Some(mut m) = Mounted::new() else { return };
    for len in [1, 59, 60, 255, 256, 1023, 4094, 4095] {
        symlink("t".repeat(len), m.path(format!("s{len}"))).expect("symlink");
    }
    fails(symlink("t".repeat(4096), m.path("above")), Errno::NAMETOOLONG);
    for _ in 0..2 {
        for len in [1, 59, 60, 255, 256, 1023, 4094, 4095] {
            let path = m.path(format!("s{len}"));
            assert_eq!(fs::read_link(&path).expect("readlink").as_os_str().len(), len);
            assert_eq!(fs::symlink_metadata(&path).expect("lstat").len(), len as u64);
        }
        m.remount();
    }
}

#[test]
fn a_circle_of_symlinks_is_eloop() {
    let Some(m) = Mounted::new() else { return };
    symlink("b", m.path("a")).expect("symlink");
    symlink("a", m.path("b")).expect("symlink");
    fails(File::open(m.path("a")), Errno::LOOP);
    fails(File::create(m.path("a/f")), Errno::LOOP);
    assert!(fs::symlink_metadata(m.path("a")).expect("lstat").is_symlink());
}

#[test]
fn a_relative_symlink_leads_on_below_a_directory() {
    let Some(m) = Mounted::new() else { return };
    fs::create_dir_all(m.path("d/e")).expect("mkdir");
    fs::write(m.path("d/target"), "found").expect("write");
    symlink("../target", m.path("d/e/link")).expect("symlink");
    assert_eq!(fs::read_to_string(m.path("d/e/link")).expect("read"), "found");
}

// [S-LINK-2]
#[test]
fn a_file_has_up_to_65_000_names() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    File::create(m.path("f")).expect("create");
    for n in 1..65_000 {
        fs::hard_link(m.path("f"), m.path(n.to_string())).expect("link");
    }
    fails(fs::hard_link(m.path("f"), m.path("more")), Errno::MLINK);
    assert_eq!(fs::metadata(m.path("f")).expect("stat").nlink(), 65_000);
    fs::remove_file(m.path("1")).expect("unlink");
    fs::hard_link(m.path("f"), m.path("more")).expect("there is room again");
    m.unmount();
    m.volume().is_sound();
}

// [S-EXEC-1]
#[test]
fn a_program_that_runs_is_not_written_to() {
    let Some(m) = Mounted::by_daemon() else { return };
    let program = m.path("sleep");
    crate::harness::sh(&m, r#"cp /bin/sleep "$MNT/sleep""#);
    let mut running =
        std::process::Command::new(&program).arg("60").spawn().expect("run a program of the mount");
    fails(File::options().write(true).open(&program), Errno::TXTBSY);
    fs::remove_file(&program).expect("unlink");
    running.kill().expect("kill");
    running.wait().expect("wait");
    let copy = m.path("copy");
    crate::harness::sh(&m, r#"cp /bin/true "$MNT/copy""#);
    let open = File::options().write(true).open(&copy).expect("open");
    fails(std::process::Command::new(&copy).status(), Errno::TXTBSY);
    drop(open);
    assert!(std::process::Command::new(&copy).status().expect("run").success());
}

// [S-TREE-1]
#[test]
fn nothing_is_in_the_tree_but_what_programs_made() {
    let Some(m) = Mounted::by_daemon() else { return };
    assert!(names(&m.root()).is_empty());
    for hidden in [".vellum", ".control", ".stats", ".trash", ".config", ".accesslog", "lost+found"]
    {
        fails(fs::symlink_metadata(m.path(hidden)), Errno::NOENT);
        File::create(m.path(hidden)).expect("any name is free");
    }
}
