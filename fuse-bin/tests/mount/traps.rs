//! Traps between the kernel's FUSE and a filesystem that wants to be one; `docs/testing.md` numbers them.
//! Those that other files test are not repeated here.

use crate::harness::{Expect, Mounted, python, wait_until};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, SeekFrom, seek};
use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Trap 1a: pages of a map that are written back through an O_APPEND descriptor keep their place.
#[test]
fn a_map_of_an_append_descriptor_does_not_append() {
    let Some(mut m) = Mounted::new() else { return };
    let path = m.path("f");
    fs::write(&path, vec![b'.'; 8192]).expect("write");
    python(
        r"
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_APPEND)
view = mmap.mmap(fd, 0, mmap.MAP_SHARED)
view[10:13] = b'map'
view.flush()
os.write(fd, b'end')
view[20:23] = b'two'
view.flush()
os.fsync(fd)
",
        &[&path],
    );
    for _ in 0..2 {
        let bytes = fs::read(&path).expect("read");
        assert_eq!(bytes.len(), 8195);
        assert_eq!(
            (&bytes[10..13], &bytes[20..23], &bytes[8192..]),
            (&b"map"[..], &b"two"[..], &b"end"[..])
        );
        m.remount();
    }
}

/// Trap 2: an append goes behind what another descriptor appended meanwhile, whatever this one's kernel
/// offset says.
#[test]
fn appends_through_several_descriptors_take_turns() {
    use std::io::Write;
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    let open = || fs::File::options().append(true).create(true).open(&path).expect("open");
    let mut files = [open(), open(), open()];
    for n in 0..60 {
        files[n % 3].write_all(format!("{n:02}\n").as_bytes()).expect("append");
    }
    let expected: String = (0..60).map(|n| format!("{n:02}\n")).collect();
    assert_eq!(fs::read_to_string(&path).expect("read"), expected);
}

/// Trap 5: O_DIRECT and a shared map of one file.
#[test]
fn a_file_opened_for_direct_io_can_be_mapped() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    fs::write(&path, vec![b'.'; 8192]).expect("write");
    python(
        r"
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
view = mmap.mmap(fd, 0, mmap.MAP_SHARED)
view[0:3] = b'map'
view.flush()
buffer = mmap.mmap(-1, 4096)
assert os.preadv(fd, [buffer], 0) == 4096 and buffer[0:3] == b'map'
",
        &[&path],
    );
    assert!(fs::read(&path).expect("read").starts_with(b"map."));
}

/// Trap 7: every lookup that the kernel was told of is given back, whoever asked and however it ended;
/// one too many kept here would keep a removed file for ever.
#[test]
fn nothing_is_kept_of_files_that_were_listed_opened_and_removed() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    let name = |n: usize| format!("{n}-{}", "x".repeat(n % 120));
    for n in 0..1500 {
        fs::write(m.path(name(n)), "x").expect("create");
    }
    m.remount();
    let list = |room: usize| {
        let dir = rustix::fs::open(m.root(), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())
            .expect("open the directory");
        let mut space = vec![MaybeUninit::uninit(); room];
        let mut raw = RawDir::new(&dir, &mut space);
        let mut count = 0;
        while let Some(entry) = raw.next() {
            let name = entry.expect("read the directory").file_name().to_owned();
            rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW).expect("stat");
            count += 1;
        }
        count
    };
    thread::scope(|scope| {
        // Whoever is killed leaves answers behind that nobody waits for.
        let killed = scope.spawn(|| {
            for _ in 0..20 {
                let mut find = Command::new("find").arg(m.root()).args(["-size", "+1M"]).spawn();
                thread::sleep(Duration::from_millis(7));
                let find = find.as_mut().expect("start find");
                find.kill().and_then(|()| find.wait()).expect("kill");
            }
        });
        for room in [512, 4096, 65_536] {
            assert_eq!(list(room), 1502);
        }
        killed.join().expect("no panic");
    });
    for n in 0..1500 {
        fs::remove_file(m.path(name(n))).expect("remove");
    }
    wait_until("every removed file is reclaimed", || {
        let status = m.volume().vellum(&["status", "--json"]).arg(m.root()).succeeds();
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        status["inodes"] == 1 && status["unlinked"] == 0
    });
}

/// Trap 8: cookies are places in the directory, not counts: after any of them the listing goes on with
/// the same names, however many before it are gone.
#[test]
fn a_listing_goes_on_at_a_cookie_after_what_was_before_it_is_removed() {
    let Some(m) = Mounted::new() else { return };
    for n in 0..500 {
        fs::write(m.path(format!("file-{n}")), "").expect("create");
    }
    let dir = rustix::fs::open(m.root(), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())
        .expect("open the directory");
    let list = || {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut raw = RawDir::new(&dir, &mut space);
        let mut all = Vec::new();
        while let Some(entry) = raw.next() {
            let entry = entry.expect("read the directory");
            let name = entry.file_name().to_string_lossy().into_owned();
            all.push((name, entry.next_entry_cookie()));
        }
        all
    };
    let all = list();
    let cookies: BTreeSet<u64> = all.iter().map(|(_, cookie)| *cookie).collect();
    assert_eq!((all.len(), cookies.len()), (502, 502));
    assert!(cookies.iter().all(|cookie| *cookie != 0 && *cookie < 1 << 63));
    let (before, after) = all.split_at(250);
    for (name, _) in before.iter().filter(|(name, _)| name.starts_with("file-")) {
        fs::remove_file(m.path(name)).expect("remove");
    }
    let place = before.last().expect("250 of them").1;
    seek(&dir, SeekFrom::Start(place)).expect("seek");
    let rest: Vec<String> = list().into_iter().map(|(name, _)| name).collect();
    assert_eq!(rest, after.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
}

/// Trap 13: the locks of a sole mount are the kernel's: open-file-description locks and the detection of
/// deadlocks work.
#[test]
fn locks_of_descriptors_and_deadlocks_are_known() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    fs::write(&path, vec![0; 100]).expect("write");
    python(
        r"
import errno, fcntl, os, struct, sys, time
def ofd(fd, kind):
    lock = struct.pack('hhqqi4x', kind, os.SEEK_SET, 0, 10, 0)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock)
one, two = (os.open(sys.argv[1], os.O_RDWR) for _ in range(2))
ofd(one, fcntl.F_WRLCK)
try:
    ofd(two, fcntl.F_WRLCK)
    sys.exit('two descriptors of one process hold one lock')
except BlockingIOError:
    pass
os.close(one)
ofd(two, fcntl.F_WRLCK)
os.close(two)

fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX, 1, 0)
ready, tell = os.pipe()
child = os.fork()
if child == 0:
    fd = os.open(sys.argv[1], os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 1, 1)
    os.write(tell, b'x')
    fcntl.lockf(fd, fcntl.LOCK_EX, 1, 0)
    os._exit(0)
os.read(ready, 1)
time.sleep(0.3)
try:
    fcntl.lockf(fd, fcntl.LOCK_EX, 1, 1)
    sys.exit('a deadlock was not seen')
except OSError as error:
    assert error.errno == errno.EDEADLK, error
fcntl.lockf(fd, fcntl.LOCK_UN, 1, 0)
assert os.waitpid(child, 0)[1] == 0
",
        &[&path],
    );
}
