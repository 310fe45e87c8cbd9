//! The fault atlas: what can go wrong, how often in a run, and what must be survived.
//!
//! | class | what happens | what must hold |
//! |---|---|---|
//! | `kv-*` | a refused, late, unknown or doubly answered transaction | nobody notices but the clock |
//! | `page-tail`, `page-away` | a slow or absent page store | nobody notices but the clock |
//! | `page-error` | a read that fails for good | EIO for that read, nothing else |
//! | `no-space` | the page store is full | ENOSPC or EIO for data; the namespace is untouched |
//! | `disk-sync` | an fdatasync of the real stores fails, and some sectors never arrive | fsync succeeds all the same, or the process is killed; what fsync promised is there |
//! | `disk-full` | a disk of the real stores is full for a while | ENOSPC, and nothing else |
//! | `crash` | the process ends, and on an embedded store the power too | what fsync promised is there |
//! | `remount` | a clean unmount | everything is there |
//! | `wall-jump` | the civil clock jumps | times stay within what the clock ever said |
//! | `interrupt` | the caller gives up | EINTR without effect, or the result |
//! | `caller-killed` | a caller is killed in the middle of a request | as for `interrupt`; its directory is closed |
//! | `pause` | the process stands still, up to a minute, and the stores go on | nobody notices but the clock |
//! | `abort` | the kernel drops the connection, the process unmounts | everything answered is there; each request under way happened or not |
//! | `kv-full` | the metadata store takes nothing for a while | ENOSPC, and nothing else |
//! | `volume-full` | the volume has a limit of bytes or inodes | ENOSPC, and only when it is full |
//! | `clock-skew` | the civil clock runs too fast or too slow, up to twice or half | times are what it said |
//! | `disk-read` | a read of a page file fails | EIO for that read, nothing else |
//! | `disk-rot` | a byte of a page file changes, a page lands in the wrong place or never | EIO for what it hit, and a report that names the file; never other bytes |
//!
//! What may be lost, ever: what no fsync, fsyncdir, sync or unmount had promised, when the process or the
//! power goes; files' bytes that a disk has lost. What must be reported, always as an error of the call
//! that meets it: a full disk, a full volume, bytes that cannot be read.

use vellum_core::port::control::Limit;

use crate::dice::{Dice, Stream};
use vellum_core::data::fold::Policy;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A commit is refused although nothing conflicts.
    KvConflict,
    /// A read version is said to be too old.
    KvTooOld,
    /// A read version is said to be in the future.
    KvNotYet,
    /// The store asks to slow down.
    KvThrottled,
    /// The store does not answer for a while.
    KvOutage,
    /// A commit succeeds and its answer is lost.
    UnknownLanded,
    /// A commit fails and its answer is lost.
    UnknownLost,
    /// A commit's answer is lost, and it lands later, if at all.
    UnknownLate,
    /// The cluster recovers: versions jump, everything in flight is unknown.
    KvRecovery,
    /// A range is cut short.
    KvSplit,
    /// An answer of the store takes very long.
    KvTail,
    /// An answer of the page store takes very long.
    PageTail,
    /// The page store is away for a moment.
    PageAway,
    /// A page read fails for good.
    PageError,
    /// The page store is full.
    NoSpace,
    /// An fdatasync fails, and what it should have written is taken for clean.
    DiskSync,
    /// The disk of the real stores is full for a while.
    DiskFull,
    /// The process is killed.
    Crash,
    /// A commit or a segment that was not durable was lost in a crash.
    CrashLoss,
    /// The volume is unmounted and mounted again.
    Remount,
    /// The civil clock jumps.
    WallJump,
    /// A caller gives up.
    Interrupt,
    /// A caller is killed.
    CallerKilled,
    /// The process stands still.
    Pause,
    /// The kernel aborts the connection.
    Abort,
    /// The metadata store is full for a while.
    KvFull,
    /// The volume's limits are met.
    VolumeFull,
    /// The civil clock runs too fast or too slow.
    ClockSkew,
    /// A read of a disk fails.
    DiskRead,
    /// Bytes on a disk change, or pages are written to the wrong place.
    DiskRot,
}

impl Fault {
    /// All of them with their names.
    pub const ALL: [(&'static str, Fault); 30] = [
        ("kv-conflict", Fault::KvConflict),
        ("kv-too-old", Fault::KvTooOld),
        ("kv-not-yet", Fault::KvNotYet),
        ("kv-throttled", Fault::KvThrottled),
        ("kv-outage", Fault::KvOutage),
        ("unknown-landed", Fault::UnknownLanded),
        ("unknown-lost", Fault::UnknownLost),
        ("unknown-late", Fault::UnknownLate),
        ("kv-recovery", Fault::KvRecovery),
        ("kv-split", Fault::KvSplit),
        ("kv-tail", Fault::KvTail),
        ("page-tail", Fault::PageTail),
        ("page-away", Fault::PageAway),
        ("page-error", Fault::PageError),
        ("no-space", Fault::NoSpace),
        ("disk-sync", Fault::DiskSync),
        ("disk-full", Fault::DiskFull),
        ("crash", Fault::Crash),
        ("crash-loss", Fault::CrashLoss),
        ("remount", Fault::Remount),
        ("wall-jump", Fault::WallJump),
        ("interrupt", Fault::Interrupt),
        ("caller-killed", Fault::CallerKilled),
        ("pause", Fault::Pause),
        ("abort", Fault::Abort),
        ("kv-full", Fault::KvFull),
        ("volume-full", Fault::VolumeFull),
        ("clock-skew", Fault::ClockSkew),
        ("disk-read", Fault::DiskRead),
        ("disk-rot", Fault::DiskRot),
    ];
    /// How many there are.
    pub const COUNT: usize = Fault::ALL.len();
}

/// How often each fault happened.
pub type FaultCounts = [u64; Fault::COUNT];

/// Which metadata store a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// A cluster: durable at once, outcomes may be unknown.
    Cluster,
    /// An embedded store in a few lines: durable at sync, a crash keeps a prefix.
    Embedded,
    /// The real stores of one machine over simulated disks that tear and lose what was not synced.
    Local,
}

/// What a run is like. Everything but the plan itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// The metadata store.
    pub store: Store,
    /// Bits of the name hash.
    pub hash_bits: u8,
    /// Callers at work at the same time.
    pub callers: usize,
    /// The kernel takes the inode locks that Linux takes.
    pub kernel_locks: bool,
    /// Chance of each fault in 10,000, in the order of [`Fault::ALL`]; what it is a chance of differs.
    pub rates: [u32; Fault::COUNT],
    /// Capacity of the page store in bytes.
    pub capacity: u64,
    /// Bytes that write buffers may hold.
    pub dirty_max: u64,
    /// Milliseconds after which buffers are flushed unasked.
    pub flush_after_ms: u64,
    /// No access times.
    pub noatime: bool,
    /// Typical pause of a caller between operations, in microseconds.
    pub pause_us: u64,
    /// When write logs are folded.
    pub compaction: Policy,
    /// Events between two checks of the volume while it is worked on; 0: none.
    pub check_every: u64,
    /// What the volume may hold at most.
    pub limit: Limit,
    /// Millionths by which the civil clock runs too fast.
    pub skew: i64,
}

impl Options {
    /// The options that the seed stands for.
    pub fn of_seed(seed: u64) -> Options {
        let dice = &mut Dice::new(seed, Stream::Swarm);
        let store = *dice.pick(&[Store::Cluster, Store::Embedded, Store::Local]);
        let kernel_locks = !dice.chance(2_000);
        let mut options = Options {
            store,
            hash_bits: if dice.chance(1_500) { 3 } else { 60 },
            callers: *dice.pick(&[1, 2, 4, 4, 4, 8]),
            kernel_locks,
            rates: [0; Fault::COUNT],
            capacity: 1 << 40,
            dirty_max: *dice.pick(&[16 << 20, 64 << 20, 256 << 20]),
            flush_after_ms: *dice.pick(&[20, 200, 1000]),
            noatime: dice.chance(2_000),
            pause_us: *dice.pick(&[0, 50, 2_000, 100_000]),
            compaction: compaction(&mut Dice::new(seed, Stream::Folds)),
            check_every: 0,
            limit: Limit::default(),
            skew: 0,
        };
        let checks = &mut Dice::new(seed, Stream::Checks);
        if checks.chance(2_000) {
            options.check_every = checks.within(200, 3_000);
        }
        let more = &mut Dice::new(seed, Stream::More);
        options.choose_shape(more);
        if !dice.chance(1_500) {
            options.choose_faults(dice);
            options.choose_disk_faults(&mut Dice::new(seed, Stream::Disk));
            options.choose_more_faults(more);
        }
        options
    }

    /// Nothing is left to chance.
    pub fn steady(store: Store, kernel_locks: bool, callers: usize) -> Options {
        Options {
            store,
            hash_bits: 60,
            callers,
            kernel_locks,
            rates: [0; Fault::COUNT],
            capacity: 1 << 40,
            dirty_max: 16 << 20,
            flush_after_ms: 1000,
            noatime: true,
            pause_us: 0,
            compaction: Policy { enabled: false, ..Policy::default() },
            check_every: 0,
            limit: Limit::default(),
            skew: 0,
        }
    }

    /// The chance of a fault in 10,000.
    pub fn rate(&self, fault: Fault) -> u32 {
        self.rates[fault as usize]
    }

    /// Whether data may be refused or unreadable in this run.
    pub fn data_may_fail(&self) -> bool {
        use Fault::*;
        let fail = [NoSpace, PageError, DiskFull, KvFull, DiskRead, DiskRot];
        fail.iter().any(|f| self.rate(*f) > 0)
    }

    fn choose_faults(&mut self, dice: &mut Dice) {
        use Fault::*;
        let anywhere = [
            (KvConflict, 500),
            (KvTooOld, 200),
            (KvThrottled, 200),
            (KvSplit, 2_000),
            (KvTail, 100),
            (PageTail, 100),
            (PageAway, 300),
            (WallJump, 100),
            (Interrupt, 10_000),
        ];
        let cluster = [
            (KvNotYet, 200),
            (KvOutage, 20),
            (UnknownLanded, 300),
            (UnknownLost, 300),
            (UnknownLate, 200),
            (KvRecovery, 15),
        ];
        for (fault, rate) in anywhere {
            self.maybe(dice, fault, rate);
        }
        if self.store == Store::Cluster {
            for (fault, rate) in cluster {
                self.maybe(dice, fault, rate);
            }
        }
        // Without the kernel's locks an unanswered operation has no certain place in the order.
        if self.kernel_locks {
            self.maybe(dice, Crash, 100);
        }
        self.maybe(dice, Remount, 100);
        if dice.chance(500) {
            self.rates[PageError as usize] = 300;
        }
        if self.store != Store::Local && dice.chance(500) {
            self.rates[NoSpace as usize] = 1;
            self.capacity = dice.within(256 << 10, 4 << 20);
        }
    }

    /// From dice of their own, so that older seeds stay what they were but for these.
    fn choose_disk_faults(&mut self, dice: &mut Dice) {
        // A store that fails for good ends the process, which needs the kernel's locks as a crash does.
        if self.store == Store::Local && self.kernel_locks {
            self.maybe(dice, Fault::DiskSync, 2_000);
            if dice.chance(2_000) {
                self.maybe(dice, Fault::DiskFull, 1_000);
            }
        }
    }

    /// Narrow places that would otherwise never be met.
    fn choose_shape(&mut self, dice: &mut Dice) {
        if self.hash_bits == 3 && dice.coin() {
            self.hash_bits = 1;
        }
        if dice.chance(1_000) {
            self.dirty_max = *dice.pick(&[32 << 10, 256 << 10]);
        }
    }

    fn choose_more_faults(&mut self, dice: &mut Dice) {
        use Fault::*;
        if dice.chance(1_500) {
            self.rates[CallerKilled as usize] = 200;
        }
        if dice.chance(1_500) {
            self.rates[Pause as usize] = 100;
        }
        // As after a kill, requests without an answer need the kernel's locks to have a certain place.
        if self.kernel_locks && dice.chance(1_500) {
            self.rates[Abort as usize] = 100;
        }
        if self.store != Store::Local && dice.chance(1_500) {
            self.rates[KvFull as usize] = 20;
        }
        if dice.chance(1_500) {
            self.rates[ClockSkew as usize] = 10_000;
            self.skew = dice.within(0, 1_500_000) as i64 - 500_000;
        }
        if dice.chance(1_000) {
            self.rates[VolumeFull as usize] = 10_000;
            match dice.coin() {
                true => self.limit.bytes = Some(dice.within(16 << 10, 1 << 20)),
                false => self.limit.inodes = Some(dice.within(4, 40)),
            }
        }
        if self.store == Store::Local && dice.chance(1_000) {
            self.rates[DiskRead as usize] = 3_000;
        }
        if self.store == Store::Local && dice.chance(1_000) {
            self.rates[DiskRot as usize] = 200;
        }
        if self.rates[PageError as usize] > 0 {
            self.rates[PageError as usize] = 3_000;
        }
    }

    /// A fault that is left out takes with it what it stands for.
    pub fn leave_out(&mut self, fault: Fault) {
        self.rates[fault as usize] = 0;
        match fault {
            Fault::VolumeFull => self.limit = Limit::default(),
            Fault::ClockSkew => self.skew = 0,
            _ => {}
        }
    }

    fn maybe(&mut self, dice: &mut Dice, fault: Fault, rate: u32) {
        if dice.coin() {
            self.rates[fault as usize] = (rate / *dice.pick(&[1, 1, 3, 10])).max(1);
        }
    }
}

/// Mostly so eager that small files are folded over and over.
fn compaction(dice: &mut Dice) -> Policy {
    let usual = Policy::default();
    if dice.chance(2_000) {
        return Policy { enabled: dice.coin(), ..usual };
    }
    Policy {
        enabled: true,
        write_log_count: *dice.pick(&[usual.write_log_count, 2, 4, 16]),
        space_amplification_percent: *dice.pick(&[0, 10, 50]),
        min_file_size: *dice.pick(&[0, 8 << 10, 64 << 10]),
        garbage_slack: *dice.pick(&[0, 16 << 10, usual.garbage_slack]),
        segment_max: *dice.pick(&[20_000, 64 << 10, usual.segment_max]),
        untidy_min: *dice.pick(&[0, 16 << 10, usual.untidy_min]),
        carried_max: *dice.pick(&[16 << 10, 48 << 10, usual.carried_max]),
        segment_min: *dice.pick(&[0, 1 << 10, usual.segment_min]),
    }
}
