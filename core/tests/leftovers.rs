//! What was begun and given up leaves nothing behind: no removed inode, no segment.

mod world;

use vellum_core::client::ClientConfig;
use vellum_core::data::fold::Policy;
use vellum_core::error::FsError;
use vellum_core::id::{Handle, Ino, SessionId};
use vellum_core::port::control::{Answer, Control};
use vellum_core::port::kernel::{OpenFlags, Operation, Reply};
use world::World;

type File = (Ino, Handle);

const KIB: usize = 1 << 10;
const SECOND: u64 = 1_000_000_000;

fn world(compaction: Policy) -> World {
    World::with(ClientConfig { compaction, ..ClientConfig::sole(SessionId(7), 1) })
}

/// A file of 256 KiB in one segment.
fn file(w: &mut World, name: &str) -> File {
    let f = w.create(Ino::ROOT, name).expect("create");
    w.write(f, 0, &[1; 256 * KIB]).expect("write");
    w.fsync(f).expect("fsync");
    f
}

/// open(2) of `f` with O_CREAT.
fn create(flags: u32) -> Operation {
    Operation::Create {
        parent: Ino::ROOT,
        name: "f".into(),
        mode: 0o644,
        umask: 0,
        flags: OpenFlags(flags),
    }
}

/// Inodes and generations that wait for reclaim.
fn waiting(w: &mut World) -> u64 {
    match w.control(Control::Status) {
        Answer::Status(status) => status.unlinked,
        other => panic!("{other:?}"),
    }
}

fn sound(w: &mut World) {
    let problems = w.check().problems;
    assert!(problems.is_empty(), "{problems:?}");
}

/// Whoever created it has it open, though another found and removed it before the creation was answered.
#[test]
fn a_file_that_is_removed_before_its_creation_is_answered_is_there_until_it_is_closed() {
    let mut w = world(Policy::default());
    w.slow_commits = true;
    let created = w.send(create(0o302));
    // The first commit of a mount takes inode numbers.
    assert!(w.commit_next());
    let unheard = w.unheard();
    w.slow_commits = false;
    w.unlink(Ino::ROOT, "f").expect("unlink");
    w.wait(2 * SECOND);
    w.hear(unheard);
    let Some(Reply::Created { entry, opened }) = w.reply_to(created) else { panic!("created") };
    let ino = entry.attr.expect("an inode").ino;
    let f = (ino, opened.handle);
    w.write(f, 0, b"there").expect("write");
    w.fsync(f).expect("fsync");
    assert_eq!(w.read_at(f, 0, 5).expect("read"), b"there");
    assert_eq!(w.attr(ino).expect("stat").nlink, 0);
    assert_eq!(waiting(&mut w), 1);
    w.close(f).expect("close");
    w.forget(ino);
    assert_eq!(waiting(&mut w), 0);
    sound(&mut w);
}

/// Whoever saw the name just before it went makes a new file.
#[test]
fn a_create_opens_no_file_that_is_being_reclaimed() {
    let mut w = world(Policy::default());
    let f = file(&mut w, "f");
    w.close(f).expect("close");
    w.forget(f.0);
    w.slow_reads = true;
    let created = w.send(create(0o1102));
    let seen = w.unheard();
    w.slow_reads = false;
    w.slow_commits = true;
    w.send(Operation::Unlink { parent: Ino::ROOT, name: "f".into() });
    assert!(w.commit_next(), "the name goes, and the inode is being reclaimed");
    w.hear(seen);
    while w.commit_next() {}
    let reply = w.reply_to(created);
    let Some(Reply::Created { entry, opened }) = reply else { panic!("{reply:?}") };
    let g = (entry.attr.expect("an inode").ino, opened.handle);
    assert_ne!(g.0, f.0);
    w.slow_commits = false;
    w.wait(2 * SECOND);
    w.write(g, 0, b"there").expect("write");
    w.fsync(g).expect("fsync");
    assert_eq!((waiting(&mut w), w.pages.len()), (0, 0));
    sound(&mut w);
}

/// A close waits for a flush, the flush for a fold; nobody waits for the close any more.
#[test]
fn a_removed_file_is_reclaimed_when_a_close_of_it_was_given_up() {
    let policy = Policy {
        space_amplification_percent: 25,
        min_file_size: 0,
        garbage_slack: 0,
        ..Policy::default()
    };
    let mut w = world(policy);
    let (ino, handle) = file(&mut w, "f");
    w.unlink(Ino::ROOT, "f").expect("unlink");
    w.slow_commits = true;
    w.write((ino, handle), 0, &[2; 200 * KIB]).expect("write");
    let synced = w.send(Operation::Fsync { ino, handle, datasync: false });
    assert!(w.commit_next(), "the flush, and then a fold begins");
    assert!(matches!(w.reply_to(synced), Some(Reply::Done)));
    w.write((ino, handle), 0, &[3; 100]).expect("write");
    let closed = w.send(Operation::Flush { ino, handle });
    assert!(w.reply_to(closed).is_none(), "it waits for the fold");
    w.send(Operation::Interrupt { target: closed });
    assert!(matches!(w.reply_to(closed), Some(Reply::Error(FsError::Interrupted))));
    let released = w.send(Operation::Release { ino, handle });
    assert!(matches!(w.reply_to(released), Some(Reply::Done)));
    w.forget(ino);
    w.slow_commits = false;
    while w.commit_next() {}
    w.wait(2 * SECOND);
    assert_eq!((waiting(&mut w), w.pages.len()), (0, 0));
    sound(&mut w);
}

#[test]
fn a_flush_that_overtook_a_failed_one_leaves_no_segment() {
    let mut w = world(Policy { enabled: false, ..Policy::default() });
    let f = w.create(Ino::ROOT, "f").expect("create");
    for at in [0, 1 << 20] {
        // A write begins what failed before once more.
        w.appends_left = Some(0);
        w.write(f, at, &[1; 256 * KIB]).expect("write");
        w.appends_left = Some(0);
        w.fsync(f).expect_err("the older one cannot be written");
        assert_eq!(w.pages.len(), 0);
    }
    w.appends_left = None;
    w.fsync(f).expect("fsync");
    assert_eq!(w.pages.len(), 2);
    sound(&mut w);
}

#[test]
fn a_fold_that_finds_no_room_to_commit_leaves_no_segment() {
    let mut w = world(Policy { enabled: false, ..Policy::default() });
    let (ino, handle) = file(&mut w, "f");
    w.write((ino, handle), 0, &[2; 100 * KIB]).expect("write");
    w.fsync((ino, handle)).expect("fsync");
    assert_eq!(w.pages.len(), 2);
    w.kv_full = true;
    assert!(
        matches!(w.control(Control::Compact { ino }), Answer::Compacted(done) if done.folds == 0)
    );
    assert_eq!(w.pages.len(), 2);
    w.kv_full = false;
    assert!(
        matches!(w.control(Control::Compact { ino }), Answer::Compacted(done) if done.folds == 1)
    );
    w.wait(2 * SECOND);
    assert_eq!(w.pages.len(), 1, "all of it moved into one");
    sound(&mut w);
}
