//! A volume that may hold only so much: who is refused when, and what gives room again.

mod world;

use bytes::Bytes;
use std::time::Duration;
use vellum_core::client::ClientConfig;
use vellum_core::error::FsError;
use vellum_core::id::{Handle, Ino, RequestId, SessionId};
use vellum_core::port::control::{Answer, Control, Limit};
use vellum_core::port::kernel::{OpenFlags, Operation, Reply, StatFs, WriteFlags};
use world::World;

type File = (Ino, Handle);

const MIB: u64 = 1 << 20;

fn limited(bytes: Option<u64>, inodes: Option<u64>) -> World {
    let mut config = ClientConfig::sole(SessionId(7), 1);
    config.limit = Limit { bytes, inodes };
    World::with(config)
}

fn fill(w: &mut World, f: File, from: u64, len: u64) -> Result<(), FsError> {
    for at in (from..from + len).step_by(65_536) {
        w.write(f, at, &[7; 65_536])?;
    }
    Ok(())
}

fn statfs(w: &mut World) -> StatFs {
    match w.ask(Operation::StatFs { ino: Ino::ROOT }) {
        Ok(Reply::StatFs(statfs)) => statfs,
        other => panic!("{other:?}"),
    }
}

/// Bytes of the volume, as its counter says and as statfs shows them once nothing is buffered.
fn used(w: &mut World) -> u64 {
    let counted = match w.control(Control::Status) {
        Answer::Status(status) => (status.bytes, status.inodes),
        other => panic!("{other:?}"),
    };
    let shown = statfs(w);
    assert_eq!(shown.files - shown.files_free, counted.1, "inodes");
    let taken = (shown.blocks - shown.blocks_free) * 4096;
    assert_eq!(taken, counted.0.next_multiple_of(4096), "bytes");
    counted.0
}

/// [S-CAPACITY-1] [S-STATFS-1]
#[test]
fn a_write_beyond_the_capacity_is_refused_when_it_is_made() {
    let mut w = limited(Some(4 * MIB), None);
    let f = w.create(Ino::ROOT, "a").expect("create");
    fill(&mut w, f, 0, 4 * MIB).expect("fits");
    assert_eq!(statfs(&mut w).blocks_free, 0, "buffered bytes count");
    assert_eq!(w.write(f, 4 * MIB, b"x"), Err(FsError::NoSpace));
    assert_eq!(w.write(f, 4 * MIB - 1, b"x"), Ok(1), "what is there may be written again");
    w.fsync(f).expect("what was accepted fits");
    assert_eq!(w.write(f, 4 * MIB, b"x"), Err(FsError::NoSpace));
    assert_eq!(w.write(f, 0, &[8; 65_536]), Ok(65_536));
    w.fsync(f).expect("fsync");
    assert_eq!(used(&mut w), 4 * MIB);
    assert_eq!(w.attr(f.0).expect("attr").size, 4 * MIB);
    assert_eq!(w.read_at(f, 0, 1).expect("read"), [8]);
    assert!(w.check().problems.is_empty());
}

/// [S-CAPACITY-2]
#[test]
fn what_is_removed_cut_or_punched_gives_room_again() {
    let mut w = limited(Some(4 * MIB), None);
    let f = w.create(Ino::ROOT, "a").expect("create");
    let g = w.create(Ino::ROOT, "b").expect("create");
    fill(&mut w, f, 0, 4 * MIB).expect("fits");
    for round in 0..3 {
        assert_eq!(fill(&mut w, g, 0, MIB), Err(FsError::NoSpace), "round {round}");
        match round {
            0 => drop(w.truncate(f.0, 3 * MIB).expect("truncate")),
            1 => {
                let (ino, handle) = f;
                let op = Operation::Fallocate { ino, handle, offset: 0, len: MIB, mode: 3 };
                w.ask(op).expect("punch");
            }
            _ => {
                w.unlink(Ino::ROOT, "a").expect("unlink");
                w.close(f).expect("close");
                w.send(Operation::Forget { nodes: vec![(f.0, 1)] });
                w.wait(100_000_000);
            }
        }
        fill(&mut w, g, 0, MIB).expect("there is room again");
        w.fsync(g).expect("fsync");
        w.truncate(g.0, 0).expect("truncate");
        fill(&mut w, g, MIB, MIB).expect("there is room again");
        w.truncate(g.0, 0).expect("truncate");
        if round < 2 {
            let hole = [3 * MIB, 0][round];
            fill(&mut w, f, hole, MIB).expect("full again");
        }
    }
    w.fsync(g).expect("fsync");
    assert_eq!(used(&mut w), 0);
    assert!(w.check().problems.is_empty());
}

/// [S-CAPACITY-1] Many files at once, each with a little in its buffer.
#[test]
fn promises_to_buffers_never_exceed_the_capacity() {
    let mut w = limited(Some(MIB), None);
    let files: Vec<File> =
        (0..64).map(|n| w.create(Ino::ROOT, &format!("{n}")).expect("create")).collect();
    let mut accepted = 0;
    for round in 0..40u64 {
        for f in &files {
            match w.write(*f, round * 1000, &[1; 1000]) {
                Ok(n) => accepted += u64::from(n),
                Err(error) => assert_eq!(error, FsError::NoSpace),
            }
        }
    }
    assert!(accepted > MIB - 1000 && accepted <= MIB, "{accepted} bytes accepted");
    for f in &files {
        w.fsync(*f).expect("fsync");
    }
    assert_eq!(used(&mut w), accepted);
    assert!(w.check().problems.is_empty());
}

/// [S-CAPACITY-1] Allocation and copies are refused like writes; the remains of a file are not.
#[test]
fn allocation_and_copies_keep_to_the_capacity() {
    let mut w = limited(Some(2 * MIB), None);
    let f = w.create(Ino::ROOT, "a").expect("create");
    let g = w.create(Ino::ROOT, "b").expect("create");
    fill(&mut w, f, 0, MIB + 65_536).expect("fits");
    let (ino, handle) = f;
    let allocate = |len| Operation::Fallocate { ino, handle, offset: 0, len, mode: 0 };
    assert_eq!(w.ask(allocate(3 * MIB)).err(), Some(FsError::NoSpace));
    let copy = |len| Operation::CopyRange {
        ino,
        handle,
        offset: 0,
        to_ino: g.0,
        to_handle: g.1,
        to_offset: 0,
        len,
    };
    assert_eq!(w.ask(copy(2 * MIB)).err(), Some(FsError::NoSpace));
    assert!(matches!(w.ask(copy(65_536)), Ok(Reply::Copied(65_536))));
    w.fsync(f).expect("fsync");
    assert_eq!(used(&mut w), MIB + 2 * 65_536);
    assert!(w.check().problems.is_empty());
}

/// [S-CAPACITY-3]
#[test]
fn inodes_beyond_the_limit_are_refused() {
    let mut w = limited(None, Some(5));
    for n in 0..4 {
        w.mkdir(Ino::ROOT, &format!("{n}")).expect("the root and four");
    }
    assert_eq!(w.mkdir(Ino::ROOT, "x"), Err(FsError::NoSpace));
    assert_eq!(w.create(Ino::ROOT, "x").err(), Some(FsError::NoSpace));
    assert_eq!(w.mkdir(Ino::ROOT, "0"), Err(FsError::Exists));
    assert_eq!(statfs(&mut w).files, 5);
    assert_eq!(statfs(&mut w).files_free, 0);
    w.rmdir(Ino::ROOT, "0").expect("rmdir");
    let shown = w.lookup(Ino::ROOT, "1").expect("lookup").expect("there");
    assert!(shown.nlink > 0);
    w.remount();
    w.wait(100_000_000);
    w.mkdir(Ino::ROOT, "x").expect("there is room again");
}

/// [S-CAPACITY-4] The volume's own limit, and another one for a mount.
#[test]
fn a_mount_may_set_another_limit() {
    let mut w = limited(Some(MIB), None);
    w.remount_with(|config| config.limit = Limit { bytes: Some(8192), inodes: None });
    let f = w.create(Ino::ROOT, "a").expect("create");
    assert_eq!(w.write(f, 0, &[1; 8193]), Err(FsError::NoSpace));
    assert_eq!(w.write(f, 0, &[1; 8192]), Ok(8192));
    w.close(f).expect("close");
    w.remount_with(|config| config.limit = Limit { bytes: Some(u64::MAX), inodes: None });
    let f = w.open(f.0).expect("open");
    fill(&mut w, f, 0, 4 * MIB).expect("no limit");
    w.close(f).expect("close");
    w.remount_with(|config| config.limit = Limit { bytes: Some(8192), inodes: None });
    let f = w.open(f.0).expect("open");
    assert_eq!(w.write(f, 4 * MIB, &[1; 10]), Err(FsError::NoSpace), "more is there than may be");
    assert_eq!(statfs(&mut w).blocks_free, 0);
    assert_eq!(w.write(f, 0, &[1; 10]), Ok(10));
}

/// [S-CAPACITY-2] The kernel forgets a removed file a moment after it removed it.
#[test]
fn a_creation_waits_for_inodes_that_are_being_removed() {
    let mut w = limited(None, Some(2));
    let f = w.create(Ino::ROOT, "a").expect("the root and one");
    w.close(f).expect("close");
    w.unlink(Ino::ROOT, "a").expect("unlink");
    let create = |name: &'static str| Operation::MkDir {
        parent: Ino::ROOT,
        name: name.as_bytes().into(),
        mode: 0o755,
        umask: 0,
    };
    let id = w.send(create("b"));
    w.wait(100_000_000);
    assert!(w.reply_to(id).is_none(), "there is hope");
    w.send(Operation::Forget { nodes: vec![(f.0, 1)] });
    w.wait(100_000_000);
    assert!(matches!(w.reply_to(id), Some(Reply::Entry(_))));
    assert_eq!(w.ask(create("c")).err(), Some(FsError::NoSpace), "no hope");
}

/// [S-CAPACITY-1]
#[test]
fn a_write_to_a_full_volume_waits_for_all_that_was_removed() {
    let mut w = limited(Some(4 * MIB), None);
    let removed = ["a", "b"].map(|name| {
        let f = w.create(Ino::ROOT, name).expect("create");
        fill(&mut w, f, 0, 2 * MIB).expect("fits");
        w.fsync(f).expect("fsync");
        w.unlink(Ino::ROOT, name).expect("unlink");
        f
    });
    let f = w.create(Ino::ROOT, "c").expect("create");
    fill(&mut w, f, 0, 65_536).expect_err("full while they are open");
    w.slow_commits = true;
    for open in removed {
        w.close(open).expect("close");
        w.forget(open.0);
    }
    // Too much for what the first of them leaves.
    let flags = WriteFlags { from_cache: false, kill_suidgid: false, append: false };
    let data = vec![7; 1 << 20].into();
    let write = |offset| Operation::Write {
        ino: f.0,
        handle: f.1,
        offset,
        data: Bytes::clone(&data),
        flags,
    };
    let writes = [0, MIB, 2 * MIB].map(|at| w.send(write(at)));
    while w.commit_next() {}
    let replies = writes.map(|id| w.reply_to(id));
    assert!(replies.iter().all(|r| matches!(r, Some(Reply::Written(0x0010_0000)))), "{replies:?}");
}

/// A volume of two inodes, one of them removed, and somebody who asks for a file without a name.
fn asked_for_an_inode_too_many() -> (World, Ino, RequestId) {
    let mut w = limited(None, Some(2));
    let f = w.create(Ino::ROOT, "a").expect("create");
    w.close(f).expect("close");
    w.slow_commits = true;
    w.send(Operation::Unlink { parent: Ino::ROOT, name: "a".into() });
    assert!(w.commit_next(), "the name goes");
    let flags = OpenFlags(2);
    let made = w.send(Operation::TmpFile { parent: Ino::ROOT, mode: 0o600, umask: 0, flags });
    (w, f.0, made)
}

/// A process that was stopped has not waited.
#[test]
fn a_file_without_a_name_waits_for_inodes_that_were_removed_also_after_a_pause() {
    let (mut w, removed, made) = asked_for_an_inode_too_many();
    w.forget(removed);
    w.wait(100_000_000);
    w.now.mono = w.now.mono.after(Duration::from_secs(14));
    w.wait(100_000_000);
    assert!(w.reply_to(made).is_none(), "the inode is being reclaimed");
    while w.commit_next() {}
    w.slow_commits = false;
    w.wait(100_000_000);
    let reply = w.reply_to(made);
    assert!(matches!(reply, Some(Reply::Created { .. })), "{reply:?}");
}

/// However often it was stopped, it has waited in between.
#[test]
fn whoever_waits_for_room_is_refused_in_the_end_though_pauses_come_one_after_the_other() {
    let (mut w, _, made) = asked_for_an_inode_too_many();
    for _ in 0..20 {
        w.now.mono = w.now.mono.after(Duration::from_millis(600));
        w.wait(20_000_000);
    }
    let reply = w.reply_to(made);
    assert!(matches!(reply, Some(Reply::Error(FsError::NoSpace))), "{reply:?}");
}

/// [S-CAPACITY-1]
#[test]
fn a_file_without_a_name_waits_for_inodes_that_were_removed() {
    let (mut w, removed, made) = asked_for_an_inode_too_many();
    assert!(w.reply_to(made).is_none(), "the kernel is about to forget it");
    w.forget(removed);
    while w.commit_next() {}
    w.slow_commits = false;
    w.wait(100_000_000);
    let reply = w.reply_to(made);
    assert!(matches!(reply, Some(Reply::Created { .. })), "{reply:?}");
}
