//! Frames of the kernel: every one of them is taken apart or refused, and keeps its promises to the machine.

use std::ops::Range;
use vellum::fuse::decode::{Decoded, Dialect, Malformed, Write, decode};
use vellum_core::id::Ino;
use vellum_core::port::kernel::Operation;

const HEADER: usize = 40;
/// Requests that nobody waits for: FORGET, INTERRUPT, BATCH_FORGET.
const UNANSWERED: [u32; 3] = [2, 36, 42];
/// The largest offset of a file, `i64::MAX`.
const OFFSET_MAX: u64 = u64::MAX >> 1;

/// Decodes `input` as it is, and as what follows a sound header: an opcode, an inode, arguments.
pub fn fuzz_one(input: &[u8]) {
    for setxattr_ext in [false, true] {
        check(input, Dialect { setxattr_ext });
        check(&framed(input), Dialect { setxattr_ext });
    }
}

/// Arguments of most requests, as they follow the header: opcode, then structures and names.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let name = b"name\0".to_vec();
    let two = b"old\0new\0".to_vec();
    let zeros = |len: usize, tail: &[u8]| [&vec![0; len][..], tail].concat();
    let sized = |size: u32, len: usize, tail: &[u8]| {
        [&size.to_le_bytes()[..], &vec![0; len - 4], tail].concat()
    };
    let write = [&[0; 16][..], &3u32.to_le_bytes(), &[0; 20], b"abc"].concat();
    let seek = [&[0; 16][..], &4u32.to_le_bytes(), &[0; 4]].concat();
    let forgets = [&2u64.to_le_bytes()[..], &[7; 32]].concat();
    let init = [&7u32.to_le_bytes()[..], &45u32.to_le_bytes(), &[0xff; 56]].concat();
    let bodies: Vec<(u8, Vec<u8>)> = vec![
        (1, name.clone()),
        (2, zeros(8, &[])),
        (3, zeros(16, &[])),
        (4, zeros(88, &[])),
        (5, Vec::new()),
        (6, two.clone()),
        (8, zeros(16, &name)),
        (9, zeros(8, &name)),
        (10, name.clone()),
        (11, name.clone()),
        (12, zeros(8, &two)),
        (13, zeros(8, &name)),
        (14, zeros(8, &[])),
        (15, zeros(40, &[])),
        (16, write),
        (17, Vec::new()),
        (18, zeros(24, &[])),
        (20, zeros(16, &[])),
        (21, sized(2, 8, b"user.a\0xy")),
        (21, sized(2, 16, b"user.a\0xy")),
        (22, sized(64, 8, b"user.a\0")),
        (23, zeros(8, &[])),
        (24, b"user.a\0".to_vec()),
        (25, zeros(24, &[])),
        (26, init),
        (27, Vec::new()),
        (28, zeros(40, &[])),
        (29, zeros(24, &[])),
        (30, zeros(16, &[])),
        (35, zeros(16, &name)),
        (36, zeros(8, &[])),
        (38, Vec::new()),
        (42, forgets),
        (43, zeros(32, &[])),
        (44, zeros(40, &[])),
        (45, zeros(16, &two)),
        (46, seek),
        (47, zeros(56, &[])),
        (50, Vec::new()),
        (51, zeros(16, &[])),
        (52, zeros(24, &[])),
        (53, zeros(56, &[])),
    ];
    let named = bodies.into_iter().enumerate();
    named
        .map(|(n, (opcode, body))| (format!("{opcode}_{n}"), [&[opcode, 7][..], &body].concat()))
        .collect()
}

/// A frame with a sound header.
fn framed(input: &[u8]) -> Vec<u8> {
    let (opcode, node, rest) = match input {
        [opcode, node, rest @ ..] => (*opcode, *node, rest),
        _ => (0, 0, input),
    };
    let mut frame = Vec::with_capacity(HEADER + rest.len());
    frame.extend_from_slice(&((HEADER + rest.len()) as u32).to_le_bytes());
    frame.extend_from_slice(&u32::from(opcode).to_le_bytes());
    frame.extend_from_slice(&10u64.to_le_bytes());
    frame.extend_from_slice(&u64::from(node).to_le_bytes());
    frame.extend_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend_from_slice(rest);
    frame
}

fn check(frame: &[u8], dialect: Dialect) {
    let field = |range: Range<usize>| frame.get(range).map(number);
    match decode(frame, dialect) {
        Ok((header, decoded)) => {
            assert_eq!(field(0..4), Some(frame.len() as u64), "a frame has its own length");
            assert_eq!(field(4..8), Some(u64::from(header.opcode)));
            assert_eq!(field(8..16), Some(header.unique));
            let answered = !UNANSWERED.contains(&header.opcode);
            assert!(!answered || (header.unique != 0 && header.unique & 1 == 0));
            let node = Ino(field(16..24).expect("a header"));
            check_decoded(frame, node, &decoded);
        }
        Err(Malformed { unique, opcode, what }) => {
            assert!(!what.is_empty());
            assert!(frame.len() < HEADER || field(4..8) == Some(u64::from(opcode)));
            if let Some(unique) = unique {
                assert_eq!(field(8..16), Some(unique), "whom to answer");
                assert!(unique != 0 && !UNANSWERED.contains(&opcode));
            }
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn check_decoded(frame: &[u8], node: Ino, decoded: &Decoded) {
    match decoded {
        Decoded::Ask(operation, _) => check_operation(frame, operation),
        Decoded::Write(Write { ino, offset, data, .. }) => {
            assert_eq!(*ino, node);
            assert!(*offset <= OFFSET_MAX);
            assert!(data.start >= HEADER + 40 && data.start <= data.end && data.end <= frame.len());
        }
        Decoded::Tell(Operation::Forget { nodes }) => {
            assert!(nodes.len() <= 1 || nodes.len() * 16 <= frame.len());
        }
        Decoded::Tell(other) => panic!("nobody waits for {other:?}"),
        Decoded::Interrupt { .. }
        | Decoded::SyncFs
        | Decoded::Init(_)
        | Decoded::Destroy
        | Decoded::Unknown => {}
    }
}

/// Names are what they are in the frame, offsets those of files.
fn check_operation(frame: &[u8], operation: &Operation) {
    use Operation as O;
    let name = |name: &[u8]| {
        assert!(!name.is_empty() && !name.contains(&0));
        assert!(frame.windows(name.len()).any(|part| part == name), "a part of the frame");
    };
    let offset = |offset: u64| assert!(offset <= OFFSET_MAX);
    match operation {
        O::Lookup { name: n, .. }
        | O::MkNod { name: n, .. }
        | O::MkDir { name: n, .. }
        | O::Unlink { name: n, .. }
        | O::RmDir { name: n, .. }
        | O::Create { name: n, .. }
        | O::GetXattr { name: n, .. }
        | O::RemoveXattr { name: n, .. }
        | O::Link { new_name: n, .. } => name(n),
        O::Symlink { name: n, target, .. } => [n, target].into_iter().for_each(|n| name(n)),
        O::Rename { name: n, new_name, .. } => [n, new_name].into_iter().for_each(|n| name(n)),
        O::SetXattr { name: n, value, .. } => {
            name(n);
            assert!(value.len() < frame.len());
        }
        O::Read { offset: at, .. } | O::Seek { offset: at, .. } => offset(*at),
        O::Fallocate { offset: at, len, .. } => [at, len].into_iter().for_each(|n| offset(*n)),
        O::CopyRange { offset: at, to_offset, len, .. } => {
            [at, to_offset].into_iter().for_each(|n| offset(*n));
            assert!(*len <= OFFSET_MAX);
        }
        _ => {}
    }
}
