//! What the callers do, in a user's words: generated from the plan stream of a seed.
//!
//! Owns: the choice of operations. Targets are numbers taken modulo what exists when the operation
//! starts, so that a plan from which operations were dropped is still a plan.

use crate::dice::{Dice, Stream};
use vellum_core::limits::{FILE_SIZE_MAX, IO_SIZE_MAX, REGION_SIZE};

/// A directory entry that may or may not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Take an existing entry if there is one.
    pub existing: bool,
    /// Which entry, or which directory.
    pub pick: u32,
    /// Which letter of the alphabet, if a new one.
    pub letter: u8,
}

/// A time that a user sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserTime {
    /// UTIME_OMIT.
    Omit,
    /// UTIME_NOW.
    Now,
    /// This many seconds and nanoseconds from 1970.
    At(i64, u32),
    /// This many seconds ahead of the clock.
    Ahead(u32),
}

/// One thing a user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// stat of a name.
    Lookup(Spot),
    /// fstat or stat of something known.
    GetAttr(u32),
    /// chmod.
    Chmod(u32, u32),
    /// chown of user, group or both.
    Chown(u32, Option<u32>, Option<u32>),
    /// truncate.
    Truncate(u32, u64),
    /// utimensat: of what, atime, mtime.
    Utimes(u32, UserTime, UserTime),
    /// open(O_CREAT): where, mode, flags.
    Create(Spot, u32, u32),
    /// mknod: where, type and mode.
    MkNod(Spot, u32),
    /// mkdir.
    MkDir(Spot, u32),
    /// symlink: where, length of the target.
    Symlink(Spot, u16),
    /// readlink.
    ReadLink(u32),
    /// link: what, where.
    Link(u32, Spot),
    /// unlink.
    Unlink(Spot),
    /// rmdir.
    RmDir(Spot),
    /// rename with flags.
    Rename(Spot, Spot, u32),
    /// open with flags.
    Open(u32, u32),
    /// pread: handle, offset, length.
    Read(u32, u64, u32),
    /// pwrite: handle, offset, length, from the page cache.
    Write(u32, u64, u32, bool),
    /// fallocate: handle, offset, length, FALLOC_FL_* bits.
    Allocate(u32, u64, u32, u32),
    /// copy_file_range: source handle and offset, target handle and offset, length.
    Copy(u32, u64, u32, u64, u32),
    /// lseek: handle, offset, for a hole.
    Seek(u32, u64, bool),
    /// fsync or fdatasync of an open file.
    Fsync(u32, bool),
    /// fsync of a directory.
    FsyncDir(u32),
    /// close of one descriptor and perhaps the last one.
    Close(u32, bool),
    /// ls: directory, room, with attributes.
    List(u32, u32, bool),
    /// open(O_TMPFILE): in which directory, mode, flags.
    TmpFile(u32, u32, u32),
    /// setxattr: of what, which attribute, which value, flags.
    SetXattr(u32, u8, u16, u32),
    /// getxattr: of what, which attribute, room.
    GetXattr(u32, u8, u32),
    /// listxattr: of what, room.
    ListXattr(u32, u32),
    /// removexattr: of what, which attribute.
    RemoveXattr(u32, u8),
    /// statfs.
    StatFs,
    /// The kernel drops an inode from its cache.
    Forget(u32),
    /// A caller gives up.
    Interrupt(u32),
    /// `vellum info`, or `vellum compact`.
    Info(u32),
    /// `vellum status`.
    Status,
    /// Everything durable, please.
    Sync,
    /// Nothing for so many microseconds.
    Sleep(u32),
}

/// How many different attributes there are.
pub const XATTRS: u64 = 12;

/// The classes that a swarm switches on and off, with their weight.
const CLASSES: [u32; 11] = [20, 14, 10, 10, 8, 24, 10, 4, 5, 3, 8];

/// The plan of a seed with `count` operations.
pub fn generate(seed: u64, count: usize) -> Vec<Step> {
    let dice = &mut Dice::new(seed, Stream::Plan);
    let mut weights = CLASSES;
    for weight in weights.iter_mut().skip(1) {
        *weight *= *dice.pick(&[0, 1, 1, 1, 1, 3]);
    }
    let shape = Shape {
        existing: *dice.pick(&[5_000, 7_500, 9_000]),
        letters: *dice.pick(&[3, 6, 6, 12]) as u8,
        far: dice.chance(800),
        long: dice.chance(1_000),
    };
    (0..count).map(|_| step(&weights, &shape, dice)).collect()
}

/// What the operations of one plan have in common.
struct Shape {
    /// Preference for existing names, in 10,000.
    existing: u32,
    letters: u8,
    /// Offsets around borders of regions and at the end of the largest file.
    far: bool,
    /// Writes of up to a whole request.
    long: bool,
}

fn step(weights: &[u32; 11], shape: &Shape, dice: &mut Dice) -> Step {
    let total: u32 = weights.iter().sum();
    let mut at = dice.below(u64::from(total)) as u32;
    let class = weights.iter().position(|w| {
        let hit = at < *w;
        at = at.wrapping_sub(*w);
        hit
    });
    let any = dice.word() as u32;
    match class.unwrap_or(0) {
        0 => make(shape, dice),
        1 => remove(shape, dice),
        2 => Step::Rename(
            spot(shape, dice, true),
            spot(shape, dice, false),
            *dice.pick(&[0, 0, 0, 0, 1, 2, 2, 3, 4]),
        ),
        3 => look(any, shape, dice),
        4 => set_attr(any, shape, dice),
        5 => io(any, shape, dice),
        6 => open_close(any, dice),
        7 => *dice.pick(&[
            Step::Fsync(any, false),
            Step::Fsync(any, true),
            Step::FsyncDir(any),
            Step::Sync,
        ]),
        8 => *dice.pick(&[Step::Forget(any), Step::Forget(any), Step::Interrupt(any)]),
        10 => xattr(any, dice),
        _ => {
            *dice.pick(&[Step::StatFs, Step::Info(any), Step::Status, Step::Sleep(any % 3_000_000)])
        }
    }
}

fn make(shape: &Shape, dice: &mut Dice) -> Step {
    let collide = dice.chance(1_500);
    let at = spot(shape, dice, collide);
    let mode = *dice.pick(&[0o644, 0o600, 0o755, 0o2755, 0o6777, 0]);
    match dice.below(17) {
        16 => Step::TmpFile(dice.word() as u32, mode, *dice.pick(&[0o2, 0o2, 0o1, 0o2 | 0o200])),
        0..=5 => {
            Step::Create(at, mode, *dice.pick(&[0o2, 0o1, 0o2 | 0o200, 0o2 | 0o1000, 0o1 | 0o2000]))
        }
        6..=9 => Step::MkDir(at, *dice.pick(&[0o755, 0o2755, 0o700])),
        10 => Step::Symlink(at, *dice.pick(&[1, 1, 20, 300, 4_095])),
        11 => Step::MkNod(
            at,
            mode | *dice.pick(&[0o100_000, 0o010_000, 0o140_000, 0o020_000, 0o060_000]),
        ),
        _ => Step::Link(dice.word() as u32, at),
    }
}

fn remove(shape: &Shape, dice: &mut Dice) -> Step {
    let at = spot(shape, dice, true);
    if dice.chance(6_500) { Step::Unlink(at) } else { Step::RmDir(at) }
}

fn look(any: u32, shape: &Shape, dice: &mut Dice) -> Step {
    match dice.below(10) {
        0..=2 => Step::Lookup(spot(shape, dice, true)),
        3..=5 => Step::GetAttr(any),
        6 => Step::ReadLink(any),
        _ => Step::List(any, *dice.pick(&[450, 600, 1_000, 4_096, 65_536]), dice.coin()),
    }
}

fn xattr(any: u32, dice: &mut Dice) -> Step {
    let which = dice.below(XATTRS) as u8;
    let room = *dice.pick(&[0, 0, 3, 40, 200, 65_536]);
    match dice.below(10) {
        0..=4 => {
            let value = *dice.pick(&[0, 1, 20, 300, 5_000, 65_535]);
            Step::SetXattr(any, which, value, *dice.pick(&[0, 0, 0, 1, 2]))
        }
        5..=6 => Step::GetXattr(any, which, room),
        7 => Step::ListXattr(any, room),
        _ => Step::RemoveXattr(any, which),
    }
}

fn set_attr(any: u32, shape: &Shape, dice: &mut Dice) -> Step {
    let id = |dice: &mut Dice| dice.coin().then(|| dice.below(4) as u32 * 1000);
    match dice.below(10) {
        0..=1 => Step::Chmod(any, *dice.pick(&[0o644, 0o4755, 0o2755, 0o1777, 0o2644, 0])),
        2 => Step::Chown(any, id(dice), id(dice)),
        3..=6 => Step::Truncate(any, if dice.chance(3_000) { 0 } else { offset(shape, dice) }),
        _ => Step::Utimes(any, user_time(dice), user_time(dice)),
    }
}

fn user_time(dice: &mut Dice) -> UserTime {
    match dice.below(8) {
        0..=1 => UserTime::Omit,
        2..=3 => UserTime::Now,
        4 => UserTime::At(-(dice.below(1 << 33) as i64), dice.below(1_000_000_000) as u32),
        5 => UserTime::Ahead(dice.below(1_000_000) as u32),
        _ => UserTime::At(dice.below(1 << 31) as i64, dice.below(1_000_000_000) as u32),
    }
}

fn io(any: u32, shape: &Shape, dice: &mut Dice) -> Step {
    let offset = offset(shape, dice);
    let len = length(shape, dice);
    match dice.below(16) {
        0..=6 => Step::Write(any, offset, len, dice.chance(500)),
        7..=9 => Step::Read(any, offset, len),
        10..=12 => Step::Allocate(any, offset, len, *dice.pick(&[0, 1, 3, 3, 3, 0x10, 0x11])),
        13..=14 => {
            let to = dice.word() as u32;
            Step::Copy(any, offset, to, self::offset(shape, dice), len)
        }
        _ => Step::Seek(any, offset, dice.coin()),
    }
}

fn open_close(any: u32, dice: &mut Dice) -> Step {
    if dice.chance(5_500) {
        Step::Open(any, *dice.pick(&[0, 1, 2, 2, 0o2002, 0o2001]))
    } else {
        Step::Close(any, dice.chance(8_000))
    }
}

fn spot(shape: &Shape, dice: &mut Dice, prefer_existing: bool) -> Spot {
    let letter = if dice.chance(50) {
        200 + dice.below(8) as u8
    } else {
        dice.below(u64::from(shape.letters)) as u8
    };
    let existing = if prefer_existing { shape.existing } else { (10_000 - shape.existing) / 2 };
    Spot { existing: dice.chance(existing), pick: dice.word() as u32, letter }
}

fn offset(shape: &Shape, dice: &mut Dice) -> u64 {
    const BORDERS: [u64; 9] = [0, 0, 511, 4_095, 4_096, 8_192, 16_384, 65_536, 262_144];
    if shape.far && dice.chance(3_000) {
        let far = [
            REGION_SIZE - 4_096,
            REGION_SIZE - 1,
            REGION_SIZE,
            3 * REGION_SIZE - 100,
            1 << 40,
            FILE_SIZE_MAX - 10,
        ];
        return *dice.pick(&far);
    }
    match dice.below(10) {
        0..=3 => *dice.pick(&BORDERS),
        4..=5 => (*dice.pick(&BORDERS) + dice.below(5)).saturating_sub(2),
        6..=7 => dice.below(8_192),
        8 => dice.below(24) * 4_096,
        _ => dice.below(200_000),
    }
}

fn length(shape: &Shape, dice: &mut Dice) -> u32 {
    if shape.long && dice.chance(2_000) {
        return *dice.pick(&[65_536, 131_072, 300_000, IO_SIZE_MAX]);
    }
    match dice.below(10) {
        0..=2 => 1 + dice.below(64) as u32,
        3..=5 => 1 + dice.below(4_096) as u32,
        6..=7 => *dice.pick(&[4_095, 4_096, 4_097, 8_192]),
        8 => 1 + dice.below(20_000) as u32,
        _ => *dice.pick(&[16_383, 16_384, 16_385, 40_000]),
    }
}
