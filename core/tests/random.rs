//! Random operations through a mount leave a volume on which every rule of the check holds.

mod world;

use bytes::Bytes;
use std::collections::BTreeMap;
use vellum_core::client::ClientConfig;
use vellum_core::id::{Handle, Ino, SessionId};
use vellum_core::port::control::CheckReport;
use vellum_core::port::kernel::{OpenFlags, Operation, Reply, SetAttr, SetTime};
use vellum_core::time::WallTime;
use world::World;

const SEEDS: u64 = 150;
const STEPS: u32 = 300;

/// xorshift64*: the same numbers for a seed on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// What a program knows of the volume: some of it is outdated, so that operations fail, too.
struct Program {
    w: World,
    r: Random,
    dirs: Vec<Ino>,
    files: Vec<Ino>,
    open: Vec<(Ino, Handle)>,
    /// How often each kind of call succeeded.
    done: BTreeMap<&'static str, u32>,
}

const NAMES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "a-longer-name"];
/// Sizes and offsets around every limit of storage.
const PLACES: [u64; 12] =
    [0, 1, 100, 4095, 4096, 4097, 16_384, 70_000, 1 << 20, (64 << 20) - 7, 64 << 20, 200 << 20];
const LENGTHS: [usize; 8] = [1, 10, 4096, 5000, 16_384, 20_000, 70_000, 300_000];

impl Program {
    fn new(seed: u64, hash_bits: u8) -> Program {
        Program::with(ClientConfig::sole(SessionId(7), seed), hash_bits)
    }

    fn with(config: ClientConfig, hash_bits: u8) -> Program {
        let seed = config.seed;
        Program {
            w: World::formatted(config, hash_bits),
            r: Random::new(seed),
            dirs: vec![Ino::ROOT],
            files: Vec::new(),
            open: Vec::new(),
            done: BTreeMap::new(),
        }
    }

    fn count<T, E>(&mut self, call: &'static str, result: &Result<T, E>) {
        *self.done.entry(call).or_default() += u32::from(result.is_ok());
    }

    fn name(&mut self) -> (Ino, &'static str) {
        // Mostly the same few directories, so that names meet.
        let few = if self.r.below(4) > 0 { self.dirs.len().min(4) } else { self.dirs.len() };
        (self.r.pick(&self.dirs[..few]), self.r.pick(&NAMES))
    }

    /// One call of a random program. Errors are answers, too.
    fn step(&mut self) {
        let (dir, name) = self.name();
        match self.r.below(24) {
            0..=3 => {
                let made = self.w.create(dir, name);
                self.count("create", &made);
                self.files.extend(made.map(|file| file.0));
                self.open.extend(made);
            }
            4 | 5 => {
                let made = self.w.mkdir(dir, name);
                self.count("mkdir", &made);
                self.dirs.extend(made);
            }
            6 => {
                let target = "t".repeat(1 + self.r.below(200) as usize);
                let made = self.w.symlink(dir, name, &target);
                self.count("symlink", &made);
                self.files.extend(made);
            }
            // A fifo, which has no data; or an open that truncates.
            7 if self.r.below(2) == 0 => {
                let name = Bytes::from_static(name.as_bytes());
                let op = Operation::MkNod { parent: dir, name, mode: 0o010_644, umask: 0, rdev: 0 };
                let made = self.w.entry(op).map(|attr| attr.expect("an inode").ino);
                self.count("mknod", &made);
                self.files.extend(made);
            }
            8 if !self.files.is_empty() && self.r.below(3) == 0 => {
                let ino = self.r.pick(&self.files);
                let result = self.w.ask(Operation::Open { ino, flags: OpenFlags(0o1002) });
                self.count("open truncating", &result);
                if let Ok(Reply::Opened(opened)) = result {
                    self.open.push((ino, opened.handle));
                }
            }
            7 | 8 if !self.files.is_empty() => {
                let ino = self.r.pick(&self.files);
                let result = self.w.link(ino, (dir, name));
                self.count("link", &result);
            }
            9 | 10 => {
                let result = self.w.unlink(dir, name);
                self.count("unlink", &result);
            }
            11 => {
                let result = self.w.rmdir(dir, name);
                self.count("rmdir", &result);
            }
            12..=14 => {
                let (from, to) = (self.name(), self.name());
                let (flags, call) =
                    self.r.pick(&[(0, "rename"), (1, "noreplace"), (2, "exchange")]);
                let result = self.w.rename(from, to, flags);
                self.count(call, &result);
            }
            15..=18 => self.write(),
            19 | 20 => self.set(),
            21 => self.open_or_close(),
            22 => {
                let ino = self.r.pick(&self.dirs);
                self.w.forget(ino);
                if !self.files.is_empty() {
                    let ino = self.r.pick(&self.files);
                    self.w.forget(ino);
                }
            }
            23 if self.w.commits_left > 1000 && self.r.below(20) == 0 => {
                // The mount dies with what it has buffered and with every handle.
                self.open.clear();
                self.w.remount();
            }
            _ => {
                let delay = self.r.below(3_000_000_000);
                self.w.wait(delay);
            }
        }
    }

    fn write(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let file = self.r.pick(&self.open);
        let near = self.r.below(3);
        let offset = self.r.pick(&PLACES) + near;
        let data = vec![offset as u8 | 1; self.r.pick(&LENGTHS)];
        let result = self.w.write(file, offset, &data);
        self.count("write", &result);
        if self.r.below(3) == 0 {
            let result = self.w.fsync(file);
            self.count("fsync", &result);
        }
    }

    fn set(&mut self) {
        let inos: Vec<Ino> = self.files.iter().chain(&self.dirs).copied().collect();
        let ino = self.r.pick(&inos);
        let mut set = SetAttr::default();
        let call = match self.r.below(4) {
            0 => {
                set.size = Some(0);
                "truncate to nothing"
            }
            1 => {
                set.size = Some(self.r.pick(&PLACES));
                "truncate"
            }
            2 => {
                set.mode = Some(0o700);
                "chmod"
            }
            _ => {
                set.mtime = Some(SetTime::At(WallTime::new(1_000_000, 5)));
                "utimens"
            }
        };
        let result = self.w.ask(Operation::SetAttr { ino, handle: None, set });
        self.count(call, &result);
    }

    fn open_or_close(&mut self) {
        if !self.open.is_empty() && self.r.below(2) == 0 {
            let at = self.r.below(self.open.len() as u64) as usize;
            let file = self.open.swap_remove(at);
            let result = self.w.close(file);
            self.count("close", &result);
        } else if !self.files.is_empty() {
            let ino = self.r.pick(&self.files);
            let opened = self.w.open(ino);
            self.count("open", &opened);
            self.open.extend(opened);
        }
    }
}

fn assert_clean(report: &CheckReport, when: &str) {
    assert!(report.problems.is_empty(), "{when}: {:#?}", report.problems);
}

#[test]
fn random_operations_leave_a_clean_volume() {
    let mut done: BTreeMap<&'static str, u32> = BTreeMap::new();
    let mut seen = CheckReport::default();
    for seed in 0..SEEDS {
        // Few bits of hash make full buckets.
        let mut p = Program::new(seed, if seed % 3 == 0 { 3 } else { 60 });
        for step in 0..STEPS {
            p.step();
            if step % 50 == 49 {
                let report = p.w.check();
                assert_clean(&report, &format!("seed {seed}, step {step}"));
                seen.segments += report.segments;
                seen.inodes += report.inodes;
            }
        }
        p.w.remount();
        assert_clean(&p.w.check(), &format!("seed {seed}, after a remount"));
        p.done.into_iter().for_each(|(call, n)| *done.entry(call).or_default() += n);
    }
    assert_eq!(done.len(), 19, "every call was made");
    assert!(done.values().all(|n| *n >= 20), "every call succeeds often: {done:?}");
    assert!(seen.segments > 1000 && seen.inodes > 1000, "volumes had contents: {seen:?}");
}

#[test]
fn a_mount_that_dies_after_any_commit_leaves_a_clean_volume() {
    for seed in 0..40 {
        for crash in 0..25 {
            let mut p = Program::new(seed, 60);
            let steps = 20 + 5 * crash as u32;
            for _ in 0..steps {
                p.step();
            }
            // From here on, a few commits more: also in the middle of an operation's consequences.
            p.w.commits_left = 1 + crash % 9;
            while p.w.commits_left > 0 {
                p.step();
            }
            p.w.remount();
            let when = format!("seed {seed}, crash {crash}");
            assert_clean(&p.w.check(), &when);
            let garbage = p.w.kv.keys().filter(|key| key.starts_with(b"G")).count();
            assert_eq!(garbage, 0, "{when}: nobody holds a removed file any more");
        }
    }
}

#[test]
fn at_rest_nothing_is_left_of_what_was_removed() {
    for seed in 0..10 {
        let mut p = Program::new(seed, 60);
        for _ in 0..STEPS {
            p.step();
        }
        for file in std::mem::take(&mut p.open) {
            p.w.close(file).expect("close");
        }
        p.w.remount();
        remove_all(&mut p.w, Ino::ROOT);
        p.w.remount();
        p.w.wait(3_000_000_000);
        let report = p.w.check();
        assert_clean(&report, &format!("seed {seed}"));
        assert_eq!((report.inodes, report.dentries, report.segments), (1, 0, 0), "seed {seed}");
        let left = p.w.kv.keys().filter(|k| !matches!(k[0], b'A' | b'I' | b'Z')).count();
        assert_eq!(left, 0, "seed {seed}: {:?}", p.w.kv.keys().collect::<Vec<_>>());
    }
}

fn remove_all(w: &mut World, dir: Ino) {
    for (name, ino) in w.list(dir, 4096).expect("list") {
        if name == "." || name == ".." {
            continue;
        }
        if w.unlink(dir, &name).is_err() {
            remove_all(w, ino);
            w.rmdir(dir, &name).expect("rmdir");
        }
    }
}

#[cfg(feature = "canary")]
#[test]
fn random_operations_find_a_planted_bug() {
    let seen = |seed| {
        let mut p = Program::with(ClientConfig::sole(SessionId(7), seed), 60);
        (0..STEPS).for_each(|_| p.step());
        let problems = p.w.check().problems;
        assert!(problems.iter().all(|p| p.rule == "beyond-size"), "{problems:#?}");
        !problems.is_empty()
    };
    let bug = vellum_core::canary::Canary::ForgottenErase;
    let found = world::with_planted(bug, || (0..SEEDS).any(seen));
    assert!(found, "{SEEDS} seeds do not see truncates without erases");
}
