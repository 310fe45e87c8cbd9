//! What a crash of the daemon leaves.

use crate::harness::{Mounted, pattern, rounds};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

// [S-FSYNC-1]
#[test]
fn what_was_fsynced_survives_a_kill() {
    let Some(mut m) = Mounted::new() else { return };
    fs::create_dir_all(m.path("a/b")).expect("mkdir");
    for (name, len) in [("a/small", 10), ("a/b/inline", 4096), ("a/b/large", 20 << 20)] {
        let mut file = File::create(m.path(name)).expect("create");
        file.write_all(&pattern(3, 0, len)).expect("write");
        file.sync_all().expect("fsync");
    }
    fs::write(m.path("a/draft"), "renamed before the fsync").expect("write");
    fs::rename(m.path("a/draft"), m.path("a/final")).expect("rename");
    File::open(m.path("a")).expect("open").sync_all().expect("fsync of a directory");
    File::open(m.path("a/final")).expect("open").sync_all().expect("fsync");
    m.kill();
    m.mount_again();
    for (name, len) in [("a/small", 10), ("a/b/inline", 4096), ("a/b/large", 20 << 20)] {
        assert!(fs::read(m.path(name)).expect("read") == pattern(3, 0, len), "{name} differs");
    }
    assert_eq!(fs::read_to_string(m.path("a/final")).expect("read"), "renamed before the fsync");
    assert!(!m.path("a/draft").exists());
}

// [S-FSYNC-2]
#[test]
fn an_overwrite_with_fdatasync_survives_a_kill() {
    let Some(mut m) = Mounted::new() else { return };
    let path = m.path("f");
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("create");
    file.write_all_at(&pattern(1, 0, 1 << 20), 0).expect("write");
    file.sync_all().expect("fsync");
    let mut expected = pattern(1, 0, 1 << 20);
    for n in 0..20_u64 {
        let at = (n * 50_021) as usize;
        let bytes = pattern(100 + n, at as u64, 999);
        file.write_all_at(&bytes, at as u64).expect("write");
        expected[at..at + 999].copy_from_slice(&bytes);
    }
    file.sync_data().expect("fdatasync");
    drop(file);
    m.kill();
    m.mount_again();
    assert!(fs::read(&path).expect("read") == expected);
}

// [S-CRASH-1]
#[test]
fn kills_under_load_lose_nothing_fsynced_and_damage_nothing() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    let mut durable = BTreeMap::new();
    for round in 0..rounds("VELLUM_TEST_KILLS", 2) {
        let acknowledged = Mutex::new(std::mem::take(&mut durable));
        let root = m.root();
        thread::scope(|scope| {
            for worker in 0..4 {
                let (root, acknowledged) = (&root, &acknowledged);
                scope.spawn(move || load(root, round, worker, acknowledged));
            }
            thread::sleep(Duration::from_millis(1500 + 137 * u64::from(round % 7)));
            m.kill();
        });
        durable = acknowledged.into_inner().expect("no worker panicked");
        m.mount_again();
        assert!(!durable.is_empty(), "the load made nothing durable");
        verify(&m, &durable);
        m.unmount();
        m.volume().is_sound();
        m.mount_again();
        verify(&m, &durable);
    }
}

/// Contents by path: a seed and a length.
type Contents = BTreeMap<String, (u64, usize)>;

/// Writes files and fsyncs them, replaces some by rename, removes some - until the daemon dies.
fn load(root: &Path, round: u32, worker: u64, acknowledged: &Mutex<Contents>) {
    let dir = root.join(format!("r{round}-w{worker}"));
    if fs::create_dir(&dir).is_err() {
        return;
    }
    for n in 0.. {
        let seed = u64::from(round) << 40 | worker << 32 | n;
        let name = format!("f{}", n % 50);
        let key = format!("r{round}-w{worker}/{name}");
        let len = [10, 4096, 4097, 70_000, 1 << 20][(n % 5) as usize];
        // While it is being replaced nobody knows which version a crash leaves.
        acknowledged.lock().expect("no panic").remove(&key);
        if save(&dir, &name, seed, len).is_err() {
            return;
        }
        acknowledged.lock().expect("no panic").insert(key, (seed, len));
    }
}

fn save(dir: &Path, name: &str, seed: u64, len: usize) -> std::io::Result<()> {
    let draft = dir.join(format!("{name}.tmp"));
    let mut file = File::create(&draft)?;
    file.write_all(&pattern(seed, 0, len))?;
    file.sync_all()?;
    fs::rename(&draft, dir.join(name))?;
    File::open(dir)?.sync_all()
}

fn verify(m: &Mounted, durable: &Contents) {
    for (name, (seed, len)) in durable {
        let bytes = fs::read(m.path(name))
            .unwrap_or_else(|e| panic!("{name} was fsynced and is lost: {e}"));
        assert!(bytes == pattern(*seed, 0, *len), "{name} was fsynced and has other bytes");
    }
}

// [S-CRASH-2]
#[test]
fn after_a_kill_a_file_is_a_prefix_of_what_was_written() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    let path = m.path("log");
    let mut file = File::create(&path).expect("create");
    let written = pattern(5, 0, 24 << 20);
    for chunk in written.chunks(64 << 10) {
        file.write_all(chunk).expect("write");
    }
    m.kill();
    drop(file);
    m.mount_again();
    let found = match fs::read(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => panic!("the file is unreadable: {error}"),
    };
    assert!(written.starts_with(&found), "{} bytes are there, and they are no prefix", found.len());
}

// [S-FLUSH-1]
#[test]
fn writes_become_durable_by_themselves_within_seconds() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    let mut file = File::create(m.path("f")).expect("create");
    file.write_all(&pattern(8, 0, 100_000)).expect("write");
    thread::sleep(Duration::from_secs(5));
    m.kill();
    drop(file);
    m.mount_again();
    assert!(fs::read(m.path("f")).expect("read") == pattern(8, 0, 100_000));
}
