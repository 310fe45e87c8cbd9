//! Pipes, sockets and device nodes.

use crate::harness::{Mounted, sh};
use rustix::fs::{CWD, FileType, Mode, major, makedev, minor, mknodat};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

// [S-NODE-1]
#[test]
fn nodes_keep_their_kind_mode_and_device_number() {
    let Some(mut m) = Mounted::new() else { return };
    let mode = Mode::from_raw_mode(0o640);
    mknodat(CWD, m.path("fifo"), FileType::Fifo, mode, 0).expect("mkfifo");
    mknodat(CWD, m.path("socket"), FileType::Socket, mode, 0).expect("mknod of a socket");
    mknodat(CWD, m.path("char"), FileType::CharacterDevice, mode, makedev(1, 3))
        .expect("mknod c 1 3");
    mknodat(CWD, m.path("block"), FileType::BlockDevice, mode, makedev(300, 70_000))
        .expect("mknod b 300 70000");
    mknodat(CWD, m.path("regular"), FileType::RegularFile, mode, 0).expect("mknod of a file");
    for _ in 0..2 {
        let meta = |name: &str| fs::symlink_metadata(m.path(name)).expect("lstat");
        assert!(meta("fifo").file_type().is_fifo());
        assert!(meta("socket").file_type().is_socket());
        assert!(meta("char").file_type().is_char_device());
        assert!(meta("block").file_type().is_block_device());
        assert!(meta("regular").is_file());
        assert_eq!(meta("fifo").mode() & 0o7777, 0o640);
        assert_eq!((major(meta("char").rdev()), minor(meta("char").rdev())), (1, 3));
        assert_eq!((major(meta("block").rdev()), minor(meta("block").rdev())), (300, 70_000));
        m.remount();
    }
    for name in ["fifo", "socket", "char", "block", "regular"] {
        fs::remove_file(m.path(name)).expect("unlink");
    }
}

#[test]
fn bytes_pass_through_a_pipe() {
    let Some(m) = Mounted::new() else { return };
    assert_eq!(
        sh(&m, r#"mkfifo "$MNT/p"; echo through > "$MNT/p" & cat "$MNT/p"; wait"#),
        "through\n"
    );
}

#[test]
fn processes_meet_at_a_socket() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("s");
    let listener = UnixListener::bind(&path).expect("bind");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        stream.write_all(b"hello").expect("write");
    });
    let mut text = String::new();
    UnixStream::connect(&path).expect("connect").read_to_string(&mut text).expect("read");
    server.join().expect("the server ends");
    assert_eq!(text, "hello");
    assert!(UnixListener::bind(&path).is_err(), "the name is taken");
}
