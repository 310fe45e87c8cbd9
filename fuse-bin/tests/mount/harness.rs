//! A volume, its mount, and what tests say about them.

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Debug;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for a mount, an unmount or the end of a daemon.
const PATIENCE: Duration = Duration::from_secs(60);

/// Exit code of what is in use.
const BUSY: i32 = 6;

/// A fresh volume, mounted until it is dropped.
pub(crate) struct Mounted {
    volume: Volume,
    daemon: Option<Daemon>,
}

impl Mounted {
    /// Formats and mounts, or makes a plain directory. `None` only if it is known that there is no FUSE here.
    pub(crate) fn new() -> Option<Mounted> {
        if elsewhere().is_none() {
            return Mounted::by_daemon();
        }
        let volume = Volume::new();
        fs::create_dir(volume.mnt()).expect("create the directory to work in");
        Some(Mounted { volume, daemon: None })
    }

    /// Formats and mounts. `None` in a plain directory, too: for tests that kill, corrupt or inspect.
    pub(crate) fn by_daemon() -> Option<Mounted> {
        let volume = Volume::for_daemon()?;
        volume.format();
        let daemon = Some(volume.mount(&[]));
        Some(Mounted { volume, daemon })
    }

    /// A volume that is formatted and mounted later.
    pub(crate) fn later(volume: Volume) -> Mounted {
        Mounted { volume, daemon: None }
    }

    /// A path below the mount.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.volume.mnt().join(name)
    }

    /// The mount's root.
    pub(crate) fn root(&self) -> PathBuf {
        self.volume.mnt()
    }

    /// Requests of the kernel that the daemon has answered so far.
    pub(crate) fn served(&self) -> u64 {
        let status = self.volume().vellum(&["status", "--json"]).arg(self.root()).succeeds();
        let (_, rest) = status.split_once("\"served\":").expect("a number of served requests");
        let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a number")
    }

    /// Process id of the daemon.
    pub(crate) fn daemon_id(&self) -> u32 {
        self.daemon.as_ref().expect("mounted").child.id()
    }

    /// The volume and what lies beside it.
    pub(crate) fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Unmounts in an orderly way and mounts again. Nothing happens in a plain directory.
    pub(crate) fn remount(&mut self) {
        if self.daemon.is_some() {
            self.unmount();
            self.daemon = Some(self.volume.mount(&[]));
        }
    }

    /// `vellum umount`, and waits for the daemon's own end.
    pub(crate) fn unmount(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            // A process that another test is starting holds our descriptors until its exec.
            let mut umount = self.volume.vellum(&["umount"]);
            umount.arg(self.root());
            let mut patience = 20;
            while run(&mut umount).status.code() == Some(BUSY) && patience > 0 {
                patience -= 1;
                sleep(Duration::from_millis(50));
            }
            assert!(!is_mounted(&self.root()), "it is in use and stays mounted");
            let (status, log) = daemon.ended();
            assert!(status.success(), "the daemon ended with {status} after an unmount:\n{log}");
        }
    }

    /// Kills the daemon as a crash would, and leaves its corpse of a mount where it is.
    pub(crate) fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(Signal::KILL);
            daemon.ended();
        }
    }

    /// Waits for the daemon's own end, after its connection was taken from it.
    pub(crate) fn ends(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            let (status, log) = daemon.ended();
            assert!(status.success(), "the daemon ended with {status}:\n{log}");
        }
    }

    /// Sends the daemon a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.daemon.as_ref().expect("a daemon").signal(signal);
    }

    /// Mounts again after [`Mounted::kill`] or [`Mounted::unmount`].
    pub(crate) fn mount_again(&mut self) {
        assert!(self.daemon.is_none(), "mounted already");
        if elsewhere().is_none() {
            self.daemon = Some(self.volume.mount(&[]));
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            abandon(&self.volume.mnt());
            if std::thread::panicking() {
                eprintln!("--- the daemon's log ---\n{}", daemon.log());
            }
            drop(daemon);
        }
    }
}

/// A directory that holds a volume, its mountpoint and its logs, removed when dropped.
pub(crate) struct Volume {
    dir: TempDir,
}

impl Volume {
    /// An empty place; nothing is formatted yet. `None` where no daemon is tested.
    pub(crate) fn for_daemon() -> Option<Volume> {
        (elsewhere().is_none() && fuse_is_here()).then(Volume::new)
    }

    fn new() -> Volume {
        let parent = elsewhere().unwrap_or_else(std::env::temp_dir);
        let dir = tempfile::Builder::new()
            .prefix("vellum-")
            .tempdir_in(parent)
            .expect("a temporary directory");
        // Other users get in: some tests act as somebody else.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        Volume { dir }
    }

    /// A path beside the volume, outside of the mount.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The volume's own path.
    pub(crate) fn path(&self) -> PathBuf {
        self.beside("volume")
    }

    /// Where it is mounted.
    pub(crate) fn mnt(&self) -> PathBuf {
        self.beside("mnt")
    }

    /// `vellum format`.
    pub(crate) fn format(&self) {
        self.vellum(&["format"]).arg(self.path()).succeeds();
    }

    /// `vellum fsck --data`: must find nothing.
    pub(crate) fn is_sound(&self) {
        self.vellum(&["fsck", "--data"]).arg(self.path()).succeeds();
    }

    /// `vellum mount` in the foreground; returns when the mount answers.
    pub(crate) fn mount(&self, options: &[&str]) -> Daemon {
        let mnt = self.mnt();
        if !mnt.exists()
            && fs::symlink_metadata(&mnt).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
        {
            fs::create_dir(&mnt).expect("create the mountpoint");
        }
        let log = self.beside("daemon.log");
        let file = File::options().create(true).append(true).open(&log).expect("open the log");
        let said = file.metadata().expect("stat the log").len();
        let mut command = self.vellum(&["mount"]);
        command.args(options).arg(self.path()).arg(&mnt).stdin(Stdio::null());
        let child = command
            .stdout(file.try_clone().expect("dup"))
            .stderr(file)
            .spawn()
            .expect("start vellum mount");
        let mut daemon = Daemon { child, log };
        daemon.await_mount(&mnt, said);
        daemon
    }

    /// The program under test with these arguments.
    pub(crate) fn vellum(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vellum"));
        command.args(args);
        command
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // A mount or its corpse would make the removal of the directory fail.
        abandon(&self.mnt());
    }
}

/// A running `vellum mount`, killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("signal the daemon");
    }

    /// Waits for its own end; its exit status and log.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let mut status = None;
        wait_until("the daemon ends", || {
            status = self.child.try_wait().expect("wait for the daemon");
            status.is_some()
        });
        (status.expect("the wait found one"), self.log())
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the daemon says that it is ready, and sees that it is. Its log begins at `said`.
    fn await_mount(&mut self, mnt: &Path, said: u64) {
        wait_until("the mount answers", || {
            if let Some(status) = self.child.try_wait().expect("wait for the daemon") {
                panic!("vellum mount ended with {status}:\n{}", self.log());
            }
            self.log().get(said as usize..).is_some_and(|new| new.contains("mounted "))
        });
        assert!(is_mounted(mnt), "the daemon says it is mounted, but nothing answers");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether something is mounted here and answers. Asks by statfs, which no cache answers for a dead daemon.
pub(crate) fn is_mounted(mnt: &Path) -> bool {
    let parent = mnt.parent().expect("a mountpoint has a parent");
    let answers = rustix::fs::statfs(mnt).is_ok();
    answers
        && matches!((fs::metadata(mnt), fs::metadata(parent)), (Ok(mnt), Ok(above)) if mnt.dev() != above.dev())
}

/// Takes a mount away whatever state its daemon is in. Requests that wait for it fail, so that nobody,
/// the daemon itself included, waits for a daemon that is about to be killed.
pub(crate) fn abandon(mnt: &Path) {
    let _ = unmount(mnt, UnmountFlags::FORCE | UnmountFlags::DETACH);
}

/// Polls until it holds.
///
/// # Panics
/// When it does not hold in good time.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        sleep(Duration::from_millis(5));
    }
}

/// What a test expects of a command.
pub(crate) trait Expect {
    /// Runs it; it must succeed. Its standard output.
    fn succeeds(&mut self) -> String;
    /// Runs it; it must exit with this code. Its standard error.
    fn exits_with(&mut self, code: i32) -> String;
}

impl Expect for Command {
    #[track_caller]
    fn succeeds(&mut self) -> String {
        let output = run(self);
        assert!(output.status.success(), "{self:?} failed: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    #[track_caller]
    fn exits_with(&mut self, code: i32) -> String {
        let output = run(self);
        assert_eq!(output.status.code(), Some(code), "{self:?}: {output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    }
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{command:?} does not run: {e}"))
}

/// A shell script with `$MNT` set, as a user would type it. Its standard output.
#[track_caller]
pub(crate) fn sh(mounted: &Mounted, script: &str) -> String {
    Command::new("sh").args(["-euc", script]).env("MNT", mounted.root()).succeeds()
}

/// A Python program with these arguments, for what safe Rust cannot say. Its standard output.
#[track_caller]
pub(crate) fn python(program: &str, args: &[&Path]) -> String {
    Command::new("python3").args(["-c", program]).args(args).succeeds()
}

/// The call must fail with exactly this error.
#[track_caller]
pub(crate) fn fails<T: Debug, E: Into<io::Error>>(result: Result<T, E>, expected: Errno) {
    match result {
        Ok(value) => panic!("expected {expected:?}, but it succeeded with {value:?}"),
        Err(error) => {
            let error: io::Error = error.into();
            assert_eq!(
                error.raw_os_error(),
                Some(expected.raw_os_error()),
                "expected {expected:?}, got {error}"
            );
        }
    }
}

/// Bytes that depend on their offset in the file and on a seed, so that no two blocks are alike.
pub(crate) fn pattern(seed: u64, offset: u64, len: usize) -> Vec<u8> {
    let word =
        |n: u64| (n ^ seed.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    (offset..offset + len as u64).map(|at| word(at / 8).to_le_bytes()[(at % 8) as usize]).collect()
}

/// Names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("open the directory")
        .map(|entry| entry.expect("read the directory").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

/// A directory of another filesystem.
pub(crate) fn other_filesystem() -> TempDir {
    TempDir::new_in("/dev/shm").expect("a directory in /dev/shm")
}

/// Directory to run in instead of a mount.
pub(crate) fn elsewhere() -> Option<PathBuf> {
    std::env::var_os("VELLUM_TEST_DIR").map(PathBuf::from)
}

/// Rounds of a test that repeats itself.
pub(crate) fn rounds(variable: &str, default: u32) -> u32 {
    std::env::var(variable)
        .map_or(default, |n| n.parse().unwrap_or_else(|_| panic!("{variable} is no number: {n}")))
}

fn fuse_is_here() -> bool {
    if Path::new("/dev/fuse").exists() {
        return true;
    }
    let known = std::env::var_os("VELLUM_TEST_NO_FUSE").is_some_and(|v| v == "1");
    assert!(
        known,
        "/dev/fuse is missing: load the fuse module, or say that this is known with VELLUM_TEST_NO_FUSE=1"
    );
    false
}
