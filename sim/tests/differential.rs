//! The machine against the model, one request at a time, in a world without faults: every answer,
//! every attribute, every byte. proptest shrinks what differs to a few requests.

#[path = "differential/pair.rs"]
mod pair;
#[path = "../../core/tests/world/mod.rs"]
mod world;

use pair::{Op, Pair};
use proptest::prelude::*;

fn place() -> impl Strategy<Value = u32> {
    // Around the borders of inline data, of bytes carried by the log, of frames and of a sub-buffer.
    prop_oneof![
        0..200u32,
        3_900..4_300u32,
        8_000..8_400u32,
        16_000..17_000u32,
        60_000..70_000u32,
        (4 << 20) - 300..(4 << 20) + 300u32,
        (64 << 20) - 9_000..(64 << 20) + 300u32,
    ]
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 1..300u32, 3 => 3_000..9_000u32, 2 => 15_000..40_000u32, 1 => 900_000..1_000_000u32]
}

fn op() -> impl Strategy<Value = Op> {
    let d = || any::<u8>();
    let n = || 0..6u8;
    prop_oneof![
        4 => (d(), n()).prop_map(|(dir, name)| Op::Create { dir, name }),
        3 => (d(), n()).prop_map(|(dir, name)| Op::MkDir { dir, name }),
        1 => (d(), n()).prop_map(|(dir, name)| Op::MkNod { dir, name }),
        1 => (d(), n()).prop_map(|(dir, name)| Op::Symlink { dir, name }),
        2 => (d(), d(), n()).prop_map(|(node, dir, name)| Op::Link { node, dir, name }),
        2 => (d(), n()).prop_map(|(dir, name)| Op::Unlink { dir, name }),
        1 => (d(), n()).prop_map(|(dir, name)| Op::RmDir { dir, name }),
        4 => (d(), n(), d(), n(), 0..4u8)
            .prop_map(|(from, old, to, new, flags)| Op::Rename { from, old, to, new, flags }),
        1 => (d(), n()).prop_map(|(dir, name)| Op::Lookup { dir, name }),
        1 => d().prop_map(|node| Op::ReadLink { node }),
        1 => (d(), any::<u16>()).prop_map(|(dir, room)| Op::List { dir, room }),
        3 => d().prop_map(|node| Op::Open { node }),
        2 => d().prop_map(|file| Op::Close { file }),
        8 => (d(), place(), length(), any::<bool>(), any::<bool>())
            .prop_map(|(file, at, len, append, kill)| Op::Write { file, at, len, append, kill }),
        1 => (d(), any::<bool>()).prop_map(|(dir, exclusive)| Op::TmpFile { dir, exclusive }),
        6 => (d(), 0..5u8, d(), 0..3u8)
            .prop_map(|(node, which, value, flags)| Op::SetXattr { node, which, value, flags }),
        2 => (d(), 0..5u8).prop_map(|(node, which)| Op::RemoveXattr { node, which }),
        5 => (d(), place(), length()).prop_map(|(file, at, len)| Op::Read { file, at, len }),
        3 => (d(), place(), any::<bool>())
            .prop_map(|(node, size, kill)| Op::Truncate { node, size, kill }),
        1 => d().prop_map(|node| Op::Truncate { node, size: 0, kill: false }),
        2 => (d(), proptest::option::of(-9..3_000i64), proptest::option::of(-9..3_000i64))
            .prop_map(|(node, atime, mtime)| Op::Times { node, atime, mtime }),
        1 => (d(), any::<u16>()).prop_map(|(node, mode)| Op::Chmod { node, mode }),
        1 => (d(), any::<u16>()).prop_map(|(node, uid)| Op::Chown { node, uid }),
        3 => (d(), place(), length(), 0..6u8)
            .prop_map(|(file, at, len, mode)| Op::Allocate { file, at, len, mode }),
        3 => (d(), place(), d(), place(), length())
            .prop_map(|(from, at, to, to_at, len)| Op::Copy { from, at, to, to_at, len }),
        2 => (d(), place(), any::<bool>()).prop_map(|(file, at, hole)| Op::Seek { file, at, hole }),
        1 => d().prop_map(|file| Op::Fsync { file }),
        2 => d().prop_map(|node| Op::Compact { node }),
        1 => Just(Op::Collect),
        1 => Just(Op::Wait),
        1 => Just(Op::Remount),
        1 => any::<bool>().prop_map(|fsync| Op::Crash { fsync }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_does_what_the_model_says(ops in proptest::collection::vec(op(), 1..80)) {
        let mut pair = Pair::new();
        for op in &ops {
            pair.apply(op);
            pair.compare(op);
        }
        pair.compare_contents();
        // Counters and live bytes, too.
        let problems = pair.world.check().problems;
        assert!(problems.is_empty(), "{problems:?}");
    }
}
