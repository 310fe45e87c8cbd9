//! What is said on the control socket. Fields are added, never changed or removed.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use vellum_core::port::control;
use vellum_core::time::WallTime;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Ask {
    /// What the mount is doing.
    Status,
    /// Where the bytes of an inode are.
    Info {
        /// Inode number.
        ino: u64,
    },
    /// Make everything durable.
    Sync,
    /// Check the volume.
    Check {
        /// The checksums of all file data, too.
        data: bool,
    },
    /// Fold the write log of a file.
    Compact {
        /// Inode number.
        ino: u64,
    },
    /// Count garbage, or collect it.
    Gc {
        /// Collect it.
        now: bool,
    },
    /// Verify everything that is stored.
    Scrub {
        /// Bytes per second; 0: as fast as it goes.
        rate: u64,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// To [`Ask::Status`].
    Status(Box<Status>),
    /// To [`Ask::Info`].
    Info(Info),
    /// To [`Ask::Sync`].
    Synced,
    /// To [`Ask::Check`].
    Checked(Box<Checked>),
    /// To [`Ask::Compact`].
    Compacted(Compacted),
    /// To [`Ask::Gc`].
    Collected(Collected),
    /// To [`Ask::Scrub`].
    Scrubbed(Scrubbed),
    /// It failed.
    Error {
        /// The errno, 0 if there is none.
        errno: i32,
        /// Why.
        text: String,
    },
}

/// What a mount is doing. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// `experimental` until said otherwise.
    pub stability: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// What is mounted.
    pub volume: String,
    /// Identity of the volume.
    pub volume_id: String,
    /// Version of the volume's format.
    pub format: u32,
    /// When the volume was formatted (RFC 3339).
    pub created: String,
    /// Where it is mounted.
    pub mountpoint: String,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Seconds since the mount.
    pub uptime_seconds: f64,
    /// The metadata store.
    pub meta: Backend,
    /// The page store.
    pub data: Backend,
    /// Inodes of the volume.
    pub inodes: u64,
    /// What the volume's files occupy.
    pub bytes: u64,
    /// Capacity of the page store.
    pub space_total_bytes: u64,
    /// What can still be written.
    pub space_free_bytes: u64,
    /// Inodes the kernel knows.
    pub inodes_known: u64,
    /// Open handles.
    pub handles: u64,
    /// Bytes in write buffers.
    pub dirty_bytes: u64,
    /// Most bytes the write buffers may hold.
    pub dirty_max_bytes: u64,
    /// Requests under way.
    pub requests: u64,
    /// Removed inodes that wait for their last close.
    pub unlinked: u64,
    /// Kernel requests answered since the mount.
    pub served: u64,
    /// Metadata transactions tried again because of a conflict.
    pub conflicts: u64,
    /// Regions that wait for compaction.
    pub compacting: u64,
    /// What compaction did since the mount.
    pub compacted: Compacted,
    /// How far the scrub under way is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrub: Option<Scrubbed>,
    /// How far the check under way is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<Progress>,
}

/// How far a check is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// What is being read.
    pub stage: String,
    /// How much of it was read: rows, or bytes of data.
    pub done: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checked {
    /// No problems.
    pub clean: bool,
    /// Everything was read as it was at one moment; if not, a problem may be none.
    pub exact: bool,
    /// Inodes seen.
    pub inodes: u64,
    /// Directory entries seen.
    pub dentries: u64,
    /// Segments that files name.
    pub segments: u64,
    /// Stored segments that no file names; they are no damage.
    pub orphan_segments: u64,
    /// Bytes whose checksums were verified.
    pub bytes_verified: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// Stable name of the rule that is broken.
    pub rule: String,
    /// What, where, expected and found.
    pub text: String,
}

/// What compaction did. Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compacted {
    /// Regions of 64 MiB whose write log was replaced.
    pub folds: u64,
    /// Bytes moved.
    pub moved_bytes: u64,
    /// Bytes that had been written to those regions since the fold before.
    pub written_bytes: u64,
    /// Bytes that their logs named and nobody could see.
    pub trimmed_bytes: u64,
}

/// What is stored, and what of it nobody needs. Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Garbage {
    /// Segments that have a record.
    pub segments: u64,
    /// What they hold.
    pub stored_bytes: u64,
    /// What of that no file names.
    pub unnamed_bytes: u64,
    /// Segments of which less than half is named.
    pub sparse_segments: u64,
    /// Stored segments without a record.
    pub orphan_segments: u64,
    /// Removed inodes that are not reclaimed yet; some may be open.
    pub removed_inodes: u64,
}

/// Garbage, before and after it was collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Collected {
    /// What there was.
    pub before: Garbage,
    /// What there is.
    pub after: Garbage,
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scrubbed {
    /// Segments looked at.
    pub segments: u64,
    /// Bytes verified.
    pub bytes_verified: u64,
    /// Segments with damage.
    pub damaged_segments: u64,
    /// Each range of a file that lies in one.
    pub problems: Vec<Problem>,
}

/// A kind of store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Its name.
    pub backend: String,
}

/// Where the bytes of a file are. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Logical size.
    pub size_bytes: u64,
    /// Bytes held in the metadata store as inline data.
    pub inline_bytes: Option<u64>,
    /// Entries in the write log.
    pub log_entries: u64,
    /// Bytes buffered and not yet committed.
    pub dirty_bytes: u64,
    /// What is visible, in file order, holes left out.
    pub extents: Vec<Extent>,
}

/// One visible extent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// `log` or `segment`.
    pub place: String,
    /// The segment's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// First payload byte in the segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment_offset: Option<u32>,
}

impl Status {
    /// Takes over what the machine knows.
    pub(super) fn fill(&mut self, status: &control::Status) {
        if let Some(volume) = &status.volume {
            self.volume_id = volume.volume.to_string();
            self.format = volume.format;
            self.created = rfc3339(volume.created);
        }
        self.inodes = status.inodes;
        self.bytes = status.bytes;
        self.space_total_bytes = status.space.total;
        self.space_free_bytes = status.space.free;
        self.inodes_known = status.inodes_known;
        self.handles = status.handles;
        self.dirty_bytes = status.dirty;
        self.dirty_max_bytes = status.dirty_max;
        self.requests = status.requests;
        self.unlinked = status.unlinked;
        self.served = status.served;
        self.conflicts = status.conflicts;
        self.compacting = status.compacting;
        self.compacted = Compacted::of(&status.compacted);
        self.scrub = status.scrub.clone().map(Scrubbed::of);
        self.check = status.check.as_ref().map(Progress::of);
    }
}

impl Progress {
    /// From what the machine says.
    pub(crate) fn of(progress: &control::CheckProgress) -> Progress {
        Progress { stage: progress.stage.to_string(), done: progress.done }
    }
}

impl Checked {
    /// From what the machine found.
    pub(crate) fn of(report: control::CheckReport) -> Checked {
        Checked {
            clean: report.problems.is_empty(),
            exact: report.exact,
            inodes: report.inodes,
            dentries: report.dentries,
            segments: report.segments,
            orphan_segments: report.orphan_segments,
            bytes_verified: report.bytes_verified,
            problems: report.problems.into_iter().map(Problem::of).collect(),
        }
    }
}

impl Compacted {
    /// From what the machine says.
    pub(super) fn of(done: &control::Compacted) -> Compacted {
        Compacted {
            folds: done.folds,
            moved_bytes: done.moved,
            written_bytes: done.written,
            trimmed_bytes: done.trimmed,
        }
    }
}

impl Collected {
    /// From what the machine counted.
    pub(crate) fn of(collected: &control::Collected) -> Collected {
        let garbage = |g: &control::Garbage| Garbage {
            segments: g.segments,
            stored_bytes: g.stored,
            unnamed_bytes: g.unnamed,
            sparse_segments: g.sparse,
            orphan_segments: g.orphans,
            removed_inodes: g.removed,
        };
        Collected { before: garbage(&collected.before), after: garbage(&collected.after) }
    }
}

impl Scrubbed {
    /// From what the machine found.
    pub(crate) fn of(report: control::ScrubReport) -> Scrubbed {
        Scrubbed {
            segments: report.segments,
            bytes_verified: report.bytes,
            damaged_segments: report.damaged,
            problems: report.problems.into_iter().map(Problem::of).collect(),
        }
    }
}

impl Problem {
    fn of(problem: control::Problem) -> Problem {
        Problem { rule: problem.rule.to_string(), text: problem.text }
    }
}

impl Info {
    /// From what the machine says about an inode.
    pub(super) fn of(ino: u64, info: &control::FileInfo) -> Info {
        Info {
            ino,
            mode: info.mode,
            size_bytes: info.size,
            inline_bytes: info.inline,
            log_entries: info.log_entries,
            dirty_bytes: info.dirty,
            extents: info.extents.iter().map(Extent::of).collect(),
        }
    }
}

impl Extent {
    fn of(extent: &control::ExtentInfo) -> Extent {
        let (place, segment, segment_offset) = match extent.place {
            control::Place::Log => ("log", None, None),
            control::Place::Segment { segment, offset } => {
                ("segment", Some(segment.to_string()), Some(offset))
            }
        };
        let place = place.to_string();
        Extent { offset: extent.offset, len: extent.len, place, segment, segment_offset }
    }
}

/// A time as RFC 3339; empty when no calendar has it.
pub fn rfc3339(at: WallTime) -> String {
    let nanos = i128::from(at.secs) * 1_000_000_000 + i128::from(at.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_default()
}
