//! What a file loses when its data or its owner changes: set-id bits and file capabilities.

use crate::harness::{Expect, Mounted, sh};
use rustix::fs::{FallocateFlags, XattrFlags, copy_file_range, fallocate, setxattr};
use rustix::io::Errno;
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

const CAPABILITY: &str = "security.capability";

/// CAP_NET_RAW, in the form of version 2.
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

type Change = fn(&Path);

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("stat").mode() & 0o7777
}

fn has_capability(path: &Path) -> bool {
    match rustix::fs::getxattr(path, CAPABILITY, &mut [0; 64]) {
        Ok(len) => len > 0,
        Err(error) => {
            assert_eq!(error, Errno::NODATA);
            false
        }
    }
}

fn run_as(user: u32, command: &[&str]) -> Command {
    let mut run = Command::new("setpriv");
    run.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "--"]);
    run.args(command);
    run
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

// [S-ATTR-2]
#[test]
fn set_id_bits_go_with_any_change_of_data_by_the_unprivileged() {
    let Some(m) = Mounted::new() else { return };
    fs::set_permissions(m.root(), Permissions::from_mode(0o777)).expect("chmod");
    let path = m.path("f");
    for change in [
        r#"printf x 1<> "$0""#,
        r#"printf x >> "$0""#,
        r#"truncate -s 3 "$0""#,
        r#"truncate -s 100000 "$0""#,
        r#": > "$0""#,
        r#"printf x | dd of="$0" conv=notrunc oflag=dsync seek=1000000 status=none"#,
        r#"chgrp 1000 "$0""#,
        r#"fallocate -l 100000 "$0""#,
        r#"fallocate -p -o 0 -l 3 "$0""#,
    ] {
        fs::write(&path, "some text").expect("write");
        chown(&path, Some(1000), Some(1000)).expect("chown");
        fs::set_permissions(&path, Permissions::from_mode(0o6775)).expect("chmod");
        run_as(1000, &["sh", "-euc", change, text(&path)]).succeeds();
        assert_eq!(mode(&path), 0o775, "{change}");
        fs::remove_file(&path).expect("unlink");
    }
}

// [S-ATTR-2]
#[test]
fn root_keeps_set_id_bits_but_for_a_change_of_owner() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    let mut file = File::create(&path).expect("create");
    file.set_permissions(Permissions::from_mode(0o6755)).expect("chmod");
    file.write_all(b"content").expect("write");
    file.set_len(3).expect("truncate");
    assert_eq!(mode(&path), 0o6755);
    chown(&path, Some(7), None).expect("chown");
    assert_eq!(mode(&path), 0o755);
    let dir = m.path("d");
    fs::create_dir(&dir).expect("mkdir");
    fs::set_permissions(&dir, Permissions::from_mode(0o6755)).expect("chmod");
    chown(&dir, Some(7), Some(7)).expect("chown");
    assert_eq!(mode(&dir), 0o6755, "a directory keeps them");
}

// [S-ATTR-4]
#[test]
fn file_capabilities_go_with_any_change_of_data_or_owner_by_anybody() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    let changes: [(&str, Change); 8] = [
        ("fallocate", |p| {
            let file = File::options().write(true).open(p).expect("open");
            fallocate(file, FallocateFlags::empty(), 0, 5_000).expect("fallocate");
        }),
        ("copy_file_range", |p| {
            let file = File::options().read(true).write(true).open(p).expect("open");
            let copied = copy_file_range(&file, Some(&mut 0), &file, Some(&mut 5), 3);
            assert_eq!(copied.expect("copy_file_range"), 3);
        }),
        ("write", |p| {
            let file = File::options().write(true).open(p).expect("open");
            file.write_all_at(b"x", 0).expect("write");
        }),
        ("append", |p| {
            File::options().append(true).open(p).expect("open").write_all(b"x").expect("write");
        }),
        ("truncate", |p| {
            File::options().write(true).open(p).expect("open").set_len(1).expect("truncate");
        }),
        ("O_TRUNC", |p| drop(File::create(p).expect("open"))),
        ("chown", |p| chown(p, Some(3), None).expect("chown")),
        ("chgrp", |p| chown(p, None, Some(3)).expect("chown")),
    ];
    for (name, change) in changes {
        fs::write(&path, "some text").expect("write");
        setxattr(&path, CAPABILITY, &NET_RAW, XattrFlags::empty()).expect("setxattr");
        assert!(has_capability(&path));
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("chmod");
        assert!(has_capability(&path), "a chmod leaves them");
        change(&path);
        assert!(!has_capability(&path), "after {name}");
    }
}

// [S-ATTR-2]
#[test]
fn a_set_user_id_program_runs_as_its_owner_until_somebody_writes_to_it() {
    let Some(m) = Mounted::by_daemon() else { return };
    fs::set_permissions(m.root(), Permissions::from_mode(0o755)).expect("chmod");
    let program = m.path("id");
    sh(&m, r#"cp "$(command -v id)" "$MNT/id"; chown 4321:4321 "$MNT/id"; chmod 6775 "$MNT/id""#);
    let user = || run_as(1000, &[text(&program), "-u"]).succeeds();
    assert_eq!(user(), "4321\n");
    // The group may write. The kernel must not go by the mode that it knew.
    fs::set_permissions(&program, Permissions::from_mode(0o6777)).expect("chmod");
    run_as(2000, &["sh", "-c", r#"printf x >> "$0""#, text(&program)]).succeeds();
    assert_eq!(user(), "1000\n");
    assert_eq!(mode(&program), 0o777);
}

/// What another user than the owner and root does to a program's file: each change keeps it a program.
const BY_ANOTHER: [(&str, Change); 3] = [
    ("fallocate", |program| {
        let file = File::options().write(true).open(program).expect("open");
        let len = file.metadata().expect("stat").len();
        fallocate(file, FallocateFlags::empty(), 0, len + 5_000).expect("fallocate");
    }),
    ("copy_file_range", |program| {
        let file = File::options().read(true).write(true).open(program).expect("open");
        let mut end = file.metadata().expect("stat").len();
        let copied = copy_file_range(&file, Some(&mut 0), &file, Some(&mut end), 100);
        assert_eq!(copied.expect("copy_file_range"), 100);
    }),
    ("O_TRUNC", |program| {
        let content = fs::read(program).expect("read");
        File::create(program).expect("open").write_all(&content).expect("write");
    }),
];

// [S-ATTR-2]
#[test]
fn a_set_user_id_program_runs_as_its_caller_after_each_change_by_another() {
    let Some(m) = Mounted::by_daemon() else { return };
    fs::set_permissions(m.root(), Permissions::from_mode(0o755)).expect("chmod");
    let program = m.path("id");
    sh(&m, r#"cp "$(command -v id)" "$MNT/id"; chown 4321:4321 "$MNT/id""#);
    // This process had the file open: a program that another test starts at that moment has a copy of the
    // descriptor until it runs.
    let user = || {
        for _ in 0..1000 {
            let output = run_as(1000, &[text(&program), "-u"]).output().expect("setpriv");
            let error = String::from_utf8_lossy(&output.stderr);
            if !error.contains("Text file busy") {
                assert!(output.status.success(), "{error}");
                return String::from_utf8_lossy(&output.stdout).into_owned();
            }
        }
        panic!("the program stays busy");
    };
    for (name, change) in BY_ANOTHER {
        fs::set_permissions(&program, Permissions::from_mode(0o6777)).expect("chmod");
        assert_eq!(user(), "4321\n");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Of this thread only.
                let other = Uid::from_raw(2000);
                set_thread_res_uid(other, other, other).expect("setresuid");
                change(&program);
            });
        });
        // No stat before it: that would tell the kernel.
        assert_eq!(user(), "1000\n", "after {name}");
        assert_eq!(mode(&program), 0o777, "after {name}");
    }
}

/// The kernel asks for `security.capability` before it writes to a file that it knows nothing of, and then
/// no more: a question for each write would halve the rate of small ones.
#[test]
fn a_run_of_writes_asks_for_capabilities_once() {
    let Some(m) = Mounted::by_daemon() else { return };
    let file = File::create(m.path("f")).expect("create");
    let before = m.served();
    for n in 0..500 {
        file.write_all_at(&[7; 4096], n * 4096).expect("write");
    }
    let requests = m.served() - before;
    assert!((500..520).contains(&requests), "{requests} requests for 500 writes");
}
