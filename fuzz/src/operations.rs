//! The machine against the model: requests in a bounded vocabulary that prefers what exists, every answer and
//! attribute compared, the volume checked meanwhile, with restarts and power cuts.
//!
//! What a request means and what is compared is shared with the differential test of the simulator.

#[path = "../../sim/tests/differential/pair.rs"]
mod pair;
mod world;

use arbitrary::{Arbitrary, Result, Unstructured};
use pair::{Op, Pair};

const STEPS_MAX: usize = 32;
/// A check flushes: in between there is time for things to gather.
const CHECK_EVERY: usize = 6;
const NAMES: u8 = 6;

/// Runs requests that `input` spells.
pub fn fuzz_one(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let mut pair = furnished();
    for step in 1..=STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(op) = op(&mut input, &pair) else { break };
        pair.apply(&op);
        pair.compare(&op);
        if step.is_multiple_of(CHECK_EVERY) {
            check(&mut pair);
        }
    }
    check(&mut pair);
}

/// Two open files and a directory: most requests want something to be there.
fn furnished() -> Pair {
    let mut pair = Pair::new();
    let ops = [
        Op::Create { dir: 0, name: 0 },
        Op::Create { dir: 0, name: 1 },
        Op::MkDir { dir: 0, name: 2 },
        Op::Open { node: 0 },
        Op::Open { node: 1 },
    ];
    ops.iter().for_each(|op| pair.apply(op));
    pair
}

/// Files of each kind of storage, changed and moved around.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    // The first byte of a request says which one; see `op`.
    let plans: [(&str, &[u8]); 4] = [
        ("inline", &[0, 0, 1, 11, 0, 14, 0, 1, 50, 9, 20, 0, 21, 0, 1, 9, 9, 12, 0, 27]),
        ("tree", &[1, 0, 1, 0, 1, 5, 4, 0, 0, 9, 7, 1, 5, 0, 9, 0, 28, 6, 0, 0]),
        ("segment", &[0, 0, 1, 11, 0, 14, 0, 5, 9, 3, 99, 0, 14, 0, 4, 9, 2, 9, 0, 26, 29, 27]),
        ("space", &[0, 0, 1, 11, 0, 14, 0, 3, 1, 2, 1, 0, 22, 0, 1, 3, 1, 2, 2, 24, 0, 1, 1, 1]),
    ];
    plans.into_iter().map(|(name, plan)| (name.to_owned(), plan.to_vec())).collect()
}

fn check(pair: &mut Pair) {
    pair.compare_contents();
    let problems = pair.world.check().problems;
    assert!(problems.is_empty(), "{problems:?}");
}

fn op(input: &mut Unstructured<'_>, pair: &Pair) -> Result<Op> {
    Ok(match u8::arbitrary(input)? % 34 {
        0 => Op::Create { dir: input.arbitrary()?, name: new_name(input)? },
        1 => Op::MkDir { dir: input.arbitrary()?, name: new_name(input)? },
        2 => Op::MkNod { dir: input.arbitrary()?, name: new_name(input)? },
        3 => Op::Symlink { dir: input.arbitrary()?, name: new_name(input)? },
        4 => Op::Link { node: input.arbitrary()?, dir: input.arbitrary()?, name: new_name(input)? },
        5 => {
            let (dir, name) = place_of_a_name(input, pair)?;
            Op::Unlink { dir, name }
        }
        6 => {
            let (dir, name) = place_of_a_name(input, pair)?;
            Op::RmDir { dir, name }
        }
        7 | 8 => {
            let (from, old) = place_of_a_name(input, pair)?;
            let (to, new) = place_of_a_name(input, pair)?;
            Op::Rename { from, old, to, new, flags: input.int_in_range(0..=3)? }
        }
        9 => {
            let (dir, name) = place_of_a_name(input, pair)?;
            Op::Lookup { dir, name }
        }
        10 => Op::List { dir: input.arbitrary()?, room: input.arbitrary()? },
        11 => Op::Open { node: input.arbitrary()? },
        12 => Op::Close { file: input.arbitrary()? },
        13 => Op::TmpFile { dir: input.arbitrary()?, exclusive: input.arbitrary()? },
        14..=16 => Op::Write {
            file: input.arbitrary()?,
            at: offset(input)?,
            len: length(input)?,
            append: input.ratio(1, 4)?,
            kill: input.ratio(1, 4)?,
        },
        17 => Op::SetXattr {
            node: input.arbitrary()?,
            which: input.int_in_range(0..=4)?,
            value: input.arbitrary()?,
            flags: input.int_in_range(0..=2)?,
        },
        18 => Op::RemoveXattr { node: input.arbitrary()?, which: input.int_in_range(0..=4)? },
        19 => Op::ReadLink { node: input.arbitrary()? },
        20 | 21 => Op::Read { file: input.arbitrary()?, at: offset(input)?, len: length(input)? },
        22 => Op::Allocate {
            file: input.arbitrary()?,
            at: offset(input)?,
            len: length(input)?,
            mode: input.int_in_range(0..=5)?,
        },
        23 => Op::Copy {
            from: input.arbitrary()?,
            at: offset(input)?,
            to: input.arbitrary()?,
            to_at: offset(input)?,
            len: length(input)?,
        },
        24 => Op::Seek { file: input.arbitrary()?, at: offset(input)?, hole: input.arbitrary()? },
        25 => Op::Truncate {
            node: input.arbitrary()?,
            size: if input.ratio(1, 4)? { 0 } else { offset(input)? },
            kill: input.arbitrary()?,
        },
        26 => Op::Fsync { file: input.arbitrary()? },
        27 => Op::Remount,
        28 => Op::Crash { fsync: input.arbitrary()? },
        29 => Op::Wait,
        30 => match input.ratio(1, 2)? {
            true => Op::Chmod { node: input.arbitrary()?, mode: input.arbitrary()? },
            false => Op::Chown { node: input.arbitrary()?, uid: input.arbitrary()? },
        },
        31 => Op::Compact { node: input.arbitrary()? },
        32 => Op::Collect,
        _ => Op::Times { node: input.arbitrary()?, atime: time(input)?, mtime: time(input)? },
    })
}

fn new_name(input: &mut Unstructured<'_>) -> Result<u8> {
    Ok(u8::arbitrary(input)? % NAMES)
}

/// A directory, and mostly a name that is in it.
fn place_of_a_name(input: &mut Unstructured<'_>, pair: &Pair) -> Result<(u8, u8)> {
    let (dir, choice) = (u8::arbitrary(input)?, u8::arbitrary(input)?);
    let entries = pair.model.readdir(pair.dir(dir).1).unwrap_or_default();
    let names: Vec<u8> =
        entries.iter().map(|entry| entry.name[0]).filter(|first| *first != b'.').collect();
    let known = names.get(usize::from(choice / 4) % names.len().max(1));
    let name = match known {
        Some(first) if !choice.is_multiple_of(4) => first - b'a',
        _ => choice / 4 % NAMES,
    };
    Ok((dir, name))
}

/// Around the borders of inline data, of bytes carried by the log, of frames, of a sub-buffer and a region.
fn offset(input: &mut Unstructured<'_>) -> Result<u32> {
    let (choice, near) = (u8::arbitrary(input)?, u8::arbitrary(input)?);
    let border = [0, 4096, 8192, 16 << 10, 64 << 10, 4 << 20, 64 << 20];
    let border: u32 = border[usize::from(choice) % border.len()];
    Ok((border + u32::from(near)).saturating_sub(128))
}

fn length(input: &mut Unstructured<'_>) -> Result<u32> {
    let (choice, more) = (u8::arbitrary(input)?, u32::from(u8::arbitrary(input)?));
    Ok(match choice % 8 {
        0..=2 => 1 + more,
        3..=4 => 3_000 + 24 * more,
        5..=6 => 15_000 + 100 * more,
        _ => 900_000 + 500 * more,
    })
}

fn time(input: &mut Unstructured<'_>) -> Result<Option<i64>> {
    Ok(if input.arbitrary()? { Some(i64::from(u8::arbitrary(input)?) * 12 - 9) } else { None })
}
