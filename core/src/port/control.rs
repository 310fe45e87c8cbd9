//! What the host itself asks of a machine: life cycle, inspection, checking.

use crate::error::FsError;
use crate::id::{Ino, SegmentId, VolumeId};
use crate::port::page_store::Space;
use crate::time::WallTime;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// A request of the host. Each is answered by exactly one [`Answer`].
#[derive(Clone, Debug)]
pub enum Control {
    /// Writes the volume record and the root directory into an empty store.
    /// Answered by [`Answer::Formatted`], or [`Answer::AlreadyFormatted`] if there is one.
    Format(FormatOptions),
    /// Reads the volume record and gets ready to serve. Before it, kernel requests wait.
    /// Answered by [`Answer::Mounted`].
    Mount,
    /// Flushes everything and makes it durable. Answered by [`Answer::Synced`].
    Sync,
    /// [`Control::Sync`], then no further request is served. Answered by [`Answer::Unmounted`].
    Unmount,
    /// Where the bytes of an inode are. Answered by [`Answer::Info`].
    Info {
        /// Which one.
        ino: Ino,
    },
    /// What the mount is doing. Answered by [`Answer::Status`].
    Status,
    /// Checks every invariant of the volume, as it is at one moment. Requests go on meanwhile.
    /// Answered by [`Answer::Checked`].
    Check(CheckOptions),
    /// Folds the write log of a file, whatever it costs, and waits for it. Answered by
    /// [`Answer::Compacted`].
    Compact {
        /// Which file.
        ino: Ino,
    },
    /// Counts what nobody needs any more; with `now`, gives it back first. Answered by
    /// [`Answer::Collected`].
    Gc {
        /// Collect it, and do not only count.
        now: bool,
    },
    /// Verifies every frame of every segment. Answered by [`Answer::Scrubbed`] when it is through.
    Scrub {
        /// Bytes per second; 0: as fast as it goes.
        rate: u64,
    },
    /// Checks, repairs what can be repaired, and checks again. Of a machine that is mounted read-only, so
    /// that nothing else writes. Answered by [`Answer::Repaired`] once the repairs are durable.
    Repair(CheckOptions),
}

/// How a volume is to be checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Verify the checksums of all data, too.
    pub data: bool,
    /// Wait until everything that was removed is reclaimed, so that no garbage is left to look at.
    pub settled: bool,
}

/// What a new volume is like.
#[derive(Clone, Debug)]
pub struct FormatOptions {
    /// Identity, random.
    pub volume: VolumeId,
    /// Key of the name hash, random.
    pub hash_key: [u8; 16],
    /// Bits of the name hash: 60, or fewer to provoke collisions in tests.
    pub hash_bits: u8,
    /// Owner of the root directory.
    pub uid: u32,
    /// Group of the root directory.
    pub gid: u32,
    /// Permission bits of the root directory.
    pub mode: u32,
    /// What it may hold at most.
    pub limit: Limit,
}

/// What a volume may hold at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Visible bytes of all files, extended attributes included.
    pub bytes: Option<u64>,
    /// Inodes.
    pub inodes: Option<u64>,
}

impl Limit {
    /// These limits, and where there is none those of `other`.
    pub fn or(self, other: Limit) -> Limit {
        Limit { bytes: self.bytes.or(other.bytes), inodes: self.inodes.or(other.inodes) }
    }
}

/// What a volume record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Identity.
    pub volume: VolumeId,
    /// Version of the format.
    pub format: u32,
    /// When it was formatted.
    pub created: WallTime,
}

/// The answer to a [`Control`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// The volume is new.
    Formatted(VolumeInfo),
    /// There was a volume already; nothing was changed.
    AlreadyFormatted(VolumeInfo),
    /// Ready.
    Mounted(VolumeInfo),
    /// Everything acknowledged before is durable.
    Synced,
    /// Everything is durable and nothing is served any more.
    Unmounted,
    /// Of [`Control::Info`].
    Info(FileInfo),
    /// Of [`Control::Status`].
    Status(Box<Status>),
    /// Of [`Control::Check`].
    Checked(CheckReport),
    /// Of [`Control::Repair`].
    Repaired(RepairReport),
    /// Of [`Control::Compact`]: what was done meanwhile.
    Compacted(Compacted),
    /// Of [`Control::Gc`].
    Collected(Collected),
    /// Of [`Control::Scrub`].
    Scrubbed(ScrubReport),
    /// No volume record in the store.
    NotFormatted,
    /// A format this program does not know.
    FutureFormat {
        /// The version found.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// It failed.
    Failed(FsError),
}

/// Where the bytes of a file are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileInfo {
    /// Type and permission bits.
    pub mode: u32,
    /// Logical size.
    pub size: u64,
    /// Bytes held in the metadata store as inline data; `None` if it is stored as extents.
    pub inline: Option<u64>,
    /// Entries in the write log.
    pub log_entries: u64,
    /// Bytes buffered and not yet committed.
    pub dirty: u64,
    /// What is visible, in file order; holes are left out.
    pub extents: Vec<ExtentInfo>,
}

/// One visible extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentInfo {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Where they are.
    pub place: Place,
}

/// Where an extent's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the write log itself.
    Log,
    /// In a segment.
    Segment {
        /// Which one.
        segment: SegmentId,
        /// First payload byte.
        offset: u32,
    },
}

/// What compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Regions whose log was replaced.
    pub folds: u64,
    /// Bytes that were moved.
    pub moved: u64,
    /// Bytes that had been written to those regions since they were folded last.
    pub written: u64,
    /// Bytes that their logs named and nobody could see.
    pub trimmed: u64,
}

impl Compacted {
    /// What was done since the counters were `before`.
    pub fn since(&self, before: &Compacted) -> Compacted {
        Compacted {
            folds: self.folds - before.folds,
            moved: self.moved - before.moved,
            written: self.written - before.written,
            trimmed: self.trimmed - before.trimmed,
        }
    }
}

/// What is stored, and what of it nobody needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Segments with a record.
    pub segments: u64,
    /// Sum of their payloads, in bytes.
    pub stored: u64,
    /// Bytes of them that no log names.
    pub unnamed: u64,
    /// Segments of which less than half is named.
    pub sparse: u64,
    /// Stored segments without a record, written by other sessions.
    pub orphans: u64,
    /// Removed inodes that are not reclaimed yet: some may be open.
    pub removed: u64,
}

/// Garbage before and after it was collected; twice the same when it was only counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What there was.
    pub before: Garbage,
    /// What there is.
    pub after: Garbage,
}

/// What a scrub found, so far or in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Segments looked at.
    pub segments: u64,
    /// Bytes verified.
    pub bytes: u64,
    /// Segments with damage.
    pub damaged: u64,
    /// Each file range that lies in it.
    pub problems: Vec<Problem>,
}

/// What a mount is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Identity, if mounted.
    pub volume: Option<VolumeInfo>,
    /// Inodes of the volume.
    pub inodes: u64,
    /// Bytes of the volume: what its files occupy.
    pub bytes: u64,
    /// What the volume may hold at most, on this mount.
    pub limit: Limit,
    /// Capacity of the page store.
    pub space: Space,
    /// Inodes the kernel knows.
    pub inodes_known: u64,
    /// Open handles.
    pub handles: u64,
    /// Bytes in write buffers.
    pub dirty: u64,
    /// Most bytes the write buffers may hold.
    pub dirty_max: u64,
    /// Requests under way.
    pub requests: u64,
    /// Removed inodes that wait for their last close.
    pub unlinked: u64,
    /// Kernel requests answered since the mount.
    pub served: u64,
    /// Metadata transactions tried again because of a conflict.
    pub conflicts: u64,
    /// Regions that wait to be folded.
    pub compacting: u64,
    /// What compaction did on this mount.
    pub compacted: Compacted,
    /// How far the scrub under way is.
    pub scrub: Option<ScrubReport>,
    /// How far the check under way is.
    pub check: Option<CheckProgress>,
}

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckProgress {
    /// What is being read, such as `inodes`.
    pub stage: &'static str,
    /// How much of it was read: rows, or bytes of data.
    pub done: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Inodes seen.
    pub inodes: u64,
    /// Directory entries seen.
    pub dentries: u64,
    /// Segments referenced.
    pub segments: u64,
    /// Bytes verified.
    pub bytes_verified: u64,
    /// Segments in the page store that the metadata does not know. No damage: a crash between an
    /// append and its commit, or between a removal and its deletion, leaves them.
    pub orphan_segments: u64,
    /// Removed inodes and cut-off data generations that wait for reclaim. No damage.
    pub waiting: u64,
    /// Everything was read as it was at one moment. If not, because it was written to faster than it
    /// could be read, a problem may be none.
    pub exact: bool,
    /// Each violation, with what it concerns.
    pub problems: Vec<Problem>,
}

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// What was repaired, in that order.
    pub repaired: Vec<Repaired>,
    /// What the check afterwards found.
    pub left: CheckReport,
}

/// One repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The rule that was broken.
    pub rule: &'static str,
    /// What was found.
    pub found: String,
    /// What was done.
    pub done: String,
}

/// One violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable name of the rule that is broken, such as `dentry-target` or `frame-checksum`.
    pub rule: &'static str,
    /// What, where, expected and found.
    pub text: String,
}
