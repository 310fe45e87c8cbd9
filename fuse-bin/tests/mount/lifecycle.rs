//! Mounting, unmounting, refusing, and dying.

use crate::harness::{Expect, Mounted, Volume, fails, is_mounted, pattern, wait_until};
use rustix::io::Errno;
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

#[test]
fn the_version_is_printed() {
    let Some(volume) = Volume::for_daemon() else { return };
    let version = volume.vellum(&["--version"]).succeeds();
    assert!(version.starts_with("vellum "), "{version}");
}

// [S-MOUNT-1]
#[test]
fn a_second_mount_of_a_volume_is_refused_as_busy() {
    let Some(m) = Mounted::by_daemon() else { return };
    let second = m.volume().beside("second");
    fs::create_dir(&second).expect("mkdir");
    let error = m.volume().vellum(&["mount"]).arg(m.volume().path()).arg(&second).exits_with(6);
    assert!(!error.is_empty(), "a refusal says why");
    m.volume().vellum(&["fsck"]).arg(m.volume().path()).exits_with(6);
    fs::write(m.path("f"), "the first mount is untouched").expect("write");
    assert!(!is_mounted(&second));
}

#[test]
fn a_missing_mountpoint_is_refused_and_named() {
    let Some(volume) = Volume::for_daemon() else { return };
    volume.format();
    let missing = volume.beside("missing");
    let error = volume.vellum(&["mount"]).arg(volume.path()).arg(&missing).exits_with(5);
    assert!(error.contains(missing.to_str().expect("UTF-8")), "{error}");
}

#[test]
fn a_mountpoint_that_is_a_file_is_refused() {
    let Some(volume) = Volume::for_daemon() else { return };
    volume.format();
    fs::write(volume.mnt(), "x").expect("write");
    let status =
        volume.vellum(&["mount"]).arg(volume.path()).arg(volume.mnt()).status().expect("it runs");
    assert!(!status.success());
}

#[test]
fn without_the_device_the_error_says_what_to_do() {
    let Some(volume) = Volume::for_daemon() else { return };
    volume.format();
    fs::create_dir(volume.mnt()).expect("mkdir");
    // In a mount namespace of its own, /dev is empty.
    let script = r#"mount -t tmpfs none /dev && exec "$0" mount "$1" "$2""#;
    let binary = volume.vellum(&[]).get_program().to_owned();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(binary).arg(volume.path()).arg(volume.mnt());
    let error = command.exits_with(7);
    assert!(error.contains("/dev/fuse") && error.contains("modprobe fuse"), "{error}");
}

// [S-MOUNT-2]
#[test]
fn a_volume_inside_its_own_mountpoint_is_refused() {
    let Some(volume) = Volume::for_daemon() else { return };
    let inside = volume.mnt().join("volume");
    fs::create_dir(volume.mnt()).expect("mkdir");
    volume.vellum(&["format"]).arg(&inside).succeeds();
    let mut command = volume.vellum(&["mount"]);
    let output = command.arg(&inside).arg(volume.mnt()).output().expect("it runs");
    assert!(!output.status.success(), "{output:?}");
    assert!(!output.stderr.is_empty(), "a refusal says why");
    assert!(!is_mounted(&volume.mnt()));
}

#[test]
fn what_is_no_volume_is_not_mounted() {
    let Some(volume) = Volume::for_daemon() else { return };
    fs::create_dir(volume.mnt()).expect("mkdir");
    fs::create_dir(volume.path()).expect("mkdir");
    fs::write(volume.beside("volume/unrelated"), "precious").expect("write");
    let output =
        volume.vellum(&["mount"]).arg(volume.path()).arg(volume.mnt()).output().expect("it runs");
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(volume.beside("volume/unrelated")).expect("read"), "precious");
}

// [S-FORMAT-1]
#[test]
fn formatting_a_volume_again_changes_nothing() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    fs::write(m.path("f"), "precious").expect("write");
    m.unmount();
    let output = m.volume().vellum(&["format"]).arg(m.volume().path()).output().expect("it runs");
    assert!(!output.status.success(), "a volume was formatted over: {output:?}");
    m.mount_again();
    assert_eq!(fs::read_to_string(m.path("f")).expect("read"), "precious");
}

// [S-MOUNT-3]
#[test]
fn the_corpse_of_a_killed_mount_is_detached_by_the_next() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    fs::write(m.path("f"), "x").expect("write");
    File::open(m.path("f")).expect("open").sync_all().expect("fsync");
    m.kill();
    fails(rustix::fs::statfs(m.root()).map(drop), Errno::NOTCONN);
    m.mount_again();
    assert_eq!(fs::read_to_string(m.path("f")).expect("read"), "x");
    m.unmount();
    assert!(!is_mounted(&m.root()));
    rustix::fs::statfs(m.root()).expect("no corpse is left below");
}

// [S-SIGNAL-1]
#[test]
fn terminate_flushes_and_unmounts() {
    for signal in [Signal::TERM, Signal::INT] {
        let Some(volume) = Volume::for_daemon() else { return };
        volume.format();
        let daemon = volume.mount(&[]);
        let mut file = File::create(volume.mnt().join("f")).expect("create");
        file.write_all(&pattern(4, 0, 3 << 20)).expect("write");
        drop(file);
        daemon.signal(signal);
        let (status, log) = daemon.ended();
        assert!(status.success(), "{signal:?} ended it with {status}:\n{log}");
        assert!(!is_mounted(&volume.mnt()));
        volume.is_sound();
        let _daemon = volume.mount(&[]);
        assert!(fs::read(volume.mnt().join("f")).expect("read") == pattern(4, 0, 3 << 20));
        volume.vellum(&["umount"]).arg(volume.mnt()).succeeds();
    }
}

// [S-MOUNT-4]
#[test]
fn a_daemon_mount_returns_when_the_mount_answers() {
    let Some(volume) = Volume::for_daemon() else { return };
    volume.format();
    fs::create_dir(volume.mnt()).expect("mkdir");
    volume.vellum(&["mount", "-d"]).arg(volume.path()).arg(volume.mnt()).succeeds();
    assert!(is_mounted(&volume.mnt()), "it returned before the mount answered");
    fs::write(volume.mnt().join("f"), "x").expect("write");
    volume.vellum(&["umount"]).arg(volume.mnt()).succeeds();
    wait_until("it is unmounted", || !is_mounted(&volume.mnt()));
    volume.is_sound();
}

#[test]
fn a_daemon_mount_that_fails_prints_the_reason_and_its_exit_code() {
    let Some(m) = Mounted::by_daemon() else { return };
    let second = m.volume().beside("second");
    fs::create_dir(&second).expect("mkdir");
    let error =
        m.volume().vellum(&["mount", "-d"]).arg(m.volume().path()).arg(&second).exits_with(6);
    assert!(!error.is_empty(), "the child's reason is not shown");
}

#[test]
fn an_unknown_option_or_verb_is_a_usage_error() {
    let Some(volume) = Volume::for_daemon() else { return };
    volume.vellum(&["frobnicate"]).exits_with(2);
    volume.format();
    fs::create_dir(volume.mnt()).expect("mkdir");
    volume
        .vellum(&["mount", "-o", "no_such_option"])
        .arg(volume.path())
        .arg(volume.mnt())
        .exits_with(2);
}

// [S-MOUNT-6]
#[test]
fn a_user_without_privilege_mounts_for_himself() {
    let Some(volume) = Volume::for_daemon() else { return };
    fs::copy(env!("CARGO_BIN_EXE_vellum"), volume.beside("program")).expect("copy the program");
    // Everybody may open the device where udev runs; here that is arranged, for this script only.
    let script = r#"
        mknod fuse c 10 229; chmod 666 fuse; mount --bind fuse /dev/fuse
        mkdir mnt; chown 65534:65534 . mnt; export XDG_RUNTIME_DIR="$PWD"
        nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
        nobody ./program mount -d --log-file log -o noexec,noatime volume mnt
        nobody sh -c 'echo mine > mnt/f; cat mnt/f'
        grep "vellum:$PWD/volume $PWD/mnt fuse.vellum rw,nosuid,nodev,noexec,noatime," /proc/self/mounts |
            grep default_permissions > /dev/null
        ls mnt 2>/dev/null && exit 3
        nobody ./program umount mnt"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-euc", script]).current_dir(volume.beside(""));
    let said = command.succeeds();
    assert!(said.starts_with("mounted ") && said.contains("\nmine\n"), "{said}");
    volume.is_sound();
}

// [S-MOUNT-5]
#[test]
fn a_read_only_mount_refuses_changes() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    fs::write(m.path("f"), "x").expect("write");
    m.unmount();
    let daemon = m.volume().mount(&["-o", "ro"]);
    assert_eq!(fs::read_to_string(m.path("f")).expect("read"), "x");
    fails(fs::write(m.path("g"), "y"), Errno::ROFS);
    fails(fs::remove_file(m.path("f")), Errno::ROFS);
    fails(File::options().write(true).open(m.path("f")), Errno::ROFS);
    m.volume().vellum(&["umount"]).arg(m.root()).succeeds();
    daemon.ended();
}

#[test]
fn info_and_status_speak_json() {
    let Some(m) = Mounted::by_daemon() else { return };
    fs::write(m.path("f"), pattern(1, 0, 1 << 20)).expect("write");
    File::open(m.path("f")).expect("open").sync_all().expect("fsync");
    for (verb, path) in [("info", m.path("f")), ("status", m.root())] {
        let text = m.volume().vellum(&[verb, "--json"]).arg(&path).succeeds();
        let json: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{verb}: {e}: {text}"));
        assert!(json.get("schema_version").is_some(), "{verb}: {text}");
        m.volume().vellum(&[verb]).arg(&path).succeeds();
    }
    m.volume().vellum(&["info"]).arg(m.path("missing")).exits_with(5);
}

#[test]
fn the_mount_table_names_the_filesystem() {
    let Some(m) = Mounted::by_daemon() else { return };
    let table = fs::read_to_string("/proc/self/mounts").expect("read the mount table");
    let root = m.root();
    let line =
        table.lines().find(|l| l.split(' ').nth(1) == root.to_str()).expect("it is in the table");
    assert!(line.starts_with("vellum:"), "{line}");
    assert_eq!(line.split(' ').nth(2), Some("fuse.vellum"), "{line}");
}
