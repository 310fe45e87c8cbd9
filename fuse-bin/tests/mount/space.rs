//! Space: allocation, holes, shared bytes, and what stat says of them.

use crate::harness::{Daemon, Expect, Mounted, Volume, fails, pattern, sh, wait_until};
use rustix::fs::{FallocateFlags as Flags, SeekFrom, copy_file_range, fallocate, seek};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const MIB: u64 = 1 << 20;

fn create(m: &Mounted, name: &str, len: u64) -> File {
    let file =
        File::options().read(true).write(true).create_new(true).open(m.path(name)).expect("create");
    for offset in (0..len).step_by(MIB as usize) {
        let bytes = pattern(7, offset, MIB.min(len - offset) as usize);
        file.write_all_at(&bytes, offset).expect("write");
    }
    file
}

fn blocks(file: &File) -> u64 {
    file.metadata().expect("fstat").blocks()
}

/// The data of a file as SEEK_DATA and SEEK_HOLE tell it.
fn data(file: &File) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Ok(start) = seek(file, SeekFrom::Data(at)) {
        at = seek(file, SeekFrom::Hole(start)).expect("the end is a hole");
        found.push((start, at));
    }
    found
}

// [S-FALLOC-1] [S-FALLOC-2] [S-FALLOC-4]
#[test]
fn allocation_extends_a_file_and_reads_as_zeros() {
    let Some(m) = Mounted::by_daemon() else { return };
    let file = create(&m, "f", 10);
    let before = file.metadata().expect("fstat");
    fallocate(&file, Flags::KEEP_SIZE, 0, 100_000).expect("keep");
    assert_eq!(file.metadata().expect("fstat").len(), 10);
    fallocate(&file, Flags::empty(), 4096, 100_000).expect("extend");
    let after = file.metadata().expect("fstat");
    assert_eq!(after.len(), 104_096);
    assert!((after.mtime(), after.mtime_nsec()) > (before.mtime(), before.mtime_nsec()));
    assert!((after.ctime(), after.ctime_nsec()) > (before.ctime(), before.ctime_nsec()));
    let bytes = fs::read(m.path("f")).expect("read");
    assert!(bytes[..10] == pattern(7, 0, 10) && bytes[10..].iter().all(|b| *b == 0));
    fails(fallocate(&file, Flags::empty(), 0, 0), Errno::INVAL);
    fails(fallocate(&file, Flags::empty(), 0, 1 << 62), Errno::NOSPC);
    fails(fallocate(&file, Flags::empty(), i64::MAX as u64, 1), Errno::FBIG);
    fails(fallocate(&file, Flags::COLLAPSE_RANGE, 0, 4096), Errno::OPNOTSUPP);
    fails(fallocate(&file, Flags::INSERT_RANGE, 0, 4096), Errno::OPNOTSUPP);
    let reader = File::open(m.path("f")).expect("open");
    fails(fallocate(&reader, Flags::empty(), 0, 10), Errno::BADF);
    assert_eq!(file.metadata().expect("fstat").len(), 104_096);
}

// [S-FALLOC-3] [S-SEEK-2] [S-BLOCKS-1]
#[test]
fn punched_and_zeroed_ranges_are_holes_to_the_byte() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    let file = create(&m, "f", 4 * MIB);
    fallocate(&file, Flags::PUNCH_HOLE | Flags::KEEP_SIZE, MIB + 1, 1000).expect("punch");
    file.sync_all().expect("fsync");
    fallocate(&file, Flags::ZERO_RANGE, 2 * MIB, 3 * MIB).expect("zero and extend");
    file.write_all_at(b"later", 3 * MIB).expect("write");
    drop(file);
    let mut want = pattern(7, 0, 4 << 20);
    want.resize(5 << 20, 0);
    want[(1 << 20) + 1..(1 << 20) + 1001].fill(0);
    want[2 << 20..].fill(0);
    want[3 << 20..(3 << 20) + 5].copy_from_slice(b"later");
    for _ in 0..2 {
        let file = File::open(m.path("f")).expect("open");
        assert!(fs::read(m.path("f")).expect("read") == want);
        let there = [(0, MIB + 1), (MIB + 1001, 2 * MIB), (3 * MIB, 3 * MIB + 5)];
        assert_eq!(data(&file), there);
        let bytes: u64 = there.iter().map(|(from, to)| to - from).sum();
        assert_eq!(blocks(&file), bytes.div_ceil(4096) * 8);
        fails(seek(&file, SeekFrom::Data(3 * MIB + 5)), Errno::NXIO);
        fails(seek(&file, SeekFrom::Hole(5 * MIB)), Errno::NXIO);
        drop(file);
        m.remount();
    }
    m.unmount();
    m.volume().is_sound();
}

// [S-BLOCKS-1]
#[test]
fn writing_a_range_again_takes_no_more_blocks() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    let file = create(&m, "f", 2 * MIB);
    for round in 0..10 {
        file.write_all_at(&pattern(round, 0, 300_000), 5000).expect("write");
        assert_eq!(blocks(&file), 2 * MIB / 512);
        file.sync_all().expect("fsync");
        assert_eq!(blocks(&file), 2 * MIB / 512);
    }
    file.set_len(MIB).expect("truncate");
    assert_eq!(blocks(&file), MIB / 512);
    file.set_len(8 * MIB).expect("truncate");
    assert_eq!(blocks(&file), MIB / 512);
    drop(file);
    m.remount();
    let file = File::options().write(true).open(m.path("f")).expect("open");
    file.write_all_at(&[1; 4096], 8192).expect("write over what this mount never read");
    assert_eq!(blocks(&file), MIB / 512);
    drop(file);
    m.unmount();
    m.volume().is_sound();
}

// [S-FALLOC-3] [S-COPY-1]
#[test]
fn the_usual_programs_make_and_keep_holes() {
    let Some(m) = Mounted::new() else { return };
    sh(
        &m,
        r#"
        cd "$MNT"
        head -c 3000000 /dev/urandom > f
        cp f whole
        fallocate -p -o 1000000 -l 1000000 f
        [ "$(stat -c %s f)" = 3000000 ]
        [ "$(stat -c %b f)" -lt 4000 ]
        cmp -n 1000000 f whole
        cp --sparse=always f sparse; cmp f sparse
        [ "$(stat -c %b sparse)" -lt 4000 ]
        cp --reflink=auto f shared; cmp f shared
        [ "$(stat -c %b shared)" -lt 4000 ]
        fallocate -z -o 0 -l 4000000 f
        [ "$(stat -c %s f)" = 4000000 ]
        [ "$(stat -c %b f)" = 0 ]
        cmp -n 4000000 f /dev/zero
        cmp sparse shared
        head -c 1000000 /dev/zero > zeros; fallocate -d zeros
        [ "$(stat -c %b zeros)" = 0 ]
        "#,
    );
}

// [S-HOLE-1] [S-SEEK-2]
#[test]
fn a_sparse_file_of_ten_gib_has_what_was_written() {
    let Some(mut m) = Mounted::new() else { return };
    let file = create(&m, "f", 0);
    let len = 10 << 30;
    file.set_len(len).expect("truncate");
    let places: Vec<u64> = (0..20).map(|n| n * 511 * MIB + n * 7).collect();
    for at in &places {
        file.write_all_at(&pattern(3, *at, 5000), *at).expect("write");
    }
    drop(file);
    for _ in 0..2 {
        let file = File::open(m.path("f")).expect("open");
        assert_eq!(file.metadata().expect("fstat").len(), len);
        let want: Vec<(u64, u64)> = places.iter().map(|at| (*at, at + 5000)).collect();
        assert_eq!(data(&file), want);
        assert_eq!(blocks(&file), (20u64 * 5000).div_ceil(4096) * 8);
        for at in &places {
            let mut bytes = vec![0; 5000];
            file.read_exact_at(&mut bytes, *at).expect("read");
            assert!(bytes == pattern(3, *at, 5000));
        }
        drop(file);
        m.remount();
    }
}

// [S-COPY-1] [S-COPY-2] [S-COPY-3]
#[test]
fn a_copy_within_the_mount_writes_no_data() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    let len = 100 * MIB;
    let from = create(&m, "from", len);
    from.sync_all().expect("fsync");
    let before = stored(&m.volume().path());
    let to = create(&m, "to", 0);
    let begin = Instant::now();
    let mut done = 0;
    while done < len {
        let count = copy_file_range(&from, None, &to, None, (len - done) as usize).expect("copy");
        assert!(count > 0);
        done += count as u64;
    }
    println!("100 MiB copied in {:?}", begin.elapsed());
    to.sync_all().expect("fsync");
    let grown = stored(&m.volume().path()).saturating_sub(before);
    assert!(grown < 8 * MIB, "the copy took {grown} bytes on disk");
    assert_eq!((blocks(&from), blocks(&to)), (len / 512, len / 512));
    assert_eq!(segments(&m, "from"), segments(&m, "to"));
    // Each goes its own way.
    to.write_all_at(b"changed", 5 * MIB).expect("write");
    from.write_all_at(b"other", 6 * MIB).expect("write");
    drop((from, to));
    fs::remove_file(m.path("from")).expect("unlink");
    m.remount();
    let copy = fs::read(m.path("to")).expect("read");
    for at in (0..len).step_by(MIB as usize) {
        let mut want = pattern(7, at, MIB as usize);
        if at == 5 * MIB {
            want[..7].copy_from_slice(b"changed");
        }
        assert!(copy[at as usize..(at + MIB) as usize] == want, "differs in the MiB at {at}");
    }
    m.unmount();
    m.volume().is_sound();
}

// [S-COPY-1] The offsets, the ends and the errors of copy_file_range(2).
#[test]
fn copies_end_where_their_source_ends() {
    let Some(m) = Mounted::new() else { return };
    let from = create(&m, "from", 10_000);
    let to = create(&m, "to", 100);
    let (mut at, mut to_at) = (9_000, 5_000);
    let count = copy_file_range(&from, Some(&mut at), &to, Some(&mut to_at), 5_000);
    assert_eq!((count, at, to_at), (Ok(1_000), 10_000, 6_000));
    let count = copy_file_range(&from, Some(&mut at), &to, Some(&mut to_at), 5_000);
    assert_eq!(count, Ok(0));
    let bytes = fs::read(m.path("to")).expect("read");
    assert_eq!(bytes.len(), 6_000);
    assert!(bytes[..100] == pattern(7, 0, 100) && bytes[100..5_000].iter().all(|b| *b == 0));
    assert!(bytes[5_000..] == pattern(7, 9_000, 1_000));
    let (mut at, mut to_at) = (0, 50);
    fails(copy_file_range(&to, Some(&mut at), &to, Some(&mut to_at), 100), Errno::INVAL);
    let (mut at, mut to_at) = (0, 20_000);
    assert_eq!(copy_file_range(&to, Some(&mut at), &to, Some(&mut to_at), 100), Ok(100));
    assert!(fs::read(m.path("to")).expect("read")[20_000..] == pattern(7, 0, 100));
}

/// Bytes on disk below a directory.
fn stored(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("list").map(|e| e.expect("entry"));
    let size = |path: &Path| match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => stored(path),
        Ok(meta) => meta.blocks() * 512,
        // The store removes files of its own.
        Err(_) => 0,
    };
    entries.map(|e| size(&e.path())).sum()
}

/// The segments of a file, as `vellum info` names them.
fn segments(m: &Mounted, name: &str) -> Vec<String> {
    let info = Command::new(env!("CARGO_BIN_EXE_vellum")).arg("info").arg(m.path(name)).succeeds();
    let lines = info.lines().filter_map(|line| Some(line.split_once("segment ")?.1.to_owned()));
    let found: Vec<String> = lines.collect();
    assert!(!found.is_empty(), "no segments in {info}");
    found
}

// [S-CAPACITY-1] [S-CAPACITY-2] [S-CAPACITY-4] [S-STATFS-1]
#[test]
fn a_volume_holds_no_more_than_its_capacity() {
    let Some(volume) = Volume::for_daemon() else { return };
    volume.vellum(&["format", "--capacity", "20M", "--inodes", "10"]).arg(volume.path()).succeeds();
    let daemon = volume.mount(&[]);
    let mnt = volume.mnt();
    let free = || {
        let s = rustix::fs::statvfs(&mnt).expect("statvfs");
        (s.f_blocks * s.f_frsize, s.f_bavail * s.f_frsize, s.f_files - s.f_ffree)
    };
    assert_eq!(free(), (20 * MIB, 20 * MIB, 1));
    let file = File::create(mnt.join("a")).expect("create");
    for at in 0..20 {
        file.write_all_at(&pattern(1, at * MIB, 1 << 20), at * MIB).expect("it fits");
    }
    assert_eq!(free(), (20 * MIB, 0, 2));
    fails(file.write_at(b"x", 20 * MIB), Errno::NOSPC);
    fails(File::create(mnt.join("b")).expect("create").write_at(b"x", 0), Errno::NOSPC);
    file.write_all_at(&pattern(2, 0, 1 << 20), 0).expect("over what is there");
    file.sync_all().expect("what was accepted fits");
    assert_eq!(free(), (20 * MIB, 0, 3));
    for n in 0..7 {
        File::create(mnt.join(format!("{n}"))).expect("create");
    }
    fails(File::create(mnt.join("x")), Errno::NOSPC);
    // The next write finds room at once.
    drop(file);
    fs::remove_file(mnt.join("a")).expect("unlink");
    let file = File::create(mnt.join("c")).expect("create");
    file.write_all_at(&pattern(3, 0, 10 << 20), 0).expect("there is room again");
    file.sync_all().expect("fsync");
    assert!(fs::read(mnt.join("c")).expect("read") == pattern(3, 0, 10 << 20));
    drop(file);
    umount(&volume, daemon);
    let daemon = volume.mount(&["-o", "capacity=11M"]);
    assert_eq!(free(), (11 * MIB, MIB, 10));
    umount(&volume, daemon);
    volume.is_sound();
}

// [S-ERROR-3] The disk itself is full: data, then also metadata, has no room.
#[test]
fn a_full_disk_is_an_error_and_no_damage() {
    let Some(volume) = Volume::for_daemon() else { return };
    let disk = SmallDisk::new(volume.path());
    volume.format();
    let daemon = volume.mount(&[]);
    let mnt = volume.mnt();
    fs::write(mnt.join("kept"), pattern(9, 0, 3 << 20)).expect("write");
    File::open(mnt.join("kept")).expect("open").sync_all().expect("fsync");
    for round in 0..2 {
        let refused = (0..200).any(|n| {
            let path = mnt.join(format!("big-{n}"));
            let file = match File::create(&path) {
                Ok(file) => file,
                Err(error) => return error.raw_os_error() == Some(28),
            };
            let full = |error: std::io::Error| {
                assert_eq!(error.raw_os_error(), Some(28), "{error}");
                true
            };
            let bytes = pattern(n as u64, 0, 1 << 20);
            file.write_all_at(&bytes, 0).map_or_else(full, |()| file.sync_all().is_err_and(full))
        });
        assert!(refused, "nobody said that the disk is full");
        assert!(fs::read(mnt.join("kept")).expect("read") == pattern(9, 0, 3 << 20));
        // Names still go, and with them the data.
        for entry in fs::read_dir(&mnt).expect("list").map(|e| e.expect("entry").path()) {
            if entry.file_name().is_some_and(|name| name != "kept") {
                fs::remove_file(&entry).expect("unlink");
            }
        }
        let path = mnt.join(format!("after-{round}"));
        let bytes = pattern(5, 0, 5 << 20);
        wait_until("there is room again", || {
            let _ = fs::remove_file(&path);
            let Ok(file) = File::create(&path) else { return false };
            file.write_all_at(&bytes, 0).is_ok() && file.sync_all().is_ok()
        });
        assert!(fs::read(&path).expect("read") == bytes);
    }
    umount(&volume, daemon);
    volume.is_sound();
    let daemon = volume.mount(&[]);
    assert!(fs::read(mnt.join("kept")).expect("read") == pattern(9, 0, 3 << 20));
    umount(&volume, daemon);
    drop(disk);
}

/// A tmpfs of 64 MiB at a path, unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn new(path: std::path::PathBuf) -> SmallDisk {
        fs::create_dir(&path).expect("create");
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "small"])
            .arg(&path)
            .succeeds();
        SmallDisk(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

fn umount(volume: &Volume, daemon: Daemon) {
    volume.vellum(&["umount"]).arg(volume.mnt()).succeeds();
    let (status, log) = daemon.ended();
    assert!(status.success(), "the daemon ended with {status}:\n{log}");
}

// [S-MEMORY-1]
#[test]
fn a_flood_of_writes_stays_within_its_memory() {
    const QUOTA: u64 = 32 << 20;
    let Some(volume) = Volume::for_daemon() else { return };
    volume.format();
    let daemon = volume.mount(&["-o", "dirty_max=32M"]);
    let mnt = volume.mnt();
    let mut most = 0;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4u64)
            .map(|n| {
                let path = mnt.join(format!("{n}"));
                scope.spawn(move || {
                    let file = File::create(path).expect("create");
                    for at in 0..80 {
                        let bytes = pattern(n, at * MIB, 1 << 20);
                        file.write_all_at(&bytes, at * MIB).expect("write");
                    }
                })
            })
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            most = most.max(number(&status(&volume), "dirty_bytes"));
        }
    });
    assert!(most > 0 && most <= QUOTA, "{most} bytes were buffered at once");
    let pid = number(&status(&volume), "pid");
    let memory = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon's status");
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    // The quota, the payload of requests under way, the store's caches and the program.
    assert!(peak < 400 << 10, "the daemon had {peak} KiB at its peak");
    umount(&volume, daemon);
}

fn status(volume: &Volume) -> String {
    volume.vellum(&["status", "--json"]).arg(volume.mnt()).succeeds()
}

/// A number in JSON.
fn number(json: &str, name: &str) -> u64 {
    let (_, rest) = json.split_once(&format!("\"{name}\":")).expect("there is such a field");
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}
