//! Which call moves which time.

use crate::harness::{Mounted, python, sh};
use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps, renameat_with, utimensat};
use rustix::fs::{XattrFlags, removexattr, setxattr};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// Longer than the clock that any filesystem stamps with takes for a tick.
const TICK: Duration = Duration::from_millis(20);

type Time = (i64, i64);
type Call<'a> = &'a dyn Fn(&Path);

/// Access, modification and change time.
fn times(path: &Path) -> [Time; 3] {
    let meta = fs::symlink_metadata(path).expect("lstat");
    [
        (meta.atime(), meta.atime_nsec()),
        (meta.mtime(), meta.mtime_nsec()),
        (meta.ctime(), meta.ctime_nsec()),
    ]
}

/// The letters of the times that a call moves forward: `m` and `c`, for each of the paths. Access times
/// follow relatime and have tests of their own.
fn moved(paths: &[&PathBuf], call: impl FnOnce()) -> Vec<&'static str> {
    let before: Vec<_> = paths.iter().map(|path| times(path)).collect();
    sleep(TICK);
    call();
    let letters = paths.iter().zip(before).map(|(path, before)| {
        let after = times(path);
        assert!(after[1] >= before[1] && after[2] >= before[2], "a time went back");
        match (after[1] > before[1], after[2] > before[2]) {
            (true, true) => "mc",
            (true, false) => "m",
            (false, true) => "c",
            (false, false) => "-",
        }
    });
    letters.collect()
}

struct Place {
    m: Mounted,
    /// A directory, a file in it, another directory.
    dir: PathBuf,
    file: PathBuf,
    other: PathBuf,
}

fn place() -> Option<Place> {
    let m = Mounted::new()?;
    let (dir, file, other) = (m.path("d"), m.path("d/f"), m.path("other"));
    fs::create_dir(&dir).expect("mkdir");
    fs::create_dir(&other).expect("mkdir");
    fs::write(&file, "content").expect("write");
    Some(Place { m, dir, file, other })
}

// [S-TIME-4]
#[test]
fn new_names_move_both_times_of_their_directory_each_time() {
    let Some(Place { m, dir, .. }) = place() else { return };
    let make: [(&str, Call<'_>); 5] = [
        ("create", &|p| drop(File::create_new(p).expect("create"))),
        ("mkdir", &|p| fs::create_dir(p).expect("mkdir")),
        ("symlink", &|p| symlink("x", p).expect("symlink")),
        ("link", &|p| fs::hard_link(m.path("d/f"), p).expect("link")),
        ("mknod", &|_| drop(sh(&m, r#"mkfifo "$MNT/d/mknod""#))),
    ];
    for (name, call) in make {
        let path = dir.join(name);
        assert_eq!(moved(&[&dir], || call(&path)), ["mc"], "{name}");
        let [atime, mtime, ctime] = times(&path);
        if name != "link" {
            assert!(atime == mtime && mtime == ctime, "{name}: born with one time");
            assert_eq!(times(&dir)[1], mtime, "{name}: the time of its directory");
        }
    }
    for (name, _) in make {
        let path = dir.join(name);
        let removal = || match name {
            "mkdir" => fs::remove_dir(&path).expect("rmdir"),
            _ => fs::remove_file(&path).expect("unlink"),
        };
        assert_eq!(moved(&[&dir], removal), ["mc"], "removal of {name}");
    }
}

// [S-TIME-4]
#[test]
fn links_and_renames_move_the_change_time_of_what_they_name() {
    let Some(Place { m: _mounted, dir, file, other }) = place() else { return };
    let second = other.join("second");
    let linked = moved(&[&file, &dir, &other], || fs::hard_link(&file, &second).expect("link"));
    assert_eq!(linked, ["c", "-", "mc"]);
    let unlinked = moved(&[&file, &dir, &other], || fs::remove_file(&second).expect("unlink"));
    assert_eq!(unlinked, ["c", "-", "mc"]);

    let to = other.join("f");
    let open = File::open(&file).expect("open");
    let before = times(&file);
    let renamed = moved(&[&dir, &other], || fs::rename(&file, &to).expect("rename"));
    assert_eq!(renamed, ["mc", "mc"]);
    assert!(times(&to)[2] > before[2] && times(&to)[1] == before[1]);
    fs::write(&file, "another").expect("write");
    let replaced = File::open(&file).expect("open");
    let old = replaced.metadata().expect("fstat");
    assert_eq!(moved(&[&dir, &other], || fs::rename(&to, &file).expect("rename")), ["mc", "mc"]);
    let new = replaced.metadata().expect("fstat");
    assert!((new.ctime(), new.ctime_nsec()) > (old.ctime(), old.ctime_nsec()), "what was replaced");
    assert_eq!(open.metadata().expect("fstat").ino(), fs::metadata(&file).expect("stat").ino());

    let (a, b) = (dir.join("a"), other.join("b"));
    File::create(&a).expect("create");
    fs::create_dir(&b).expect("mkdir");
    let exchange = || renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).expect("exchange");
    let [before_a, before_b] = [times(&a), times(&b)];
    assert_eq!(moved(&[&dir, &other], exchange), ["mc", "mc"]);
    assert!(times(&b)[2] > before_a[2] && times(&a)[2] > before_b[2]);
}

// [S-TIME-4]
#[test]
fn changes_of_attributes_move_ctime_and_changes_of_data_mtime_too() {
    let Some(Place { m: _mounted, dir, file, .. }) = place() else { return };
    let all: [(&str, &str, Call<'_>); 12] = [
        ("chmod", "c", &|p| fs::set_permissions(p, Permissions::from_mode(0o640)).expect("chmod")),
        ("the same chmod", "c", &|p| {
            fs::set_permissions(p, Permissions::from_mode(0o640)).expect("chmod");
        }),
        ("chown", "c", &|p| chown(p, Some(1), Some(2)).expect("chown")),
        ("setxattr", "c", &|p| {
            setxattr(p, "user.a", b"1", XattrFlags::empty()).expect("setxattr");
        }),
        ("removexattr", "c", &|p| removexattr(p, "user.a").expect("removexattr")),
        ("write", "mc", &|p| write_at(p, 0, b"x")),
        ("write of nothing", "-", &|p| write_at(p, 0, b"")),
        ("extending", "mc", &|p| set_len(p, 1 << 20)),
        ("truncate", "mc", &|p| set_len(p, 3)),
        ("truncate to the same size", "mc", &|p| set_len(p, 3)),
        ("O_TRUNC", "mc", &|p| drop(File::create(p).expect("open"))),
        ("open and close", "-", &|p| drop(File::options().write(true).open(p).expect("open"))),
    ];
    for (name, expected, call) in all {
        assert_eq!(moved(&[&file, &dir], || call(&file)), [expected, "-"], "{name}");
    }
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).expect("open");
    file.write_all_at(bytes, offset).expect("write");
}

fn set_len(path: &Path, len: u64) {
    File::options().write(true).open(path).expect("open").set_len(len).expect("ftruncate");
}

// [S-TIME-4] [S-TIME-2]
#[test]
fn utimens_moves_ctime_whatever_it_sets() {
    let Some(Place { m: mut mounted, file, .. }) = place() else { return };
    let at = |secs| Timespec { tv_sec: secs, tv_nsec: 5 };
    for secs in [1_000_000_000, -5_000_000, -(1 << 40), 1 << 40, 0, 9_000_000_000] {
        let before = times(&file)[2];
        sleep(TICK);
        let times_set = Timestamps { last_access: at(secs), last_modification: at(secs + 1) };
        utimensat(CWD, &file, &times_set, AtFlags::empty()).expect("utimensat");
        let [atime, mtime, ctime] = times(&file);
        assert_eq!((atime, mtime), ((secs, 5), (secs + 1, 5)));
        assert!(ctime > before && ctime.0 < 8_000_000_000, "ctime is the clock's");
    }
    mounted.remount();
    assert_eq!(times(&file)[1], (9_000_000_001, 5), "far ahead");
    write_at(&file, 0, b"x");
    assert!(times(&file)[1].0 < 8_000_000_000, "a write brings the clock back");
    mounted.remount();
    assert!(times(&file)[1].0 < 8_000_000_000);
}

// [S-TIME-5]
#[test]
fn stores_through_a_map_move_mtime_and_ctime_once_they_are_synced() {
    let Some(Place { m: _mounted, dir, file, .. }) = place() else { return };
    let store = || {
        let program = "import mmap, sys\nf = open(sys.argv[1], 'r+b')\nm = mmap.mmap(f.fileno(), 0)\n\
                       m[0:1] = b'X'\nm.flush()";
        python(program, &[&file]);
    };
    assert_eq!(moved(&[&file, &dir], store), ["mc", "-"]);
}

// [S-ATIME-1]
#[test]
fn reading_moves_the_access_time_where_relatime_says_so() {
    let Some(Place { m: mut mounted, dir, file, .. }) = place() else { return };
    let link = dir.join("link");
    symlink("nowhere", &link).expect("symlink");
    // Nothing may come from the kernel's cache.
    mounted.remount();
    let old = Timestamps {
        last_access: Timespec { tv_sec: 1000, tv_nsec: 0 },
        last_modification: Timespec { tv_sec: 2000, tv_nsec: 0 },
    };
    for path in [&file, &link, &dir] {
        utimensat(CWD, path, &old, AtFlags::SYMLINK_NOFOLLOW).expect("utimensat");
    }
    fs::read(&file).expect("read");
    fs::read_link(&link).expect("readlink");
    fs::read_dir(&dir).expect("opendir").for_each(drop);
    for path in [&file, &link, &dir] {
        crate::harness::wait_until("the access time moved", || times(path)[0].0 > 1000);
    }
    let seen = times(&file);
    sleep(TICK);
    mounted.remount();
    fs::read(&file).expect("read");
    assert_eq!(times(&file)[0], seen[0], "it is newer than mtime and ctime");
}
