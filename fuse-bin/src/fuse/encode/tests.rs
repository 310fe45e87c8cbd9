//! Answers byte by byte, and what is given back when they are not delivered.

use super::*;
use vellum_core::port::kernel::{S_IFCHR, S_IFDIR, S_IFREG};
use zerocopy::FromBytes;

fn attr(ino: u64, mode: u32) -> Attr {
    Attr {
        ino: Ino(ino),
        mode,
        nlink: 2,
        uid: 3,
        gid: 4,
        rdev: 0,
        size: 5,
        blocks: 6,
        atime: WallTime::new(-2, 7),
        mtime: WallTime::new(8, 9),
        ctime: WallTime::new(10, 11),
        btime: WallTime::new(-12, 13),
    }
}

fn entry(ino: u64) -> Entry {
    Entry {
        attr: Some(attr(ino, S_IFREG | 0o644)),
        entry_valid: Duration::from_millis(1500),
        attr_valid: Duration::from_secs(3),
    }
}

fn negative(valid: Duration) -> Entry {
    Entry { attr: None, entry_valid: valid, attr_valid: Duration::ZERO }
}

fn opened() -> Opened {
    Opened {
        handle: Handle(9),
        keep_cache: true,
        direct_io: false,
        cache_dir: true,
        no_flush: true,
    }
}

fn dir_entry(cookie: u64, name: &'static str, found: Option<Entry>) -> DirEntry {
    DirEntry { ino: Ino(100 + cookie), cookie, kind: S_IFDIR, name: name.into(), entry: found }
}

/// The whole message; its header must say its length.
fn wire(shape: Shape, reply: &Reply) -> (i32, Vec<u8>) {
    let encoded = encode(77, shape, reply);
    let mut all = encoded.head.to_vec();
    match encoded.body {
        Body::Bytes(bytes) => all.extend_from_slice(bytes),
        Body::Owned(bytes) => all.extend_from_slice(&bytes),
        Body::Pieces(pieces) => {
            for piece in pieces {
                match piece {
                    Piece::Bytes(bytes) => all.extend_from_slice(bytes),
                    Piece::Zeros(n) => all.resize(all.len() + *n as usize, 0),
                }
            }
        }
    }
    let (header, body) = abi::OutHeader::read_from_prefix(&all).expect("a header");
    assert_eq!((header.len as usize, header.unique), (all.len(), 77));
    (header.error, body.to_vec())
}

#[test]
fn an_entry_carries_both_validities_apart() {
    let (error, body) = wire(Shape::Entry, &Reply::Entry(entry(8)));
    let out = abi::EntryOut::read_from_bytes(&body).expect("fuse_entry_out");
    assert_eq!((error, out.nodeid, out.generation), (0, 8, 0));
    assert_eq!((out.entry_valid, out.entry_valid_nsec), (1, 500_000_000));
    assert_eq!((out.attr_valid, out.attr_valid_nsec), (3, 0));
    assert_eq!((out.attr.ino, out.attr.mode, out.attr.blksize), (8, S_IFREG | 0o644, 4096));
    assert_eq!((out.attr.atime as i64, out.attr.atimensec), (-2, 7));
    let (_, body) = wire(Shape::Created, &Reply::Created { entry: entry(8), opened: opened() });
    assert_eq!(body.len(), 128 + 16);
    let out = abi::OpenOut::read_from_bytes(&body[128..]).expect("fuse_open_out");
    assert_eq!(
        (out.fh, out.open_flags),
        (9, fopen::KEEP_CACHE | fopen::CACHE_DIR | fopen::NOFLUSH)
    );
}

#[test]
fn a_name_that_is_not_there_is_enoent_unless_that_may_be_remembered() {
    let (error, body) = wire(Shape::Entry, &Reply::Entry(negative(Duration::ZERO)));
    assert_eq!((error, body.len()), (-ENOENT, 0));
    let (error, body) = wire(Shape::Entry, &Reply::Entry(negative(Duration::from_secs(1))));
    let out = abi::EntryOut::read_from_bytes(&body).expect("fuse_entry_out");
    assert_eq!((error, out.nodeid, out.entry_valid), (0, 0, 1));
}

#[test]
fn statx_tells_the_birth_time_and_the_parts_of_a_device_number() {
    let mut node = attr(8, S_IFCHR | 0o600);
    node.rdev = 0x12 << 8 | 0x34 | 0x5600 << 12;
    let reply = Reply::Attr { attr: node, valid: Duration::from_secs(1) };
    let (_, body) = wire(Shape::Statx, &reply);
    let out = abi::StatxOut::read_from_bytes(&body).expect("fuse_statx_out").stat;
    assert_eq!((out.btime.tv_sec, out.btime.tv_nsec, out.mask), (-12, 13, 0xfff));
    assert_eq!((out.rdev_major, out.rdev_minor), (0x12, 0x5634));
    let (_, body) = wire(Shape::Attr, &reply);
    assert_eq!(abi::AttrOut::read_from_bytes(&body).expect("fuse_attr_out").attr.rdev, node.rdev);
}

#[test]
fn data_goes_out_in_its_pieces_with_the_length_of_all() {
    let pieces = [Piece::Bytes("ab".into()), Piece::Zeros(70_000), Piece::Bytes("c".into())];
    let (error, body) = wire(Shape::Data, &Reply::Data(pieces.into_iter().collect()));
    assert_eq!((error, body.len()), (0, 70_003));
    assert!(body.starts_with(b"ab\0") && body.ends_with(b"\0c"));
}

#[test]
fn errors_are_negative_and_never_enosys_for_a_sync() {
    let missing = Reply::Error(FsError::NoSystemCall);
    assert_eq!(wire(Shape::Empty, &missing), (-38, Vec::new()));
    assert_eq!(wire(Shape::Synced, &missing), (-EIO, Vec::new()));
    assert_eq!(wire(Shape::Attr, &Reply::Error(FsError::Stale)), (-116, Vec::new()));
}

#[test]
fn sizes_and_values_of_extended_attributes_differ_in_shape() {
    let (_, size) = wire(Shape::Value, &Reply::Room(300));
    assert_eq!(size, abi::GetXattrOut { size: 300, padding: 0 }.as_bytes());
    assert_eq!(wire(Shape::Value, &Reply::Value("v".into())), (0, b"v".to_vec()));
    assert_eq!(wire(Shape::Copied { wide: true }, &Reply::Copied(1 << 40)).1.len(), 8);
    assert_eq!(wire(Shape::Copied { wide: false }, &Reply::Copied(4096)).1, written_bytes(4096));
    assert_eq!(wire(Shape::Written, &Reply::Written(3)).1, written_bytes(3));
}

fn written_bytes(size: u32) -> Vec<u8> {
    abi::WriteOut { size, padding: 0 }.as_bytes().to_vec()
}

#[test]
fn a_listing_ends_where_the_room_does_and_gives_back_the_rest() {
    let all = vec![
        dir_entry(1, ".", None),
        dir_entry(2, "12345678", Some(entry(8))),
        dir_entry(3, "123456789", Some(entry(9))),
    ];
    let reply = Reply::Entries(all);
    for (plus, sizes) in [(false, [32, 64, 104]), (true, [160, 320, 488])] {
        for (fit, room) in sizes.iter().enumerate() {
            for (room, fit) in [(*room, fit + 1), (room - 1, fit)] {
                let shape = Shape::Entries { room, plus };
                let (error, body) = wire(shape, &reply);
                let expected = if fit == 0 { 0 } else { sizes[fit - 1] };
                assert_eq!((error, body.len()), (0, expected as usize));
                assert_eq!(encode(77, shape, &reply).entries, fit);
                assert_eq!(nodes(undo(shape, &reply, true, fit)), rest(plus, fit));
                assert_eq!(nodes(undo(shape, &reply, false, fit)), rest(plus, 0));
            }
        }
    }
    let (_, body) = wire(Shape::Entries { room: 4096, plus: true }, &reply);
    let first = abi::EntryOut::read_from_prefix(&body).expect("fuse_entry_out").0;
    assert_eq!(first.nodeid, 0, "`.` is not looked up");
    let dirent = abi::Dirent::read_from_prefix(&body[160 + 128..]).expect("fuse_dirent").0;
    assert_eq!((dirent.off, dirent.namelen, dirent.kind), (2, 8, 4));
}

/// Lookups to give back of the entries above from `fit` on.
fn rest(plus: bool, fit: usize) -> Vec<u64> {
    let all = [None, Some(8), Some(9)];
    if plus { all[fit..].iter().flatten().copied().collect() } else { Vec::new() }
}

fn nodes(undo: Vec<Operation>) -> Vec<u64> {
    undo.into_iter()
        .flat_map(|op| match op {
            Operation::Forget { nodes } => nodes,
            other => panic!("{other:?}"),
        })
        .map(|(ino, lookups)| {
            assert_eq!(lookups, 1);
            ino.0
        })
        .collect()
}

#[test]
fn what_was_not_delivered_is_given_back() {
    let created = Reply::Created { entry: entry(8), opened: opened() };
    let cases: [(Shape, Reply, &[&str]); 6] = [
        (Shape::Entry, Reply::Entry(entry(8)), &["Forget"]),
        (Shape::Entry, Reply::Entry(negative(Duration::from_secs(1))), &[]),
        (Shape::Created, created, &["Release", "Forget"]),
        (Shape::Opened(Ino(8)), Reply::Opened(opened()), &["Release"]),
        (Shape::OpenedDir(Ino(8)), Reply::Opened(opened()), &["ReleaseDir"]),
        (Shape::Empty, Reply::Error(FsError::NotFound), &[]),
    ];
    for (shape, reply, expected) in cases {
        assert!(undo(shape, &reply, true, 0).is_empty(), "{shape:?}");
        let names: Vec<String> = undo(shape, &reply, false, 0)
            .iter()
            .map(|op| format!("{op:?}").split([' ', '{']).next().unwrap_or_default().to_string())
            .collect();
        assert_eq!(names, expected, "{shape:?}");
    }
}
