//! Signals for processes that wait for the daemon, which itself waits for its disk.
//!
//! The disk is made to hang by putting the volume on another mount whose daemon is stopped.

use crate::harness::{Expect, Mounted, abandon, is_mounted, pattern, wait_until};
use rustix::fs::{Advice, fadvise};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// A mount whose disk can be made to hang.
struct Hanging {
    disk: Mounted,
    mnt: PathBuf,
}

impl Hanging {
    fn new() -> Option<Hanging> {
        let disk = Mounted::by_daemon()?;
        let mnt = disk.volume().beside("inner");
        fs::create_dir(&mnt).expect("mkdir");
        disk.volume().vellum(&["format"]).arg(disk.path("volume")).succeeds();
        disk.volume().vellum(&["mount", "-d"]).arg(disk.path("volume")).arg(&mnt).succeeds();
        Some(Hanging { disk, mnt })
    }

    fn hang(&self) {
        self.disk.signal(Signal::STOP);
    }

    fn go_on(&self) {
        self.disk.signal(Signal::CONT);
    }

    fn unmount(&self) {
        self.disk.volume().vellum(&["umount"]).arg(&self.mnt).succeeds();
        self.disk.volume().vellum(&["fsck", "--data"]).arg(self.disk.path("volume")).succeeds();
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.go_on();
        if is_mounted(&self.mnt) {
            abandon(&self.mnt);
        }
    }
}

/// All files of a tree.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("open the directory");
    let paths = entries.map(|entry| entry.expect("read the directory").path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// `dd` that writes to a file and then waits for it.
fn dd(file: &Path, options: &[&str]) -> Child {
    Command::new("dd")
        .args(["if=/dev/zero", "status=none"])
        .arg(format!("of={}", file.display()))
        .args(options)
        .stdin(Stdio::null())
        .spawn()
        .expect("start dd")
}

/// A program that writes a file and waits for it as C does, with a handler for SIGUSR1.
fn fsync_with_handler(file: &Path) -> Child {
    let program = r"
import ctypes, os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: None)
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
os.write(fd, b'x' * 5000)
sys.exit(ctypes.CDLL(None).fsync(fd) != 0)
";
    Command::new("python3").args(["-c", program]).arg(file).spawn().expect("start python3")
}

#[track_caller]
fn hangs(child: &mut Child) {
    sleep(Duration::from_millis(700));
    assert!(child.try_wait().expect("wait").is_none(), "it does not wait for the disk");
}

/// It must hang first, and then die of a kill.
#[track_caller]
fn dies_when_killed(mut child: Child) {
    hangs(&mut child);
    child.kill().expect("kill");
    wait_until("the killed process is gone", || child.try_wait().expect("wait").is_some());
}

// [S-SIGNAL-2]
#[test]
fn a_process_that_waits_in_fsync_can_be_killed() {
    let Some(m) = Hanging::new() else { return };
    m.hang();
    dies_when_killed(dd(&m.mnt.join("f"), &["bs=4k", "count=1", "conv=fsync"]));
    m.go_on();
    assert_eq!(fs::metadata(m.mnt.join("f")).expect("stat").len(), 4096);
    m.unmount();
}

// [S-SIGNAL-2]
#[test]
fn a_process_that_waits_for_room_in_a_full_buffer_can_be_killed() {
    let Some(m) = Hanging::new() else { return };
    m.hang();
    dies_when_killed(dd(&m.mnt.join("f"), &["bs=1M", "count=64"]));
    m.go_on();
    let len = fs::metadata(m.mnt.join("f")).expect("stat").len();
    assert!((1 << 20..64 << 20).contains(&len), "{len} bytes were written");
    assert!(fs::read(m.mnt.join("f")).expect("read").iter().all(|b| *b == 0));
    m.unmount();
}

// [S-SIGNAL-3]
#[test]
fn a_signal_that_is_handled_does_not_disturb_an_fsync() {
    let Some(m) = Hanging::new() else { return };
    m.hang();
    let mut patient = fsync_with_handler(&m.mnt.join("f"));
    let mut victim = fsync_with_handler(&m.mnt.join("g"));
    for child in [&mut patient, &mut victim] {
        hangs(child);
        kill_process(Pid::from_child(child), Signal::USR1).expect("signal");
        hangs(child);
    }
    dies_when_killed(victim);
    m.go_on();
    assert!(patient.wait().expect("wait").success(), "its fsync was interrupted");
    assert_eq!(fs::metadata(m.mnt.join("f")).expect("stat").len(), 5000);
    m.unmount();
}

// [S-SIGNAL-2]
#[test]
fn a_process_that_waits_for_a_read_can_be_killed() {
    let Some(m) = Hanging::new() else { return };
    fs::write(m.mnt.join("f"), pattern(1, 0, 8 << 20)).expect("write");
    m.unmount();
    m.disk.volume().vellum(&["mount", "-d"]).arg(m.disk.path("volume")).arg(&m.mnt).succeeds();
    fs::metadata(m.mnt.join("f")).expect("stat");
    // The disk's own cache must not answer.
    for file in files_below(&m.disk.path("volume")) {
        let file = File::open(file).expect("open");
        fadvise(&file, 0, None, Advice::DontNeed).expect("fadvise");
    }
    m.hang();
    let file = format!("if={}", m.mnt.join("f").display());
    let mut command = Command::new("dd");
    command.args(["of=/dev/null", "bs=1M", "status=none", &file]);
    dies_when_killed(command.spawn().expect("start dd"));
    m.go_on();
    assert!(fs::read(m.mnt.join("f")).expect("read") == pattern(1, 0, 8 << 20));
    m.unmount();
}
