//! Modes, owners, times and the size of the filesystem.

use crate::harness::{Expect, Mounted, fails};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, statvfs, utimensat};
use rustix::io::Errno;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, fchown, lchown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

const NOBODY: u32 = 65534;

// [S-TIME-1]
#[test]
fn utimens_stores_nanoseconds_of_any_century() {
    let Some(mut m) = Mounted::new() else { return };
    let times = [
        (0, 0),
        (1, 999_999_999),
        (-1, 500_000_000),
        (-2_000_000_000, 1),
        (4_102_444_800, 123_456_789),
    ];
    for (n, (secs, nanos)) in times.into_iter().enumerate() {
        let path = m.path(format!("f{n}"));
        File::create(&path).expect("create");
        let at = Timespec { tv_sec: secs, tv_nsec: nanos };
        set_times(&path, at, Timespec { tv_sec: secs + 7, tv_nsec: nanos }).expect("utimensat");
    }
    for _ in 0..2 {
        for (n, (secs, nanos)) in times.into_iter().enumerate() {
            let meta = fs::metadata(m.path(format!("f{n}"))).expect("stat");
            assert_eq!((meta.atime(), meta.atime_nsec()), (secs, nanos));
            assert_eq!((meta.mtime(), meta.mtime_nsec()), (secs + 7, nanos));
        }
        m.remount();
    }
}

// [S-TIME-3]
#[test]
fn the_birth_time_is_told_and_stays() {
    let Some(mut m) = Mounted::new() else { return };
    let path = m.path("f");
    let before = SystemTime::now() - Duration::from_secs(1);
    fs::write(&path, "x").expect("write");
    let born = fs::metadata(&path).expect("stat").created().expect("a birth time");
    assert!(born >= before && born <= SystemTime::now() + Duration::from_secs(1));
    fs::write(&path, "longer").expect("write");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("chmod");
    fs::rename(&path, m.path("g")).expect("rename");
    for _ in 0..2 {
        assert_eq!(fs::metadata(m.path("g")).expect("stat").created().expect("a birth time"), born);
        m.remount();
    }
}

#[test]
fn utimens_now_and_omit_set_one_time_and_leave_the_other() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    File::create(&path).expect("create");
    let (now, omit) =
        (Timespec { tv_sec: 0, tv_nsec: UTIME_NOW }, Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT });
    let past = Timespec { tv_sec: 1_000, tv_nsec: 1 };
    set_times(&path, past, past).expect("utimensat");

    set_times(&path, omit, now).expect("utimensat");
    let meta = fs::metadata(&path).expect("stat");
    assert_eq!((meta.atime(), meta.atime_nsec()), (1_000, 1));
    assert!((meta.mtime() - wall_secs()).abs() <= 2, "mtime {} is not now", meta.mtime());

    set_times(&path, past, omit).expect("utimensat");
    let after = fs::metadata(&path).expect("stat");
    assert_eq!((after.mtime(), after.mtime_nsec()), (meta.mtime(), meta.mtime_nsec()));
    set_times(&path, omit, omit).expect("nothing to set");
}

// [S-TIME-2]
#[test]
fn a_write_moves_mtime_and_ctime_and_a_set_time_survives_the_flush_behind_it() {
    let Some(mut m) = Mounted::new() else { return };
    let path = m.path("f");
    fs::write(&path, "x").expect("write");
    let past = Timespec { tv_sec: 86_400, tv_nsec: 7 };
    let file = File::options().write(true).open(&path).expect("open");
    std::os::unix::fs::FileExt::write_all_at(&file, b"buffered", 0).expect("write");
    set_times(&path, past, past).expect("utimensat");
    drop(file);
    for _ in 0..2 {
        let meta = fs::metadata(&path).expect("stat");
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (86_400, 7));
        m.remount();
    }
    fs::write(&path, "y").expect("write");
    let meta = fs::metadata(&path).expect("stat");
    assert!((meta.mtime() - wall_secs()).abs() <= 2 && (meta.ctime() - wall_secs()).abs() <= 2);
}

// [S-ATTR-1]
#[test]
fn chmod_and_chown_store_every_bit() {
    let Some(mut m) = Mounted::new() else { return };
    let (file, dir) = (m.path("f"), m.path("d"));
    File::create(&file).expect("create");
    fs::create_dir(&dir).expect("mkdir");
    chown(&file, Some(1234), Some(5678)).expect("chown");
    chown(&dir, None, Some(4_000_000_000)).expect("chgrp");
    fs::set_permissions(&file, Permissions::from_mode(0o6751)).expect("chmod");
    fs::set_permissions(&dir, Permissions::from_mode(0o3705)).expect("chmod");
    for _ in 0..2 {
        let (f, d) = (fs::metadata(&file).expect("stat"), fs::metadata(&dir).expect("stat"));
        assert_eq!((f.mode(), f.uid(), f.gid()), (0o106_751, 1234, 5678));
        assert_eq!((d.mode(), d.uid(), d.gid()), (0o043_705, 0, 4_000_000_000));
        m.remount();
    }
}

#[test]
fn chown_of_a_symlink_leaves_its_target() {
    let Some(m) = Mounted::new() else { return };
    File::create(m.path("f")).expect("create");
    symlink("f", m.path("s")).expect("symlink");
    lchown(m.path("s"), Some(11), Some(12)).expect("lchown");
    assert_eq!(fs::symlink_metadata(m.path("s")).expect("lstat").uid(), 11);
    assert_eq!(fs::metadata(m.path("f")).expect("stat").uid(), 0);
}

#[test]
fn chown_through_an_unlinked_descriptor_works() {
    let Some(m) = Mounted::new() else { return };
    let file = File::create(m.path("f")).expect("create");
    fs::remove_file(m.path("f")).expect("unlink");
    fchown(&file, Some(3), Some(4)).expect("fchown");
    file.set_permissions(Permissions::from_mode(0o600)).expect("fchmod");
    let meta = file.metadata().expect("fstat");
    assert_eq!((meta.uid(), meta.gid(), meta.mode()), (3, 4, 0o100_600));
}

// [S-ATTR-2]
#[test]
fn set_user_id_goes_when_the_owner_changes_or_somebody_else_writes() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    fs::write(&path, "x").expect("write");
    let mode = || fs::metadata(&path).expect("stat").mode() & 0o7777;
    let set = || fs::set_permissions(&path, Permissions::from_mode(0o6777)).expect("chmod");

    set();
    as_nobody(&["sh", "-c", r#"echo more >> "$0""#, path.to_str().expect("UTF-8")]).succeeds();
    assert_eq!(mode(), 0o777, "after a write by another user");
    chown(&path, Some(NOBODY), Some(NOBODY)).expect("chown");
    set();
    as_nobody(&["chgrp", "65534", path.to_str().expect("UTF-8")]).succeeds();
    assert_eq!(mode(), 0o777, "after a chown by its owner");
    set();
    as_nobody(&["truncate", "-s", "0", path.to_str().expect("UTF-8")]).succeeds();
    assert_eq!(mode(), 0o777, "after a truncate by its owner");
}

// [S-ATTR-3]
#[test]
fn a_set_group_id_directory_hands_its_group_down() {
    let Some(m) = Mounted::new() else { return };
    let dir = m.path("d");
    fs::create_dir(&dir).expect("mkdir");
    chown(&dir, None, Some(4321)).expect("chgrp");
    fs::set_permissions(&dir, Permissions::from_mode(0o2777)).expect("chmod");
    File::create(dir.join("f")).expect("create");
    fs::create_dir(dir.join("e")).expect("mkdir");
    symlink("f", dir.join("s")).expect("symlink");
    let meta = |name: &str| fs::symlink_metadata(dir.join(name)).expect("lstat");
    assert_eq!((meta("f").gid(), meta("f").mode() & 0o2000), (4321, 0));
    assert_eq!((meta("e").gid(), meta("e").mode() & 0o2000), (4321, 0o2000));
    assert_eq!(meta("s").gid(), 4321);
}

// [S-PERM-1]
#[test]
fn other_users_are_held_to_the_mode() {
    let Some(m) = Mounted::new() else { return };
    fs::set_permissions(m.root(), Permissions::from_mode(0o755)).expect("chmod");
    let (secret, public) = (m.path("secret"), m.path("public"));
    fs::write(&secret, "s").expect("write");
    fs::write(&public, "p").expect("write");
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).expect("chmod");
    fs::set_permissions(&public, Permissions::from_mode(0o644)).expect("chmod");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    as_nobody(&["cat", &text(&public)]).succeeds();
    as_nobody(&["cat", &text(&secret)]).exits_with(1);
    as_nobody(&["touch", &text(&m.path("new"))]).exits_with(1);
    as_nobody(&["chmod", "777", &text(&public)]).exits_with(1);
    as_nobody(&["rm", "-f", &text(&public)]).exits_with(1);
}

// [S-PERM-1]
#[test]
fn a_sticky_directory_protects_the_files_of_others() {
    let Some(m) = Mounted::new() else { return };
    let dir = m.path("tmp");
    fs::create_dir(&dir).expect("mkdir");
    fs::set_permissions(&dir, Permissions::from_mode(0o1777)).expect("chmod");
    fs::write(dir.join("roots"), "x").expect("write");
    let text = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
    as_nobody(&["touch", &text("own")]).succeeds();
    as_nobody(&["rm", "-f", &text("roots")]).exits_with(1);
    as_nobody(&["mv", &text("roots"), &text("taken")]).exits_with(1);
    as_nobody(&["rm", &text("own")]).succeeds();
}

// [S-STATFS-1]
#[test]
fn statfs_is_plausible_and_falls_when_data_arrives() {
    let Some(m) = Mounted::new() else { return };
    let before = statvfs(m.root()).expect("statvfs");
    assert!(before.f_bsize >= 512 && before.f_blocks > 0);
    assert!(before.f_bfree <= before.f_blocks && before.f_bavail <= before.f_bfree);
    assert!(before.f_files > 0 && before.f_ffree <= before.f_files);
    assert_eq!(before.f_namemax, 255);
}

#[test]
fn blocks_follow_what_is_stored() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    fs::write(&path, vec![7; 1 << 20]).expect("write");
    File::open(&path).expect("open").sync_all().expect("fsync");
    let meta = fs::metadata(&path).expect("stat");
    assert!(meta.blocks() * 512 >= 1 << 20, "{} blocks for 1 MiB", meta.blocks());
    assert!(meta.blksize() >= 4096);
}

#[test]
fn what_is_not_supported_says_so() {
    let Some(m) = Mounted::new() else { return };
    if crate::harness::elsewhere().is_some() {
        return;
    }
    fs::create_dir(m.path("d")).expect("mkdir");
    let unknown = rustix::fs::RenameFlags::from_bits_retain(1 << 30);
    fails(rustix::fs::renameat_with(CWD, m.path("d"), CWD, m.path("e"), unknown), Errno::INVAL);
}

fn set_times(path: &Path, atime: Timespec, mtime: Timespec) -> rustix::io::Result<()> {
    utimensat(
        CWD,
        path,
        &Timestamps { last_access: atime, last_modification: mtime },
        AtFlags::empty(),
    )
}

fn wall_secs() -> i64 {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("before the year 292 billion")
}

fn as_nobody(command: &[&str]) -> Command {
    let mut run = Command::new("setpriv");
    run.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).args(command);
    run
}

// [S-PERM-2]
#[test]
fn only_root_gives_files_away_and_owners_choose_among_their_groups() {
    let Some(m) = Mounted::new() else { return };
    fs::set_permissions(m.root(), Permissions::from_mode(0o777)).expect("chmod");
    let path = m.path("f");
    File::create(&path).expect("create");
    chown(&path, Some(NOBODY), Some(NOBODY)).expect("chown");
    let text = path.to_str().expect("UTF-8");
    let as_member = |command: &[&str]| {
        let mut run = Command::new("setpriv");
        run.args(["--reuid=65534", "--regid=65534", "--groups=65534,4321", "--"]).args(command);
        run
    };
    let owner = || {
        let meta = fs::metadata(&path).expect("stat");
        (meta.uid(), meta.gid())
    };
    as_nobody(&["chown", "1000", text]).exits_with(1);
    as_nobody(&["chgrp", "4321", text]).exits_with(1);
    assert_eq!(owner(), (NOBODY, NOBODY));
    as_member(&["chgrp", "4321", text]).succeeds();
    assert_eq!(owner(), (NOBODY, 4321));
    chown(&path, Some(0), None).expect("chown");
    as_member(&["chgrp", "65534", text]).exits_with(1);
    as_member(&["chmod", "777", text]).exits_with(1);
    as_member(&["touch", "-d", "2001-01-01", text]).exits_with(1);
    // A chmod by somebody outside of the file's group loses set-group-id.
    chown(&path, Some(NOBODY), Some(4321)).expect("chown");
    as_nobody(&["chmod", "2755", text]).succeeds();
    assert_eq!(fs::metadata(&path).expect("stat").mode() & 0o7777, 0o755);
    as_member(&["chmod", "2755", text]).succeeds();
    assert_eq!(fs::metadata(&path).expect("stat").mode() & 0o7777, 0o2755);
}

/// What the kernel knows it does not ask for again: on a volume of one mount that stays true.
#[test]
fn stat_of_cached_paths_never_enters_the_daemon() {
    let Some(m) = Mounted::by_daemon() else { return };
    let dir = m.path("d/e");
    fs::create_dir_all(&dir).expect("mkdir");
    fs::write(dir.join("f"), "text").expect("write");
    let stat = || fs::metadata(dir.join("f")).expect("stat").len();
    assert_eq!(stat(), 4);
    let before = m.served();
    for _ in 0..2_000 {
        assert_eq!(stat(), 4);
    }
    let requests = m.served() - before;
    assert!(requests < 20, "{requests} requests for 2,000 stats");
}
