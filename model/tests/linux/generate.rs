//! Random calls that mostly make sense: paths are drawn from a model that runs along.

use vellum_model::{
    Allocate, Kind, Op, OpenFlags, RenameFlags, SetTime, Syscalls, Time, XattrMode,
};

use crate::compare::{Scope, fresh, now, paths};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const DEPTH_MAX: usize = 4;
/// Above this many paths removals become likely.
const PATHS_MAX: usize = 40;
/// No mode that is sticky and world-writable at once: `fs.protected_*` would refuse links there.
const MODES: [u16; 10] =
    [0o644, 0o755, 0o600, 0o777, 0o2755, 0o4755, 0o6755, 0o2644, 0o1755, 0o000];
pub(crate) const OWNERS: [u32; 4] = [0, 1, 1000, 65533];
const SLOTS: u64 = 4;
const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
const CAPABILITY: &str = "security.capability";

/// `count` calls that begin in an empty `/w`.
pub(crate) fn generate(seed: u64, count: usize, scope: &Scope) -> Vec<Op> {
    let mut plan = Vec::with_capacity(count);
    let mut generator = Generator {
        rng: SplitMix(seed),
        model: fresh(scope.caller),
        known: Vec::new(),
        removes: false,
    };
    while plan.len() < count {
        generator.learn();
        let op = generator.op();
        if scope.skips_op(&op, &generator.model) {
            continue;
        }
        generator.model.apply(&op, now(plan.len()));
        plan.push(op);
    }
    plan
}

struct Generator {
    rng: SplitMix,
    model: Syscalls,
    /// Every path below `/w` with its kind, `/w` first.
    known: Vec<(Vec<u8>, Kind)>,
    removes: bool,
}

impl Generator {
    fn learn(&mut self) {
        let all = paths(&self.model.fs).into_iter();
        self.known = all
            .filter(|(path, _)| path.starts_with(b"/w"))
            .map(|(path, node)| (path, self.model.fs.getattr(node).expect("it has a path").kind))
            .collect();
        self.removes = self.known.len() > PATHS_MAX;
    }

    fn op(&mut self) -> Op {
        if self.removes && self.chance(40) {
            return self.removal();
        }
        match self.below(100) {
            0..18 => self.op_that_makes(),
            18..30 => self.rename(),
            30..38 => self.removal(),
            38..48 => self.open(),
            48..70 => self.op_on_slot(),
            70..86 => self.op_on_attributes(),
            86..94 => self.op_on_xattrs(),
            _ => self.op_that_reads(),
        }
    }

    fn op_that_makes(&mut self) -> Op {
        let path = self.new_path();
        let perm = self.pick(&MODES);
        match self.below(10) {
            0..4 => Op::Mkdir { path, perm },
            4 => {
                let follow = self.chance(40);
                let kind = if follow { Kind::Symlink } else { Kind::File };
                Op::Link { from: self.path_of(kind), to: path, follow }
            }
            5 => Op::LinkSlot { slot: self.slot(), to: path },
            6..8 => Op::Symlink { target: self.link_target(), path },
            8 => Op::Mknod { path, kind: Kind::File, perm, rdev: 0 },
            _ => {
                let kind = self.pick(&[Kind::Fifo, Kind::Socket, Kind::CharDev, Kind::BlockDev]);
                let rdev = if kind.is_device() { 0x0103 } else { 0 };
                Op::Mknod { path, kind, perm, rdev }
            }
        }
    }

    fn rename(&mut self) -> Op {
        let flags = self.pick(&[
            RenameFlags::Replace,
            RenameFlags::Replace,
            RenameFlags::NoReplace,
            RenameFlags::Exchange,
        ]);
        let from = self.path();
        let to = match flags {
            RenameFlags::Exchange => self.path(),
            _ if self.chance(50) => self.new_path(),
            _ => self.path(),
        };
        Op::Rename { from, to, flags }
    }

    fn removal(&mut self) -> Op {
        if self.chance(40) {
            return Op::Rmdir { path: self.path_of(Kind::Dir) };
        }
        let kind = self.pick(&[Kind::File, Kind::Symlink, Kind::Fifo, Kind::Socket, Kind::CharDev]);
        Op::Unlink { path: self.path_of(kind) }
    }

    fn open(&mut self) -> Op {
        let slot = self.slot();
        if self.chance(15) {
            return Op::Close { slot };
        }
        if self.chance(12) {
            let (path, exclusive) = (self.path_of(Kind::Dir), self.chance(30));
            return Op::Tmpfile { slot, path, exclusive, perm: self.pick(&MODES) };
        }
        let create = self.chance(60);
        let path = if create { self.new_path() } else { self.path_of(Kind::File) };
        let (read, write) = self.pick(&[(true, false), (true, true), (true, true), (false, true)]);
        let flags = OpenFlags {
            read,
            write,
            create,
            exclusive: create && self.chance(20),
            truncate: write && self.chance(20),
            append: write && self.chance(20),
            directory: self.chance(5),
            no_follow: self.chance(10),
        };
        Op::Open { slot, path, flags, perm: self.pick(&MODES) }
    }

    fn op_on_slot(&mut self) -> Op {
        let open: Vec<u8> =
            (0..SLOTS as u8).filter(|slot| self.model.open_node(*slot).is_some()).collect();
        let slot = if open.is_empty() || self.chance(5) { self.slot() } else { self.pick(&open) };
        let (offset, len) = (self.offset(), self.len());
        match self.below(22) {
            20..22 => {
                let to = if self.chance(30) || open.is_empty() { slot } else { self.pick(&open) };
                let (offset, to_offset) = (offset % (1 << 20), self.offset() % (1 << 20));
                Op::CopyRange { from: slot, offset, to, to_offset, len: len as u64 * 3 }
            }
            0..7 => Op::Pwrite { slot, offset, data: self.bytes(len) },
            7..12 => Op::Pread { slot, offset, len },
            12..14 => Op::Ftruncate { slot, size: offset },
            14..16 => Op::Fallocate {
                slot,
                mode: self.allocate(),
                offset: offset % (1 << 20),
                len: len as u64,
            },
            16 => Op::SeekData { slot, offset },
            17 => Op::SeekHole { slot, offset },
            _ => Op::Fstat { slot },
        }
    }

    fn op_on_attributes(&mut self) -> Op {
        let (path, follow) = self.target();
        match self.below(10) {
            0..3 => Op::Chmod { path, perm: self.pick(&MODES) },
            3..6 => {
                let (uid, gid) = (self.owner(), self.owner());
                Op::Chown { path, uid, gid, follow }
            }
            6..8 => {
                let (atime, mtime) = (self.time(), self.time());
                Op::Utimens { path, atime, mtime, follow }
            }
            _ => Op::Truncate { path: self.path_of(Kind::File), size: self.offset() },
        }
    }

    fn op_on_xattrs(&mut self) -> Op {
        let (path, follow) = self.target();
        let name = self.pick(&[
            "user.x",
            "user.y",
            "trusted.x",
            "security.z",
            "nonsense",
            "user.",
            CAPABILITY,
            ACCESS,
            ACCESS,
            DEFAULT,
            DEFAULT,
        ]);
        let value = match name {
            ACCESS | DEFAULT => Some(self.acl()),
            // Linux lets nothing else pass. On what runs no programs it means nothing.
            CAPABILITY => Some([&[0, 0, 0, 2][..], &[1; 16]].concat()),
            _ => None,
        };
        let path = if name == DEFAULT { self.path_of(Kind::Dir) } else { path };
        let name = name.as_bytes().to_vec();
        match self.below(10) {
            0..5 => {
                let len = self.below(60) as usize;
                let mode = self.pick(&[
                    XattrMode::Any,
                    XattrMode::Any,
                    XattrMode::Create,
                    XattrMode::Replace,
                ]);
                let value = value.unwrap_or_else(|| self.bytes(len));
                Op::Setxattr { path, name, value, mode, follow }
            }
            5..7 => Op::Getxattr { path, name, follow },
            7 => Op::Listxattr { path, follow },
            _ => Op::Removexattr { path, name, follow },
        }
    }

    /// A POSIX ACL, or now and then something that is none.
    fn acl(&mut self) -> Vec<u8> {
        let mut value = vec![2, 0, 0, 0];
        let named = self.below(3);
        let mut add = |tag: u16, perm: u64, id: u32| {
            value.extend(tag.to_le_bytes());
            value.extend((perm as u16).to_le_bytes());
            value.extend(id.to_le_bytes());
        };
        let none = u32::MAX;
        add(0x01, self.below(8), none);
        (0..named).for_each(|n| add(0x02, self.below(8), 1000 + n as u32));
        add(0x04, self.below(8), none);
        if self.chance(30) {
            add(0x08, self.below(8), 5);
            add(0x10, self.below(8), none);
        } else if named > 0 || self.chance(20) {
            add(0x10, self.below(8), none);
        }
        add(0x20, self.below(8), none);
        match self.below(30) {
            0 => value.truncate(12),
            1 => value[0] = 1,
            2 => value[6] = 9,
            3 => value.clear(),
            4 => value.truncate(4),
            _ => {}
        }
        value
    }

    fn op_that_reads(&mut self) -> Op {
        match self.below(7) {
            6 => Op::Statfs { path: self.target().0 },
            0 => Op::Stat { path: self.target().0 },
            1 => Op::Lstat { path: self.path() },
            2 => Op::Readlink { path: self.path_of(Kind::Symlink) },
            _ => Op::Readdir { path: self.path_of(Kind::Dir) },
        }
    }

    /// A path, or an open file, and whether to follow a link there.
    fn target(&mut self) -> (Vec<u8>, bool) {
        match self.chance(25) {
            true => (vec![b'@', b'0' + self.slot()], true),
            false => (self.path(), self.chance(60)),
        }
    }

    /// A path where something is, mostly.
    fn path(&mut self) -> Vec<u8> {
        if self.chance(12) {
            return self.new_path();
        }
        let index = self.below(self.known.len() as u64) as usize;
        let path = self.known[index].0.clone();
        // The root of the comparison itself is not renamed or removed.
        if path == b"/w" { b"/w/a".to_vec() } else { self.odd(path) }
    }

    /// Something of this kind, mostly.
    fn path_of(&mut self, kind: Kind) -> Vec<u8> {
        let fitting: Vec<_> = self.known[1..]
            .iter()
            .filter(|(_, k)| *k == kind)
            .map(|(path, _)| path.clone())
            .collect();
        if fitting.is_empty() || self.chance(15) {
            return self.path();
        }
        let path = fitting[self.below(fitting.len() as u64) as usize].clone();
        self.odd(path)
    }

    /// A short name in a directory that is there, mostly: free or taken as chance has it.
    fn new_path(&mut self) -> Vec<u8> {
        let dirs: Vec<_> = self
            .known
            .iter()
            .filter(|(path, kind)| {
                *kind == Kind::Dir && path.split(|b| *b == b'/').count() <= DEPTH_MAX
            })
            .map(|(path, _)| path.clone())
            .collect();
        let mut path = dirs[self.below(dirs.len() as u64) as usize].clone();
        path.push(b'/');
        path.extend_from_slice(self.pick(&NAMES).as_bytes());
        self.odd(path)
    }

    /// Now and then a path of an unusual form: another spelling, or one that is wrong.
    fn odd(&mut self, path: Vec<u8>) -> Vec<u8> {
        let name = self.pick(&NAMES).as_bytes();
        match self.below(120) {
            0 => [&path, b"/".as_slice(), name].concat(),
            1 => [&path, b"/../".as_slice(), name].concat(),
            2 => [b"/w/./".as_slice(), path.get(3..).unwrap_or(b"a")].concat(),
            3 => [&path, b"/.".as_slice()].concat(),
            4 => [&path, b"/..".as_slice()].concat(),
            5 => [&path, b"/".as_slice()].concat(),
            6 => [b"/w/".as_slice(), &[b'n'; 256]].concat(),
            7 => [b"/w/".as_slice(), &[b'n'; 255]].concat(),
            8 => Vec::new(),
            _ => path,
        }
    }

    /// Relative and without `..`, so that no link leads out of `/w`.
    fn link_target(&mut self) -> Vec<u8> {
        let (first, second) = (self.pick(&NAMES), self.pick(&NAMES));
        match self.below(12) {
            0 => b".".to_vec(),
            1 => format!("{first}/{second}").into_bytes(),
            2 => format!("{first}/").into_bytes(),
            3 => Vec::new(),
            _ => first.as_bytes().to_vec(),
        }
    }

    fn slot(&mut self) -> u8 {
        self.below(SLOTS) as u8
    }

    /// Near the borders of blocks, sometimes far out.
    fn offset(&mut self) -> u64 {
        match self.below(12) {
            0..4 => 0,
            4..8 => self.below(10_000),
            8..10 => (self.below(5) * 4096 + self.below(3)).saturating_sub(1),
            10 => self.below(1 << 20),
            _ => (1 << 40) + self.below(10_000),
        }
    }

    fn len(&mut self) -> usize {
        let len = match self.below(10) {
            0 => 0,
            1..5 => self.below(100),
            5..7 => 4096,
            _ => self.below(9000),
        };
        len as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let first = self.below(255) as u8;
        (0..len).map(|i| first.wrapping_add((i % 251) as u8)).collect()
    }

    fn allocate(&mut self) -> Allocate {
        use Allocate::{Extend, Keep, PunchHole, ZeroExtend, ZeroKeep};
        self.pick(&[Extend, Keep, PunchHole, PunchHole, ZeroExtend, ZeroKeep])
    }

    fn owner(&mut self) -> Option<u32> {
        if self.chance(30) { None } else { Some(self.pick(&OWNERS)) }
    }

    fn time(&mut self) -> SetTime {
        let given = Time::new(self.below(1 << 31) as i64, self.below(1_000_000_000) as u32);
        self.pick(&[SetTime::Omit, SetTime::Now, SetTime::Set(given), SetTime::Set(given)])
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn below(&mut self, bound: u64) -> u64 {
        // The bias of a modulo is of no weight for such small bounds.
        self.rng.next() % bound
    }
}

/// splitmix64 (Steele, Lea, Flood 2014): one word of state, and any seed is a good one.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}
