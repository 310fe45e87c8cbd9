//! Behaviour of the model that can be stated in a few lines; the rest is found by `linux.rs`.

use vellum_model::{
    Allocate, Attr, Call, Caller, Compare, Error, Fs, Kind, Limits, New, NodeId, RenameFlags,
    SetAttr, SetTime, Time, XattrMode, diff,
};

const ROOT: NodeId = NodeId::ROOT;

fn at(secs: i64) -> Time {
    Time::new(secs, 0)
}

fn fresh() -> Fs {
    Fs::new(New::perm(0o755), at(0))
}

fn file(fs: &mut Fs, name: &str, secs: i64) -> Attr {
    fs.create(ROOT, name.as_bytes(), New::perm(0o644), at(secs)).unwrap()
}

fn dir(fs: &mut Fs, parent: NodeId, name: &str, secs: i64) -> NodeId {
    fs.mkdir(parent, name.as_bytes(), New::perm(0o755), at(secs)).unwrap().node
}

/// (atime, mtime, ctime) in seconds.
fn times(fs: &Fs, node: NodeId) -> (i64, i64, i64) {
    let attr = fs.getattr(node).unwrap();
    (attr.atime.secs, attr.mtime.secs, attr.ctime.secs)
}

#[track_caller]
fn sound(fs: &Fs) {
    assert_eq!(fs.check(), Vec::<String>::new());
}

#[test]
fn create_stamps_node_and_parent() {
    let mut fs = fresh();
    let made = file(&mut fs, "f", 5);
    assert_eq!((times(&fs, made.node), made.btime), ((5, 5, 5), at(5)));
    assert_eq!(times(&fs, ROOT), (0, 5, 5));
    assert_eq!(fs.create(ROOT, b"f", New::perm(0), at(6)), Err(Error::Exists));
    assert_eq!(times(&fs, ROOT), (0, 5, 5));
}

#[test]
fn link_and_unlink_stamp_ctime_of_the_node_and_times_of_the_parent() {
    let mut fs = fresh();
    let node = file(&mut fs, "f", 1).node;
    assert_eq!(fs.link(node, ROOT, b"g", at(2)).unwrap().nlink, 2);
    assert_eq!((times(&fs, node), times(&fs, ROOT)), ((1, 1, 2), (0, 2, 2)));
    fs.unlink(ROOT, b"f", at(3)).unwrap();
    assert_eq!((times(&fs, node), times(&fs, ROOT)), ((1, 1, 3), (0, 3, 3)));
    sound(&fs);
}

#[test]
fn unlinked_node_lives_until_its_last_holder_lets_go() {
    let mut fs = fresh();
    let node = file(&mut fs, "f", 1).node;
    fs.open(node).unwrap();
    fs.hold(node).unwrap();
    fs.unlink(ROOT, b"f", at(2)).unwrap();
    assert_eq!(fs.getattr(node).unwrap().nlink, 0);
    fs.write(node, 0, b"still here", Caller::Privileged, at(3)).unwrap();
    assert_eq!(fs.link(node, ROOT, b"g", at(4)), Err(Error::NotFound));
    sound(&fs);
    fs.release(node).unwrap();
    assert_eq!(fs.read(node, 6, 9).unwrap(), b"here");
    fs.forget(node, 1).unwrap();
    assert_eq!(fs.getattr(node), Err(Error::Stale));
    assert_eq!(fs.write(node, 0, b"x", Caller::Privileged, at(5)), Err(Error::Stale));
    let next = file(&mut fs, "f", 6).node;
    assert_ne!(next, node);
}

#[test]
fn removed_directory_takes_no_entries() {
    let mut fs = fresh();
    let gone = dir(&mut fs, ROOT, "d", 1);
    fs.hold(gone).unwrap();
    fs.rmdir(ROOT, b"d", at(2)).unwrap();
    assert_eq!(fs.getattr(gone).unwrap().nlink, 0);
    assert_eq!(fs.create(gone, b"f", New::perm(0), at(3)), Err(Error::NotFound));
    assert_eq!(fs.mkdir(gone, b"e", New::perm(0), at(3)).unwrap_err(), Error::NotFound);
    assert_eq!(fs.readdir(gone), Err(Error::NotFound));
    assert_eq!(fs.tmpfile(gone, true, New::perm(0), at(3)), Err(Error::NotFound));
    sound(&fs);
}

#[test]
fn nameless_file_may_be_given_a_name_once_made() {
    let mut fs = fresh();
    let node = fs.tmpfile(ROOT, true, New::perm(0o600), at(1)).unwrap().node;
    assert_eq!(times(&fs, ROOT), (0, 0, 0));
    assert_eq!(fs.link(node, ROOT, b"f", at(2)).unwrap().nlink, 1);
    fs.unlink(ROOT, b"f", at(3)).unwrap();
    assert_eq!(fs.link(node, ROOT, b"f", at(4)), Err(Error::NotFound));
    sound(&fs);
}

#[test]
fn directories_count_subdirectories_through_renames() {
    let mut fs = fresh();
    let (a, b) = (dir(&mut fs, ROOT, "a", 1), dir(&mut fs, ROOT, "b", 1));
    let moved = dir(&mut fs, a, "sub", 2);
    fs.rename(a, b"sub", b, b"sub", RenameFlags::Replace, at(3)).unwrap();
    let links = |fs: &Fs, node| fs.getattr(node).unwrap().nlink;
    assert_eq!((links(&fs, ROOT), links(&fs, a), links(&fs, b)), (4, 2, 3));
    assert_eq!(fs.parent(moved), Ok(b));
    assert_eq!(
        (times(&fs, a), times(&fs, b), times(&fs, moved)),
        ((1, 3, 3), (1, 3, 3), (2, 2, 3))
    );
    file(&mut fs, "f", 4);
    fs.rename(ROOT, b"f", b, b"sub", RenameFlags::Exchange, at(5)).unwrap();
    assert_eq!((links(&fs, ROOT), links(&fs, b)), (5, 2));
    sound(&fs);
}

#[test]
fn rename_between_names_of_one_node_does_nothing() {
    let mut fs = fresh();
    let node = file(&mut fs, "f", 1).node;
    fs.link(node, ROOT, b"g", at(2)).unwrap();
    let before = fs.tree();
    fs.rename(ROOT, b"f", ROOT, b"g", RenameFlags::Replace, at(3)).unwrap();
    let all = Compare { times: true, access_times: true, ..Compare::default() };
    assert_eq!(diff(&before, &fs.tree(), all), Vec::<String>::new());
}

#[test]
fn rename_over_open_file_keeps_old_node_readable() {
    let mut fs = fresh();
    let old = file(&mut fs, "old", 1).node;
    fs.write(old, 0, b"old", Caller::Privileged, at(1)).unwrap();
    file(&mut fs, "new", 1);
    fs.open(old).unwrap();
    fs.rename(ROOT, b"new", ROOT, b"old", RenameFlags::Replace, at(2)).unwrap();
    assert_eq!((fs.getattr(old).unwrap().nlink, fs.read(old, 0, 9).unwrap()), (0, b"old".to_vec()));
    sound(&fs);
}

#[test]
fn rename_lists_every_error_that_holds() {
    let mut fs = fresh();
    let a = dir(&mut fs, ROOT, "a", 1);
    let b = dir(&mut fs, a, "b", 1);
    fs.create(b, b"f", New::perm(0), at(1)).unwrap();
    let rename = |from, old, to, new, flags| Call::Rename { from, old, to, new, flags };
    let onto_ancestor = rename(b, b"f".as_slice(), ROOT, b"a".as_slice(), RenameFlags::Replace);
    assert_eq!(fs.allowed_errors(&onto_ancestor), [Error::Exists, Error::IsDir, Error::NotEmpty]);
    let below_itself = rename(ROOT, b"a", b, b"x", RenameFlags::Replace);
    assert_eq!(fs.allowed_errors(&below_itself), [Error::Invalid]);
    let fine = rename(b, b"f", ROOT, b"f", RenameFlags::NoReplace);
    assert_eq!(fs.allowed_errors(&fine), []);
}

#[test]
fn limits_of_links_and_names_hold() {
    let limits = Limits { link_max: 3, name_max: 4, ..Limits::default() };
    let mut fs = fresh().with_limits(limits);
    dir(&mut fs, ROOT, "d", 1);
    assert_eq!(fs.mkdir(ROOT, b"e", New::perm(0), at(2)).unwrap_err(), Error::LinkMax);
    assert_eq!(fs.lookup(ROOT, b"12345"), Err(Error::NameTooLong));
    let node = file(&mut fs, "f", 2).node;
    fs.link(node, ROOT, b"g", at(2)).unwrap();
    fs.link(node, ROOT, b"h", at(2)).unwrap();
    assert_eq!(fs.link(node, ROOT, b"i", at(2)), Err(Error::LinkMax));
}

#[test]
fn set_group_id_directory_hands_down_group_and_bit() {
    let mut fs = fresh();
    let shared = SetAttr { perm: Some(0o2775), gid: Some(7), ..SetAttr::default() };
    fs.setattr(ROOT, &shared, Caller::Privileged, at(1)).unwrap();
    let made = file(&mut fs, "f", 2);
    assert_eq!((made.gid, made.perm), (7, 0o644));
    let sub = fs.mkdir(ROOT, b"d", New::perm(0o6755), at(2)).unwrap();
    assert_eq!((sub.gid, sub.perm), (7, 0o2755));
}

#[test]
fn chown_drops_set_id_bits_even_for_the_privileged() {
    let mut fs = fresh();
    for (perm, left) in [(0o6755, 0o755), (0o6644, 0o2644)] {
        let node =
            fs.create(ROOT, format!("{perm:o}").as_bytes(), New::perm(perm), at(1)).unwrap().node;
        fs.write(node, 0, b"x", Caller::Privileged, at(2)).unwrap();
        assert_eq!(fs.getattr(node).unwrap().perm, perm);
        let chown = SetAttr { uid: Some(3), ..SetAttr::default() };
        assert_eq!(fs.setattr(node, &chown, Caller::Privileged, at(3)).unwrap().perm, left);
    }
}

#[test]
fn unprivileged_write_and_truncation_drop_set_id_bits() {
    let mut fs = fresh();
    let node = fs.create(ROOT, b"f", New::perm(0o6755), at(1)).unwrap().node;
    fs.write(node, 0, b"", Caller::Unprivileged, at(2)).unwrap();
    assert_eq!((fs.getattr(node).unwrap().perm, times(&fs, node)), (0o6755, (1, 1, 1)));
    fs.write(node, 0, b"x", Caller::Unprivileged, at(2)).unwrap();
    assert_eq!(fs.getattr(node).unwrap().perm, 0o755);
    let again = SetAttr { perm: Some(0o4700), ..SetAttr::default() };
    fs.setattr(node, &again, Caller::Privileged, at(3)).unwrap();
    let cut = SetAttr { size: Some(0), ..SetAttr::default() };
    assert_eq!(fs.setattr(node, &cut, Caller::Unprivileged, at(4)).unwrap().perm, 0o700);
}

#[test]
fn truncation_stamps_also_at_the_same_size_unless_a_time_is_given() {
    let mut fs = fresh();
    let node = file(&mut fs, "f", 1).node;
    let truncate = SetAttr { size: Some(0), ..SetAttr::default() };
    fs.setattr(node, &truncate, Caller::Privileged, at(2)).unwrap();
    assert_eq!(times(&fs, node), (1, 2, 2));
    let timed = SetAttr { mtime: SetTime::Set(at(-9)), ..truncate };
    fs.setattr(node, &timed, Caller::Privileged, at(3)).unwrap();
    assert_eq!(times(&fs, node), (1, -9, 3));
    fs.setattr(node, &SetAttr::default(), Caller::Privileged, at(4)).unwrap();
    assert_eq!(times(&fs, node), (1, -9, 3));
}

#[test]
fn sparse_file_of_exabytes_reads_as_zeros_between_its_data() {
    let mut fs = fresh();
    let node = file(&mut fs, "f", 1).node;
    let far = 1 << 60;
    fs.write(node, far, b"end", Caller::Privileged, at(2)).unwrap();
    assert_eq!(fs.getattr(node).unwrap().size, far + 3);
    assert_eq!(fs.read(node, far - 2, 9).unwrap(), b"\0\0end");
    assert_eq!((fs.seek_data(node, 0), fs.seek_hole(node, 5)), (Ok(far), Ok(5)));
    assert_eq!(fs.seek_hole(node, far), Ok(far + 3));
    assert_eq!(fs.seek_data(node, far + 3), Err(Error::NoAddress));
    let max = fs.limits().file_size_max;
    assert_eq!(fs.write(node, max - 1, b"two", Caller::Privileged, at(3)), Ok(1));
    assert_eq!(fs.write(node, max, b"x", Caller::Privileged, at(3)), Err(Error::TooBig));
    let beyond = SetAttr { size: Some(max + 1), ..SetAttr::default() };
    assert_eq!(fs.setattr(node, &beyond, Caller::Privileged, at(4)), Err(Error::TooBig));
}

#[test]
fn bytes_cut_off_do_not_come_back() {
    let mut fs = fresh();
    let node = file(&mut fs, "f", 1).node;
    fs.write(node, 0, &[7; 9000], Caller::Privileged, at(2)).unwrap();
    for size in [10, 9000] {
        let resize = SetAttr { size: Some(size), ..SetAttr::default() };
        fs.setattr(node, &resize, Caller::Privileged, at(3)).unwrap();
    }
    let mut expected = vec![7; 10];
    expected.resize(9000, 0);
    assert_eq!(fs.read(node, 0, 10_000).unwrap(), expected);
    sound(&fs);
}

#[test]
fn punched_range_is_a_hole_and_reads_as_zeros() {
    let mut fs = fresh();
    let node = file(&mut fs, "f", 1).node;
    fs.write(node, 0, &[7; 3 * 4096], Caller::Privileged, at(2)).unwrap();
    fs.allocate(node, Allocate::PunchHole, 4000, 4200, Caller::Privileged, at(3)).unwrap();
    assert_eq!((fs.seek_hole(node, 0), fs.seek_data(node, 4096)), (Ok(4096), Ok(8192)));
    assert_eq!(fs.read(node, 3999, 2).unwrap(), [7, 0]);
    assert_eq!(fs.read(node, 8199, 2).unwrap(), [0, 7]);
    fs.allocate(node, Allocate::Extend, 20_000, 1, Caller::Privileged, at(3)).unwrap();
    assert_eq!(fs.getattr(node).unwrap().size, 20_001);
}

#[test]
fn append_tells_where_it_wrote() {
    let mut fs = fresh();
    let node = file(&mut fs, "f", 1).node;
    assert_eq!(fs.append(node, b"ab", Caller::Privileged, at(2)), Ok(0));
    assert_eq!(fs.append(node, b"cd", Caller::Privileged, at(2)), Ok(2));
    assert_eq!(fs.read(node, 0, 9).unwrap(), b"abcd");
}

#[test]
fn xattr_modes_and_namespaces_are_checked() {
    let mut fs = fresh();
    let node = file(&mut fs, "f", 1).node;
    let pipe = fs.mknod(ROOT, b"p", Kind::Fifo, 0, New::perm(0o600), at(1)).unwrap().node;
    let mut set = |node, name: &str, mode| {
        fs.setxattr(node, name.as_bytes(), b"v", mode, Caller::Privileged, at(2))
    };
    assert_eq!(set(node, "user.a", XattrMode::Replace), Err(Error::NoData));
    assert_eq!(set(node, "user.a", XattrMode::Create), Ok(()));
    assert_eq!(set(node, "user.a", XattrMode::Create), Err(Error::Exists));
    assert_eq!(set(pipe, "user.a", XattrMode::Any), Err(Error::Permission));
    assert_eq!(set(pipe, "trusted.a", XattrMode::Any), Ok(()));
    assert_eq!(set(node, "other.a", XattrMode::Any), Err(Error::NotSupported));
    assert_eq!(fs.listxattr(node), Ok(vec![b"user.a".to_vec()]));
    assert_eq!(times(&fs, node), (1, 1, 2));
    assert_eq!(fs.removexattr(node, b"user.a", at(3)), Ok(()));
    assert_eq!(fs.getxattr(node, b"user.a"), Err(Error::NoData));
}

#[test]
fn diff_names_what_differs() {
    let mut left = fresh();
    file(&mut left, "f", 1);
    let mut right = left.clone();
    let node = right.lookup(ROOT, b"f").unwrap().node;
    right.write(node, 1, b"x", Caller::Privileged, at(2)).unwrap();
    right.link(node, ROOT, b"g", at(2)).unwrap();
    let lines = diff(&left.tree(), &right.tree(), Compare::default());
    let about = |what: &str| lines.iter().any(|line| line.contains(what));
    assert!(
        about("/f: size 0 / 2") && about("/f: nlink 1 / 2") && about("/f: content"),
        "{lines:?}"
    );
    assert!(about("/g: only right"), "{lines:?}");
}
