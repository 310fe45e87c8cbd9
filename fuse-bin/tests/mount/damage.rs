//! Damaged bytes are reported, never returned.

use crate::harness::{Expect, Mounted, Volume, fails, pattern};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Sixteen bytes that occur nowhere else.
const MARK: &[u8; 16] = b"\xd7here-be-damage\x1d";

// [S-DAMAGE-1]
#[test]
fn a_flipped_bit_is_eio_there_and_nowhere_else() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    let mut bytes = pattern(6, 0, 8 << 20);
    let at = 5 << 20;
    bytes[at..at + MARK.len()].copy_from_slice(MARK);
    fs::write(m.path("victim"), &bytes).expect("write");
    fs::write(m.path("bystander"), pattern(7, 0, 8 << 20)).expect("write");
    m.unmount();
    flip_a_bit(&m.volume().path());

    let error = m.volume().vellum(&["fsck", "--data"]).arg(m.volume().path()).exits_with(8);
    let report =
        m.volume().vellum(&["fsck", "--data"]).arg(m.volume().path()).output().expect("it runs");
    let said = String::from_utf8_lossy(&report.stdout).into_owned() + &error;
    assert!(
        said.contains("checksum") || said.contains("damaged"),
        "the report does not say what: {said}"
    );

    m.mount_again();
    let file = File::open(m.path("victim")).expect("open");
    fails(file.read_exact_at(&mut [0; 16], at as u64), Errno::IO);
    let mut far = vec![0; 1 << 20];
    file.read_exact_at(&mut far, 0).expect("bytes far from the damage");
    assert!(far == bytes[..1 << 20], "bytes far from the damage differ");
    assert!(fs::read(m.path("bystander")).expect("read") == pattern(7, 0, 8 << 20));
}

// [S-FORMAT-2]
#[test]
fn a_file_of_rubbish_in_place_of_a_volume_is_refused() {
    let Some(volume) = Volume::for_daemon() else { return };
    fs::create_dir(volume.mnt()).expect("mkdir");
    fs::write(volume.path(), pattern(1, 0, 100_000)).expect("write");
    for verb in ["mount", "fsck", "format"] {
        refused(&volume, verb);
    }
    assert_eq!(fs::read(volume.path()).expect("read"), pattern(1, 0, 100_000));
}

// [S-FORMAT-2]
#[test]
fn a_volume_of_a_future_format_is_refused_and_left_alone() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    fs::write(m.path("f"), "precious").expect("write");
    m.unmount();
    let identity = m.volume().path().join("VELLUM");
    let now = fs::read_to_string(&identity).expect("read the identity");
    let future = now.replace("format 1\n", "format 999\n");
    assert_ne!(now, future, "the identity names its format");
    fs::write(&identity, &future).expect("write the identity");
    for verb in ["mount", "fsck", "format"] {
        let error = refused(m.volume(), verb);
        assert!(error.contains("999"), "{verb} does not name the format: {error}");
    }
    assert_eq!(fs::read_to_string(&identity).expect("read the identity"), future);
    fs::write(&identity, now).expect("write the identity");
    m.mount_again();
    assert_eq!(fs::read_to_string(m.path("f")).expect("read"), "precious");
}

#[test]
fn a_ruined_metadata_store_is_an_error_and_no_crash() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    fs::write(m.path("f"), "x").expect("write");
    m.unmount();
    let meta = m.volume().path().join("meta.redb");
    let sound = fs::read(&meta).expect("read the metadata store");
    let ruins = [
        ("emptied", Vec::new()),
        ("half", sound[..sound.len() / 2].to_vec()),
        ("noise", pattern(1, 0, sound.len())),
    ];
    for (how, ruin) in ruins {
        fs::write(&meta, ruin).expect("ruin it");
        for verb in ["mount", "fsck"] {
            let error = refused(m.volume(), verb);
            assert!(!error.is_empty(), "{verb} of a store that is {how} says nothing");
        }
    }
    fs::write(&meta, sound).expect("restore it");
    m.mount_again();
    assert_eq!(fs::read_to_string(m.path("f")).expect("read"), "x");
}

/// Runs a verb that must refuse the volume with one of the documented codes; what it said.
#[track_caller]
fn refused(volume: &Volume, verb: &str) -> String {
    let mut command = volume.vellum(&[verb]);
    if verb == "mount" {
        // In the background, so that a mount that should not be returns, too.
        command.arg("-d").arg(volume.path()).arg(volume.mnt());
    } else {
        command.arg(volume.path());
    }
    let output = command.output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code();
    assert!(code.is_some_and(|c| (1..=10).contains(&c)), "{command:?}: {output:?}");
    assert!(!error.contains("panicked"), "{command:?}: {error}");
    error
}

/// Changes one bit of [`MARK`] where it lies in some file below.
fn flip_a_bit(dir: &Path) {
    let (path, at) = find(dir).expect("the mark is on disk, uncompressed");
    let file = File::options().read(true).write(true).open(path).expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 4], at).expect("write");
    file.sync_all().expect("fsync");
}

fn find(dir: &Path) -> Option<(PathBuf, u64)> {
    for entry in fs::read_dir(dir).expect("readdir") {
        let path = entry.expect("readdir").path();
        if path.is_dir() {
            if let Some(found) = find(&path) {
                return Some(found);
            }
        } else if path.is_file() {
            let bytes = fs::read(&path).expect("read");
            if let Some(at) = bytes.windows(MARK.len()).position(|w| w == MARK) {
                return Some((path, at as u64));
            }
        }
    }
    None
}
