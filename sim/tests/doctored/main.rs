//! The judge against histories that were made up: what is right passes, and each way of being wrong is
//! named.

mod story;

use bytes::Bytes;
use vellum_core::error::FsError;
use vellum_core::id::{Handle, Ino};
use vellum_core::port::Point;
use vellum_core::port::control::Limit;
use vellum_core::port::kernel::{Attr, DirEntry, Operation, Reply, S_IFDIR, S_IFREG, SetAttr};
use vellum_core::port::meta_kv::{Commit, Version};
use vellum_core::time::WallTime;
use vellum_sim::check::Mercy;

use story::*;

#[test]
fn a_name_that_was_acknowledged_must_be_seen() {
    let mut story = Story::default();
    let (op, reply) = create();
    story.change(op, reply);
    story.step(lookup(), Reply::Entry(entry(None)));
    assert_eq!(story.judge(), Err("result"));
}

#[test]
fn a_name_that_is_being_made_may_be_seen_or_not() {
    for seen in [false, true] {
        let mut story = Story::default();
        let (op, reply) = create();
        let (making, looking) = (story.ask(op), story.ask(lookup()));
        let commit = story.commit();
        let found = seen.then(|| attr(FILE, S_IFREG | 0o644, 1, 0));
        story.answer(looking, Reply::Entry(entry(found)), Point::Step);
        story.answer(making, reply, Point::Commit(commit));
        assert_eq!(story.judge(), Ok(()), "seen: {seen}");
    }
}

#[test]
fn an_old_version_that_was_read_before_the_change_is_no_excuse() {
    let mut story = Story::default();
    let before = story.commit();
    let (op, reply) = create();
    story.change(op, reply);
    let looking = story.ask(lookup());
    story.answer(looking, Reply::Entry(entry(None)), Point::Snapshot(before.version));
    assert_eq!(story.judge(), Err("result"));
}

#[test]
fn a_change_must_take_effect_while_it_is_under_way() {
    let mut story = Story::default();
    let early = story.commit();
    let (op, reply) = create();
    let asked = story.ask(op);
    story.answer(asked, reply, Point::Commit(early));
    assert_eq!(story.judge(), Err("point-outside"));
}

#[test]
fn a_change_must_have_a_commit_that_the_store_made() {
    let mut story = Story::default();
    let (op, reply) = create();
    let asked = story.ask(op);
    let phantom = Commit { version: Version(77), batch: 0 };
    story.answer(asked, reply, Point::Commit(phantom));
    assert_eq!(story.judge(), Err("phantom-commit"));
}

#[test]
fn a_name_is_made_once() {
    let mut story = Story::default();
    for _ in 0..2 {
        let mkdir = Operation::MkDir { parent: Ino::ROOT, name: name("a"), mode: 0o755, umask: 0 };
        let made = Reply::Entry(entry(Some(attr(FILE, S_IFDIR | 0o755, 2, 0))));
        story.change(mkdir, made);
    }
    assert_eq!(story.judge(), Err("impossible-success"));
}

#[test]
fn a_read_shows_every_acknowledged_write() {
    let mut right = two_writes();
    let (op, reply) = read(b"firstsecond");
    right.step(op, reply);
    assert_eq!(right.judge(), Ok(()));
    let mut stale = two_writes();
    let (op, reply) = read(b"first");
    stale.step(op, reply);
    assert_eq!(stale.judge(), Err("read-data"));
    let mut torn = two_writes();
    let (op, reply) = read(b"firstsecoNd");
    torn.step(op, reply);
    assert_eq!(torn.judge(), Err("read-data"));
}

#[test]
fn after_a_crash_a_file_is_a_prefix_of_its_writes() {
    let mut story = two_writes();
    for content in [&b""[..], b"first", b"firstsecond"] {
        assert_eq!(story.recover(story.place, &with_file(content)), Ok(()), "{content:?}");
    }
    // The second write without the first, a part of a write, a byte of neither, a longer file.
    for content in [&b"\0\0\0\0\0second"[..], b"firstsec", b"firstsecoNd", b"firstsecond\0"] {
        let found = with_file(content);
        assert_eq!(story.recover(story.place, &found), Err("crash-content"), "{content:?}");
    }
}

#[test]
fn what_was_synced_is_there_after_a_crash() {
    let mut story = two_writes();
    story.step(fsync(), Reply::Done);
    let (op, reply) = write(11, b"third");
    story.step(op, reply);
    for content in [&b"firstsecond"[..], b"firstsecondthird"] {
        assert_eq!(story.recover(story.place, &with_file(content)), Ok(()), "{content:?}");
    }
    for content in [&b""[..], b"first"] {
        let found = with_file(content);
        assert_eq!(story.recover(story.place, &found), Err("crash-content"), "{content:?}");
    }
}

#[test]
fn a_file_that_others_saw_emptied_may_be_found_empty() {
    let mut story = emptied_without_an_answer();
    assert_eq!(story.recover(story.place, &with_file(b"")), Ok(()));
    for content in [&b"first"[..], b"firstsecond\0"] {
        let found = with_file(content);
        assert_eq!(story.recover(story.place, &found), Err("crash-content"), "{content:?}");
    }
    let (op, reply) = write(0, b"third");
    story.step(op, reply);
    for content in [&b""[..], b"third"] {
        assert_eq!(story.recover(story.place, &with_file(content)), Ok(()), "{content:?}");
    }
    let found = with_file(b"thirdsecond");
    assert_eq!(story.recover(story.place, &found), Err("crash-content"), "never emptied");
}

#[test]
fn one_listing_may_show_several_changes_that_were_never_answered() {
    let listed = |named: &[(&'static str, Ino)]| {
        let entries = named.iter().map(|(text, ino)| DirEntry {
            ino: *ino,
            cookie: ino.0,
            kind: S_IFREG,
            name: name(text),
            entry: Some(entry(Some(attr(*ino, S_IFREG | 0o644, 1, 0)))),
        });
        Reply::Entries(entries.collect())
    };
    let told = |shown: &[(&'static str, Ino)]| {
        let mut story = Story::default();
        let making: Vec<Asked> = ["a", "b"].map(|n| story.ask(open_of(n, 0o102))).into();
        for _ in &making {
            story.commit();
        }
        let look = Operation::ReadDir {
            ino: Ino::ROOT,
            handle: Handle(1),
            cookie: 2,
            room: 4096,
            plus: true,
        };
        let look = story.ask(look);
        story.answer(look, listed(shown), Point::Snapshot(Version(story.version)));
        making.into_iter().for_each(|asked| story.leave(asked));
        let mut judge = judge();
        let verdict = judge.judge_life(&mut story.epoch, &story.order, Mercy::default(), 0);
        verdict.map(|_| ()).map_err(|failure| failure.rule)
    };
    assert_eq!(told(&[("a", FILE), ("b", Ino(8))]), Ok(()));
    assert_eq!(told(&[("a", FILE), ("c", Ino(8))]), Err("listing-entry"), "nobody made it");
}

/// One truncate changes a size, the other one times only, and neither is answered.
#[test]
fn one_listing_may_show_changes_of_which_one_left_nothing_but_its_time() {
    const B: Ino = Ino(8);
    let later = WallTime::new(NOW.secs + 1, 0);
    let told = |size_of_a, time_of_b| {
        let mut story = Story::default();
        let (op, reply) = create();
        story.change(op, reply);
        let entry_of = |attr| entry(Some(attr));
        let opened = story.ask(open_of("b", 0o102));
        let commit = story.commit();
        let Reply::Created { opened: handle, .. } = create().1 else { panic!("created") };
        let made = entry_of(attr(B, S_IFREG | 0o644, 1, 0));
        story.answer(opened, Reply::Created { entry: made, opened: handle }, Point::Commit(commit));
        let set = |size| SetAttr { size: Some(size), ..SetAttr::default() };
        let truncates = [(FILE, 5), (B, 0)].map(|(ino, size)| {
            let asked = story.ask(Operation::SetAttr { ino, handle: None, set: set(size) });
            story.commit();
            asked
        });
        let shown = [("a", FILE, size_of_a, later), ("b", B, 0, time_of_b)];
        let entries = shown.map(|(text, ino, size, time)| {
            let attr = attr(ino, S_IFREG | 0o644, 1, size);
            let attr = Attr { mtime: time, ctime: time, ..attr };
            let (name, entry) = (name(text), Some(entry_of(attr)));
            DirEntry { ino, cookie: ino.0, kind: S_IFREG, name, entry }
        });
        let (handle, plus) = (Handle(1), true);
        let look = Operation::ReadDir { ino: Ino::ROOT, handle, cookie: 2, room: 4096, plus };
        let look = story.ask(look);
        story.answer(look, Reply::Entries(entries.into()), Point::Snapshot(Version(story.version)));
        truncates.into_iter().for_each(|asked| story.leave(asked));
        story.epoch.ended = WallTime::new(NOW.secs + 2, 0);
        let mut judge = judge();
        let verdict = judge.judge_life(&mut story.epoch, &story.order, Mercy::default(), 0);
        verdict.map(|_| ()).map_err(|failure| failure.rule)
    };
    assert_eq!(told(5, later), Ok(()));
    assert_eq!(told(6, later), Err("listing-entry"), "nobody made it so long");
    let never = WallTime::new(NOW.secs + 3, 0);
    assert!(told(5, never).is_err(), "nothing was changed then");
}

#[test]
fn a_copy_may_see_a_file_grown_without_an_answer() {
    let told = |size: u64| {
        let mut story = Story::default();
        let (op, reply) = create();
        story.change(op, reply);
        let set = SetAttr { size: Some(size), ..SetAttr::default() };
        let growing = story.ask(Operation::SetAttr { ino: FILE, handle: None, set });
        story.commit();
        let copy = Operation::CopyRange {
            ino: FILE,
            handle: Handle(1),
            offset: 0,
            to_ino: FILE,
            to_handle: Handle(1),
            to_offset: 200,
            len: 10,
        };
        story.change(copy, Reply::Copied(10));
        story.leave(growing);
        let mut judge = judge();
        let verdict = judge.judge_life(&mut story.epoch, &story.order, Mercy::default(), 0);
        verdict.map(|_| ()).map_err(|failure| failure.rule)
    };
    assert_eq!(told(100), Ok(()));
    assert_eq!(told(9), Err("copy-count"), "there is less");
}

#[test]
fn a_file_that_others_saw_emptied_and_synced_is_empty() {
    let mut story = emptied_without_an_answer();
    story.step(fsync(), Reply::Done);
    assert_eq!(story.recover(story.place, &with_file(b"")), Ok(()));
    let found = with_file(b"firstsecond");
    assert_eq!(story.recover(story.place, &found), Err("crash-content"), "what was there before");
}

#[test]
fn a_file_that_was_synced_keeps_its_name() {
    let mut story = two_writes();
    assert_eq!(story.recover(0, &empty()), Ok(()), "nothing was promised");
    let mut story = two_writes();
    story.step(fsync(), Reply::Done);
    assert_eq!(story.recover(0, &empty()), Err("durability"));
    assert_eq!(story.recover(story.place, &empty()), Err("crash-names"), "the commit was kept");
}

#[test]
fn a_failed_write_takes_set_ids_by_the_mode_of_its_time() {
    let mercy = Mercy { data_may_fail: true, ..Mercy::default() };
    let shown = |before, perm, mode| failed_write_between(before, perm, mode).judge_with(mercy);
    for mode in [0o6674, 0o2674] {
        assert_eq!(shown(0o6604, 0o674, mode), Ok(()), "{mode:o}: the group may execute since");
    }
    for mode in [0o6604, 0o604] {
        assert_eq!(shown(0o6674, 0o604, mode), Ok(()), "{mode:o}: the group could execute");
    }
    for mode in [0o4674, 0o674] {
        assert_eq!(shown(0o6604, 0o674, mode), Err("attributes"), "{mode:o}: no execution then");
    }
    for mode in [0o4604, 0o2604] {
        assert_eq!(shown(0o6674, 0o604, mode), Err("attributes"), "{mode:o}: execution then");
    }
}

/// A write that fails before (`early`) or after a file gets its capabilities, which are then made as new.
fn capabilities_twice(early: bool) -> Story {
    let mut story = Story::default();
    let (op, reply) = create();
    story.change(op, reply);
    for turn in [true, false] {
        if turn == early {
            let (write, _) = write(0, b"none");
            story.step(write, Reply::Error(FsError::NoSpace));
        }
        let (name, value) = (name("security.capability"), Bytes::from_static(b"some"));
        let set = Operation::SetXattr { ino: FILE, name, value, flags: 1, kill_sgid: false };
        story.change(set, Reply::Done);
    }
    story
}

#[test]
fn capabilities_are_new_only_where_a_failed_write_could_take_them() {
    let mercy = Mercy { data_may_fail: true, ..Mercy::default() };
    assert_eq!(capabilities_twice(false).judge_with(mercy), Ok(()), "the write had taken them");
    assert_eq!(capabilities_twice(true).judge_with(mercy), Err("impossible-success"), "too early");
}

/// A write takes a file's capabilities, and its bytes are lost; making new ones is never answered.
#[test]
fn capabilities_may_be_new_after_a_crash_though_the_write_that_took_the_old_ones_is_lost() {
    let set = |value| Operation::SetXattr {
        ino: FILE,
        name: name("security.capability"),
        value: Bytes::from_static(value),
        flags: 1,
        kill_sgid: false,
    };
    let mut story = Story::default();
    let (op, reply) = create();
    story.change(op, reply);
    story.change(set(b"old"), Reply::Done);
    let (op, reply) = write(0, b"lost");
    story.step(op, reply);
    let making = story.ask(set(b"new"));
    story.commit();
    story.leave(making);
    for (value, verdict) in [(&b"new"[..], Ok(())), (b"other", Err("crash-names"))] {
        let mut found = with_file(b"");
        let file = found.nodes.get_mut(&FILE).expect("just made");
        file.xattrs.insert(name("security.capability"), Bytes::from_static(value));
        assert_eq!(story.recover(story.place, &found), verdict, "{value:?}");
    }
}

/// An attribute of 106 bytes is removed, and a write of 100 is refused, before (`early`) or after the
/// removal is answered.
fn refused_while_room_is_made(early: bool) -> Story {
    const VALUE: &[u8] = &[7; 100];
    let mut story = Story::default();
    let (op, reply) = create();
    story.change(op, reply);
    let (name, value) = (name("user.a"), Bytes::from_static(VALUE));
    let set =
        Operation::SetXattr { ino: FILE, name: name.clone(), value, flags: 0, kill_sgid: false };
    story.change(set, Reply::Done);
    let removal = story.ask(Operation::RemoveXattr { ino: FILE, name });
    let commit = story.commit();
    let (write, _) = write(0, VALUE);
    if early {
        story.step(write, Reply::Error(FsError::NoSpace));
        story.answer(removal, Reply::Done, Point::Commit(commit));
    } else {
        story.answer(removal, Reply::Done, Point::Commit(commit));
        story.step(write, Reply::Error(FsError::NoSpace));
    }
    story
}

#[test]
fn what_is_promised_to_a_copy_under_way_is_not_there_for_others() {
    let limit = Limit { bytes: Some(150), inodes: None };
    let told = |len: u64| {
        let mut story = Story::default();
        let (op, reply) = create();
        story.change(op, reply);
        let copy = Operation::CopyRange {
            ino: FILE,
            handle: Handle(1),
            offset: 1000,
            to_ino: FILE,
            to_handle: Handle(1),
            to_offset: 0,
            len,
        };
        let copying = story.ask(copy);
        let (write, _) = write(0, &[7; 100]);
        story.step(write, Reply::Error(FsError::NoSpace));
        story.answer(copying, Reply::Copied(0), Point::Step);
        story.judge_with(Mercy { limit, ..Mercy::default() })
    };
    assert_eq!(told(100), Ok(()));
    assert_eq!(told(50), Err("unexplained-error"), "both fit");
}

#[test]
fn a_full_volume_is_full_until_the_machine_knows_better() {
    let limit = Limit { bytes: Some(150), inodes: None };
    let mercy = Mercy { limit, ..Mercy::default() };
    assert_eq!(refused_while_room_is_made(true).judge_with(mercy), Ok(()));
    assert_eq!(refused_while_room_is_made(false).judge_with(mercy), Err("unexplained-error"));
}
