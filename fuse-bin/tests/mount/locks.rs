//! Locks between processes of one mount.

use crate::harness::{Expect, Mounted, python};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

// [S-LOCK-1]
#[test]
fn flock_excludes_another_process() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("lock");
    let file = File::create(&path).expect("create");
    flock(&file, FlockOperation::LockExclusive).expect("flock");
    try_flock(&path, "-x").exits_with(1);
    try_flock(&path, "-s").exits_with(1);
    flock(&file, FlockOperation::LockShared).expect("downgrade");
    try_flock(&path, "-x").exits_with(1);
    try_flock(&path, "-s").succeeds();
    flock(&file, FlockOperation::Unlock).expect("unlock");
    try_flock(&path, "-x").succeeds();
    flock(&file, FlockOperation::LockExclusive).expect("flock");
    drop(file);
    try_flock(&path, "-x").succeeds();
}

// [S-LOCK-2]
#[test]
fn record_locks_exclude_ranges_of_another_process() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("lock");
    fs::write(&path, vec![0; 1000]).expect("write");
    python(
        r"
import errno, fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 100, 0)
child = os.fork()
if child == 0:
    fd = os.open(sys.argv[1], os.O_RDWR)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 50)
        os._exit(1)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            os._exit(2)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 100)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0, 'the child saw the wrong locks'
fcntl.lockf(fd, fcntl.LOCK_UN, 100, 0)
",
        &[&path],
    );
}

// [S-LOCK-3]
#[test]
fn a_blocked_lock_is_granted_on_release_and_gives_up_on_a_signal() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("lock");
    fs::write(&path, "x").expect("write");
    python(
        r"
import fcntl, os, signal, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX)
waiter = os.fork()
if waiter == 0:
    fcntl.lockf(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX)
    os._exit(7)
victim = os.fork()
if victim == 0:
    fcntl.lockf(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX)
    os._exit(8)
time.sleep(0.3)
os.kill(victim, signal.SIGKILL)
assert os.waitpid(victim, 0)[1] == signal.SIGKILL, 'a blocked lock does not die'
assert os.waitpid(waiter, os.WNOHANG) == (0, 0), 'the lock was granted twice'
fcntl.lockf(fd, fcntl.LOCK_UN)
assert os.waitstatus_to_exitcode(os.waitpid(waiter, 0)[1]) == 7
",
        &[&path],
    );
}

fn try_flock(path: &Path, kind: &str) -> Command {
    let mut command = Command::new("flock");
    command.args(["--nonblock", kind]).arg(path).arg("true");
    command
}
