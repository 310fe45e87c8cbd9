//! What mount(8), fstab and a guard do to a mount.

use crate::harness::{Expect, Mounted, Volume, fails, is_mounted, wait_until};
use rustix::io::Errno;
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

/// A script in a mount namespace of its own, in the volume's directory, where mount(8) finds our helpers.
/// `$VELLUM` is the program.
fn with_helpers(volume: &Volume, script: &str) -> String {
    let prepare = r#"
        mkdir mnt sbin; cp -a /sbin/. sbin
        ln -s "$VELLUM" sbin/mount.vellum; ln -s "$VELLUM" sbin/mount.fuse.vellum
        mount --bind sbin /sbin
        flags() { sed -n "s|^vellum:$PWD/volume $PWD/mnt fuse.vellum \([^ ]*\),user_id.*|\1|p" /proc/self/mounts; }
    "#;
    Command::new("unshare")
        .args(["--mount", "sh", "-euc", &format!("{prepare}{script}")])
        .env("VELLUM", env!("CARGO_BIN_EXE_vellum"))
        .current_dir(volume.beside(""))
        .succeeds()
}

// [S-MOUNT-7]
#[test]
fn a_line_of_fstab_mounts_and_mount_8_changes_its_flags() {
    let Some(volume) = Volume::for_daemon() else { return };
    let said = with_helpers(
        &volume,
        r#"
        echo "$PWD/volume $PWD/mnt vellum noauto,nosuid,noatime,x-systemd.automount 0 0" > fstab
        mount -T fstab "$PWD/mnt" > /dev/null
        flags; echo one > mnt/f
        mount -o remount,ro "$PWD/mnt"
        flags; (echo two > mnt/f) 2> /dev/null && exit 3
        mount -T fstab -o remount,rw "$PWD/mnt"
        flags; echo three > mnt/f
        mount -o remount,relatime,noexec "$PWD/mnt"
        flags; exec 3>> mnt/f
        mount -o remount,ro "$PWD/mnt" 2> /dev/null && exit 4
        exec 3>&-
        mount -o remount,dirty_max=64M "$PWD/mnt" 2> /dev/null && exit 5
        umount mnt
        mount -t vellum "$PWD/volume" "$PWD/mnt" > /dev/null
        flags; cat mnt/f
        "$VELLUM" umount mnt > /dev/null"#,
    );
    let expected = [
        "rw,nosuid,noatime",
        "ro,nosuid,noatime",
        "rw,nosuid,noatime",
        "rw,nosuid,noexec,relatime",
        "rw,relatime",
        "three",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    volume.is_sound();
}

// [S-MOUNT-7]
#[test]
fn what_was_mounted_read_only_does_not_become_writable_by_a_remount() {
    let Some(volume) = Volume::for_daemon() else { return };
    volume.format();
    let said = with_helpers(
        &volume,
        r#"
        mount -t vellum -o ro "$PWD/volume" "$PWD/mnt" > /dev/null
        mount -o remount,rw "$PWD/mnt" 2>&1 && exit 3
        flags
        mount -i -o remount,rw "$PWD/mnt"
        (echo x > mnt/f) 2> /dev/null && exit 4
        "$VELLUM" umount mnt > /dev/null"#,
    );
    assert!(said.contains("was mounted read-only") && said.ends_with("ro,relatime\n"), "{said}");
}

// [S-MOUNT-8]
#[test]
fn a_guard_unmounts_when_the_daemon_is_killed() {
    let Some(volume) = Volume::for_daemon() else { return };
    volume.format();
    let daemon = volume.mount(&["-o", "auto_unmount"]);
    let mut file = File::create(volume.mnt().join("f")).expect("create");
    file.write_all(b"x").and_then(|()| file.sync_all()).expect("write");
    daemon.signal(Signal::KILL);
    daemon.ended();
    fails(file.write_all(b"y"), Errno::NOTCONN);
    // The descriptor keeps the corpse alive, but not in the tree.
    wait_until("the guard has unmounted", || fs::read_dir(volume.mnt()).is_ok());
    assert!(!is_mounted(&volume.mnt()));
    drop(file);
    let daemon = volume.mount(&["-o", "auto_unmount"]);
    assert_eq!(fs::read(volume.mnt().join("f")).expect("read"), b"x");
    volume.vellum(&["umount"]).arg(volume.mnt()).succeeds();
    assert!(daemon.ended().0.success());
}

#[test]
fn an_aborted_connection_ends_the_daemon_and_leaves_a_sound_volume() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    fs::create_dir(m.path("d")).expect("mkdir");
    let connection = {
        use std::os::unix::fs::MetadataExt;
        rustix::fs::minor(fs::metadata(m.root()).expect("stat").dev())
    };
    let load: Vec<_> = (0..3)
        .map(|n| {
            let dir = m.path("d");
            std::thread::spawn(move || {
                for round in 0..1_000_000 {
                    let path = dir.join(format!("{n}-{}", round % 50));
                    let open = File::create(&path).and_then(|mut f| f.write_all(&[7; 5000]));
                    let listed = fs::read_dir(&dir).map(|entries| entries.flatten().count());
                    let gone = fs::remove_file(&path);
                    if open.is_err() && listed.is_err() && gone.is_err() {
                        return;
                    }
                }
                panic!("the connection was not aborted");
            })
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let abort = abort_file(connection);
    fs::write(&abort, "1").unwrap_or_else(|e| panic!("{}: {e}", abort.display()));
    for thread in load {
        thread.join().expect("load");
    }
    m.ends();
    m.volume().is_sound();
    m.mount_again();
    fs::write(m.path("d/after"), "x").expect("write");
    m.unmount();
    m.volume().is_sound();
}

/// The control filesystem of FUSE, mounted if it is not there.
fn abort_file(connection: u32) -> std::path::PathBuf {
    let dir = std::path::Path::new("/sys/fs/fuse/connections");
    if !dir.join(connection.to_string()).exists() {
        Command::new("mount").args(["-t", "fusectl", "fusectl"]).arg(dir).succeeds();
    }
    dir.join(connection.to_string()).join("abort")
}
