//! The decoder against frames as the kernel builds them, cut ones, and noise.

use super::*;
use zerocopy::IntoBytes;

const PLAIN: Dialect = Dialect { setxattr_ext: false };
const EXT: Dialect = Dialect { setxattr_ext: true };

/// A frame of inode 7, asked by process 3 of user 1 and group 2.
fn frame(opcode: u32, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let header = abi::InHeader {
        len: (size_of::<abi::InHeader>() + body.len()) as u32,
        opcode,
        unique: 10,
        nodeid: 7,
        uid: 1,
        gid: 2,
        pid: 3,
        ..Default::default()
    };
    [header.as_bytes(), &body].concat()
}

fn asked(frame: &[u8]) -> (Operation, Shape) {
    match decode(frame, PLAIN) {
        Ok((header, Decoded::Ask(operation, shape))) => {
            assert_eq!(header.unique, 10);
            assert_eq!(header.caller, Caller { uid: 1, gid: 2, pid: 3 });
            (operation, shape)
        }
        other => panic!("{other:?}"),
    }
}

/// One valid frame of each kind that has arguments.
fn valid_frames() -> Vec<Vec<u8>> {
    let create = abi::CreateIn { flags: 0o102, mode: 0o100_644, umask: 0o22, open_flags: 1 };
    let forgets =
        [abi::ForgetOne { nodeid: 8, nlookup: 2 }, abi::ForgetOne { nodeid: 9, nlookup: 1 }];
    let write = abi::WriteIn { fh: 4, offset: 5, size: 3, flags: O_APPEND, ..Default::default() };
    vec![
        frame(op::LOOKUP, &[b"name\0"]),
        frame(op::FORGET, &[abi::ForgetIn { nlookup: 3 }.as_bytes()]),
        frame(
            op::BATCH_FORGET,
            &[abi::BatchForgetIn { count: 2, dummy: 0 }.as_bytes(), forgets.as_bytes()],
        ),
        frame(op::GETATTR, &[abi::GetAttrIn::default().as_bytes()]),
        frame(op::STATX, &[abi::StatxIn::default().as_bytes()]),
        frame(op::SETATTR, &[abi::SetAttrIn::default().as_bytes()]),
        frame(op::SYMLINK, &[b"name\0target\0"]),
        frame(op::MKNOD, &[abi::MkNodIn::default().as_bytes(), b"n\0"]),
        frame(op::MKDIR, &[abi::MkDirIn::default().as_bytes(), b"n\0"]),
        frame(op::UNLINK, &[b"n\0"]),
        frame(op::RMDIR, &[b"n\0"]),
        frame(op::RENAME, &[abi::RenameIn { newdir: 9 }.as_bytes(), b"a\0b\0"]),
        frame(
            op::RENAME2,
            &[abi::Rename2In { newdir: 9, flags: 1, padding: 0 }.as_bytes(), b"a\0b\0"],
        ),
        frame(op::LINK, &[abi::LinkIn { oldnodeid: 9 }.as_bytes(), b"n\0"]),
        frame(op::OPEN, &[abi::OpenIn { flags: 2, open_flags: 1 }.as_bytes()]),
        frame(op::CREATE, &[create.as_bytes(), b"n\0"]),
        // A name follows; it is not looked at.
        frame(op::TMPFILE, &[create.as_bytes()]),
        frame(op::READ, &[abi::ReadIn::default().as_bytes()]),
        frame(op::READDIR, &[abi::ReadIn::default().as_bytes()]),
        frame(op::READDIRPLUS, &[abi::ReadIn::default().as_bytes()]),
        frame(op::WRITE, &[write.as_bytes(), b"abc"]),
        frame(op::RELEASE, &[abi::ReleaseIn::default().as_bytes()]),
        frame(op::RELEASEDIR, &[abi::ReleaseIn::default().as_bytes()]),
        frame(op::FLUSH, &[abi::FlushIn::default().as_bytes()]),
        frame(op::FSYNC, &[abi::FsyncIn::default().as_bytes()]),
        frame(op::FSYNCDIR, &[abi::FsyncIn::default().as_bytes()]),
        frame(
            op::SETXATTR,
            &[abi::SetXattrCompatIn { size: 2, flags: 1 }.as_bytes(), b"user.a\0xy"],
        ),
        frame(op::GETXATTR, &[abi::GetXattrIn { size: 64, padding: 0 }.as_bytes(), b"user.a\0"]),
        frame(op::LISTXATTR, &[abi::GetXattrIn::default().as_bytes()]),
        frame(op::REMOVEXATTR, &[b"user.a\0"]),
        frame(op::INTERRUPT, &[abi::InterruptIn { unique: 12 }.as_bytes()]),
        frame(op::FALLOCATE, &[abi::FallocateIn::default().as_bytes()]),
        frame(op::LSEEK, &[abi::LseekIn { whence: SEEK_HOLE, ..Default::default() }.as_bytes()]),
        frame(op::COPY_FILE_RANGE, &[abi::CopyFileRangeIn::default().as_bytes()]),
        frame(op::COPY_FILE_RANGE_64, &[abi::CopyFileRangeIn::default().as_bytes()]),
        frame(op::INIT, &[abi::InitIn { major: 7, minor: 45, ..Default::default() }.as_bytes()]),
    ]
}

#[test]
fn what_the_kernel_sends_is_understood() {
    for frame in valid_frames() {
        decode(&frame, PLAIN).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    }
    for opcode in [op::READLINK, op::OPENDIR, op::STATFS, op::SYNCFS, op::DESTROY] {
        assert!(!matches!(decode(&frame(opcode, &[]), PLAIN), Ok((_, Decoded::Unknown)) | Err(_)));
    }
}

#[test]
fn a_frame_cut_anywhere_is_malformed_and_says_whom_to_answer() {
    for whole in valid_frames() {
        for len in 0..whole.len() {
            let mut cut = whole[..len].to_vec();
            if let Some(place) = cut.get_mut(..4) {
                place.copy_from_slice(&(len as u32).to_le_bytes());
            }
            let wrong = match decode(&cut, PLAIN) {
                Err(wrong) => wrong,
                Ok(ok) => panic!("{len} of {} bytes became {ok:?}", whole.len()),
            };
            let opcode = abi::InHeader::read_from_prefix(&whole).expect("a header").0.opcode;
            let answered = !matches!(opcode, op::FORGET | op::BATCH_FORGET | op::INTERRUPT);
            let expected = (len >= 40 && answered).then_some(10);
            assert_eq!(wrong.unique, expected, "{wrong:?}");
        }
    }
}

#[test]
fn a_false_length_an_odd_id_and_extensions_beyond_the_frame_are_malformed() {
    let good = frame(op::LOOKUP, &[b"name\0"]);
    for (at, byte) in [(0, 44u8), (8, 11), (8, 0), (36, 200)] {
        let mut bad = good.clone();
        bad[at] = byte;
        assert!(decode(&bad, PLAIN).is_err(), "byte {at} = {byte}");
    }
    let mut extended = frame(op::LOOKUP, &[b"name\0", &[1; 16]]);
    extended[36] = 2;
    let (operation, _) = asked(&extended);
    assert!(matches!(operation, Operation::Lookup { name, .. } if name == "name"));
}

#[test]
fn names_end_at_their_nul_and_are_never_empty() {
    for bad in [&b"name"[..], b"\0", b""] {
        assert!(decode(&frame(op::LOOKUP, &[bad]), PLAIN).is_err());
    }
    let (operation, shape) = asked(&frame(op::SYMLINK, &[b"a\0b/c\0"]));
    assert_eq!(shape, Shape::Entry);
    assert!(matches!(operation, Operation::Symlink { parent: Ino(7), name, target }
        if name == "a" && target == "b/c"));
}

#[test]
fn the_bytes_of_a_write_stay_in_the_frame() {
    let raw = abi::WriteIn {
        fh: 4,
        offset: 1 << 40,
        size: 3,
        write_flags: abi::WRITE_CACHE | abi::WRITE_KILL_SUIDGID,
        flags: 0o2001,
        ..Default::default()
    };
    let whole = frame(op::WRITE, &[raw.as_bytes(), b"abc"]);
    let Ok((_, Decoded::Write(write))) = decode(&whole, PLAIN) else { panic!("no write") };
    assert_eq!(&whole[write.data], b"abc");
    let flags = WriteFlags { from_cache: true, kill_suidgid: true, append: true };
    assert_eq!((write.handle, write.offset, write.flags), (Handle(4), 1 << 40, flags));
}

#[test]
fn setattr_takes_what_its_mask_names_and_times_before_1970() {
    let raw = abi::SetAttrIn {
        valid: fattr::MODE
            | fattr::ATIME
            | fattr::MTIME
            | fattr::MTIME_NOW
            | fattr::FH
            | fattr::KILL_SUIDGID,
        fh: 9,
        size: 5,
        atime: -2i64 as u64,
        atimensec: 500_000_000,
        mtime: 99,
        mode: 0o644,
        uid: 5,
        ..Default::default()
    };
    let (operation, shape) = asked(&frame(op::SETATTR, &[raw.as_bytes()]));
    let set = SetAttr {
        mode: Some(0o644),
        atime: Some(SetTime::At(WallTime::new(-2, 500_000_000))),
        mtime: Some(SetTime::Now),
        kill_suidgid: true,
        ..SetAttr::default()
    };
    assert_eq!(shape, Shape::Attr);
    assert!(
        matches!(operation, Operation::SetAttr { ino: Ino(7), handle: Some(Handle(9)), set: s } if s == set)
    );
}

#[test]
fn the_long_form_of_setxattr_is_read_only_if_it_was_agreed_on() {
    let long = abi::SetXattrIn { size: 2, flags: 2, setxattr_flags: 1, padding: 0 };
    let whole = frame(op::SETXATTR, &[long.as_bytes(), b"user.a\0xy"]);
    let Ok((_, Decoded::Ask(Operation::SetXattr { name, value, flags, kill_sgid, .. }, _))) =
        decode(&whole, EXT)
    else {
        panic!("no setxattr")
    };
    assert_eq!((&name[..], &value[..], flags, kill_sgid), (&b"user.a"[..], &b"xy"[..], 2, true));
    let Ok((_, Decoded::Ask(Operation::SetXattr { kill_sgid, .. }, _))) =
        decode(&frame(op::SETXATTR, &[&long.as_bytes()[..8], b"user.a\0xy"]), PLAIN)
    else {
        panic!("no setxattr")
    };
    assert!(!kill_sgid);
}

#[test]
fn both_forms_of_a_copy_differ_in_their_answer_and_its_limit() {
    let raw = abi::CopyFileRangeIn { nodeid_out: 8, len: 1 << 40, ..Default::default() };
    for (opcode, expected, wide) in
        [(op::COPY_FILE_RANGE, COPY_32_MAX, false), (op::COPY_FILE_RANGE_64, 1 << 40, true)]
    {
        let (operation, shape) = asked(&frame(opcode, &[raw.as_bytes()]));
        assert_eq!(shape, Shape::Copied { wide });
        assert!(matches!(operation, Operation::CopyRange { len, .. } if len == expected));
    }
}

#[test]
fn open_carries_the_signal_to_kill_set_id_bits() {
    let raw = abi::OpenIn { flags: 0o1001, open_flags: abi::OPEN_KILL_SUIDGID };
    let (operation, shape) = asked(&frame(op::OPEN, &[raw.as_bytes()]));
    let Operation::Open { flags, .. } = operation else { panic!("no open") };
    assert!(flags.writes() && flags.truncates() && flags.kills_suidgid());
    assert_eq!(shape, Shape::Opened(Ino(7)));
}

#[test]
fn offsets_beyond_every_file_are_malformed() {
    let raw = abi::ReadIn { offset: 1 << 63, ..Default::default() };
    assert!(decode(&frame(op::READ, &[raw.as_bytes()]), PLAIN).is_err());
    let (operation, _) = asked(&frame(op::READDIR, &[raw.as_bytes()]));
    assert!(matches!(operation, Operation::ReadDir { cookie, .. } if cookie == 1 << 63));
}

#[test]
fn init_reads_the_second_word_of_flags_only_when_it_is_announced() {
    let mut raw = abi::InitIn { major: 7, minor: 45, max_readahead: 1, flags: 1 };
    let offered = |raw: &abi::InitIn, more: &[u8]| match decode(
        &frame(op::INIT, &[raw.as_bytes(), more]),
        PLAIN,
    ) {
        Ok((_, Decoded::Init(init))) => init.flags,
        other => panic!("{other:?}"),
    };
    let more = [2u32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(offered(&raw, more.as_bytes()), 1);
    raw.flags |= abi::init::INIT_EXT as u32;
    assert_eq!(offered(&raw, more.as_bytes()), 1 | abi::init::INIT_EXT | 2 << 32);
    assert_eq!(offered(&raw, &[]), 1 | abi::init::INIT_EXT);
}

/// Noise behind headers that are right as far as the decoder gets, and valid frames with bytes turned.
#[test]
fn no_bytes_make_it_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let valid = valid_frames();
    let (mut understood, mut refused) = (0, 0);
    for round in 0..200_000u64 {
        let mut bytes = if round % 2 == 0 {
            valid[random() as usize % valid.len()].clone()
        } else {
            let len = random() as usize % 200;
            let body: Vec<u8> = (0..len).map(|_| random() as u8 & random() as u8).collect();
            frame(random() as u32 % 60, &[&body])
        };
        for _ in 0..random() % 4 {
            let at = random() as usize % bytes.len();
            bytes[at] = random() as u8;
        }
        let dialect = if random() % 2 == 0 { PLAIN } else { EXT };
        match decode(&bytes, dialect) {
            Ok((_, Decoded::Write(write))) => {
                assert!(write.data.end <= bytes.len());
                understood += 1;
            }
            Ok(_) => understood += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(understood > 10_000 && refused > 10_000, "{understood} and {refused}: one-sided noise");
}
