//! What programs see when a call on the volume's own files fails: `strace` makes the daemon's calls fail.

use crate::harness::{Expect, Mounted, Volume, fails, pattern, wait_until};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Calls of a daemon that fail until this is dropped.
struct Failing(Child);

impl Failing {
    /// `call` fails with `error` in the daemon of `m`, on the file `only` if one is named.
    fn new(m: &Mounted, call: &str, how: &str, only: Option<&Path>) -> Failing {
        let pid = m.daemon_id();
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={call}"));
        command.arg("-e").arg(format!("inject={call}:{how}")).args(["-p", &pid.to_string()]);
        if let Some(path) = only {
            command.arg("-P").arg(path);
        }
        let child =
            command.stderr(Stdio::null()).spawn().expect("strace runs; ci/setup installs it");
        let tracer = child.id();
        wait_until("strace has every thread of the daemon", || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon lives");
            tasks.flatten().all(|task| {
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                status.contains(&format!("TracerPid:\t{tracer}\n"))
            })
        });
        Failing(child)
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        // It detaches, and the daemon goes on.
        let _ = kill_process(Pid::from_child(&self.0), Signal::INT);
        let _ = self.0.wait();
    }
}

/// The page files of the volume, oldest first.
fn page_files(m: &Mounted) -> Vec<PathBuf> {
    let entries = fs::read_dir(m.volume().path().join("pages")).expect("readdir");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// Writes a new file and makes it durable.
fn save(path: &Path, seed: u64) {
    let mut file = File::create(path).expect("create");
    file.write_all(&pattern(seed, 0, 3 << 20)).expect("write");
    file.sync_all().expect("fsync");
}

// [S-ERROR-1] [S-ERROR-2]
#[test]
fn a_failed_write_back_is_reported_once_by_each_descriptor_and_loses_nothing() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    save(&m.path("before"), 1);
    let path = m.path("f");
    let first = File::options().read(true).write(true).create_new(true).open(&path).expect("open");
    let second = File::open(&path).expect("open");
    let failing = Failing::new(&m, "pwritev", "error=ENOSPC", Some(&page_files(&m)[0]));
    first.write_all_at(&pattern(2, 0, 3 << 20), 0).expect("write");
    fails(first.sync_all(), Errno::NOSPC);
    fails(first.sync_all(), Errno::NOSPC);
    drop(failing);
    fails(second.sync_all(), Errno::NOSPC);
    second.sync_all().expect("it was reported, and what failed has been written by now");
    first.sync_all().expect("likewise");
    File::open(&path).expect("open").sync_all().expect("who opened it later learns of nothing");
    m.kill();
    m.mount_again();
    assert!(fs::read(&path).expect("read") == pattern(2, 0, 3 << 20));
    m.unmount();
    m.volume().is_sound();
}

// [S-ERROR-2]
#[test]
fn a_failed_fdatasync_is_final_for_its_page_file_and_the_bytes_go_to_a_new_one() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    save(&m.path("before"), 1);
    let old = page_files(&m);
    let failing = Failing::new(&m, "fdatasync", "error=EIO:when=1", Some(&old[0]));
    save(&m.path("after"), 2);
    drop(failing);
    let new = page_files(&m);
    assert!(new.len() > old.len(), "the bytes were written again, into a new file: {new:?}");
    let written = fs::metadata(&old[0]).expect("stat").len();
    save(&m.path("later"), 3);
    let now = fs::metadata(&old[0]).expect("stat").len();
    assert_eq!(written, now, "nothing is written to the failed file any more");
    m.kill();
    // The disk has lost what that fdatasync should have brought it.
    let file = File::options().write(true).open(&old[0]).expect("open");
    let lost = 4 << 20;
    assert!(written > lost + (2 << 20), "both files were in it");
    file.write_all_at(&vec![0; (written - lost) as usize], lost).expect("write");
    m.mount_again();
    for (name, seed) in [("before", 1), ("after", 2), ("later", 3)] {
        assert!(fs::read(m.path(name)).expect("read") == pattern(seed, 0, 3 << 20), "{name}");
    }
    m.unmount();
    m.volume().is_sound();
}

// [S-ERROR-3]
#[test]
fn when_nothing_becomes_durable_fsync_fails_and_what_was_durable_is_there_after_a_new_mount() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    save(&m.path("before"), 1);
    let failing = Failing::new(&m, "fdatasync", "error=EIO", None);
    let mut file = File::create(m.path("after")).expect("create");
    file.write_all(&pattern(2, 0, 3 << 20)).expect("write");
    fails(file.sync_all(), Errno::IO);
    drop(failing);
    fails(file.sync_all(), Errno::IO);
    assert!(fs::read(m.path("before")).expect("read") == pattern(1, 0, 3 << 20), "it can be read");
    drop(file);
    m.kill();
    m.mount_again();
    assert!(fs::read(m.path("before")).expect("read") == pattern(1, 0, 3 << 20));
    save(&m.path("again"), 3);
    m.unmount();
    m.volume().is_sound();
}

/// A small filesystem in a file, mounted until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(image: &Path, at: &Path) -> SmallDisk {
        let file = File::create(image).expect("create the image");
        file.set_len(100 << 20).expect("set its length");
        fs::create_dir(at).expect("mkdir");
        Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(image).succeeds();
        Command::new("mount").args(["-o", "loop"]).arg(image).arg(at).succeeds();
        SmallDisk(at.to_path_buf())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

// [S-ERROR-3]
#[test]
fn a_full_disk_is_enospc_until_there_is_room_and_loses_nothing() {
    let Some(volume) = Volume::for_daemon() else { return };
    if !Path::new("/dev/loop-control").exists() {
        return eprintln!("no loop devices here: a full disk is not tested");
    }
    // Dropped last to first: the filesystem goes before the directory that it is in.
    let mut m = Mounted::later(volume);
    let _disk = SmallDisk::new(&m.volume().beside("image"), &m.volume().path());
    m.volume().format();
    m.mount_again();
    let path = |m: &Mounted, n: u64| m.path(format!("f{n}"));
    let save = |path: &Path, seed: u64| {
        let mut file = File::create(path)?;
        file.write_all(&pattern(seed, 0, 1 << 20))?;
        file.sync_all()
    };
    let full = (0..200).find(|n| save(&path(&m, *n), *n).is_err()).expect("the disk runs full");
    assert!(full > 40, "full after {full} MiB");
    fails(save(&m.path("more"), 1), Errno::NOSPC);
    for n in 0..full / 2 {
        fs::remove_file(path(&m, n)).expect("unlink on a full disk");
    }
    wait_until("there is room again", || save(&m.path("again"), 7).is_ok());
    m.unmount();
    m.volume().is_sound();
    m.mount_again();
    for n in full / 2..full {
        assert!(fs::read(path(&m, n)).expect("read") == pattern(n, 0, 1 << 20), "f{n}");
    }
    assert!(fs::read(m.path("again")).expect("read") == pattern(7, 0, 1 << 20));
    m.unmount();
}
