//! Known bugs that a test can plant, so that the simulator can prove that it finds them.
//!
//! A bug costs its place one `if planted!(Name)`. Without the feature `canary` that is `false` and nothing
//! of it is compiled; with it, whoever runs the machine says at run time which bug is planted, if any.
//! What each one breaks, which rule finds it and after how many seeds, says the table of the simulator.

use atomic_refcell::AtomicRefCell;
use core::sync::atomic::{AtomicBool, Ordering};

macro_rules! canaries {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A planted bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Canary {
            $($(#[$doc])* $name,)*
        }

        impl Canary {
            /// All of them.
            pub const ALL: &[Canary] = &[$(Canary::$name,)*];
        }
    };
}

canaries! {
    // Transactions.
    /// A create leaves out all its read conflicts.
    LostConflict,
    /// A commit whose outcome was unknown and that happened is tried again.
    DoubleApplied,
    /// A commit whose outcome is unknown counts as lost without a cancel-write.
    NoCancelWrite,
    /// A commit does not rely on its slot, so that no cancel-write stops it.
    UnreliedSlot,
    /// A caller that gave up is told so while the outcome of its commit is unknown.
    LateInterrupt,
    /// A range that the store answered in parts counts as complete.
    ShortRange,
    /// A conflict after a few attempts is an error.
    ImpatientRetry,

    // Names.
    /// A rename of a directory does not look for it among the ancestors of its new place.
    NoAncestorCheck,
    /// A rename reads the ancestors and does not rely on them.
    UnreliedAncestors,
    /// A directory that changes its parent keeps the old parent pointer.
    KeptParent,
    /// An exchange of a file and a directory leaves the counts of subdirectories alone.
    KeptSubdirs,
    /// A name takes the first place of its bucket, whoever has it.
    CollidingName,
    /// A link does not rely on the inode that it counts.
    LostLink,
    /// An unlink leaves the back link of its name behind.
    KeptBackLink,
    /// A link does not move the change time.
    KeptChangeTime,
    /// A rename within one directory does not move its modification time.
    KeptDirTime,
    /// An rmdir does not rely on the directory being empty.
    PhantomEntry,
    /// A listing goes on behind the bucket of its cookie.
    SkippedEntry,
    /// The first name of an O_TMPFILE file leaves it in the reclaim queue.
    KeptGarbage,

    // Attributes.
    /// A chmod leaves the mask of the access ACL as it was.
    ForgottenMask,
    /// A write leaves set-id bits and file capabilities alone.
    KeptSetId,
    /// What takes set-id bits is answered before the kernel knows of it.
    UntoldMode,
    /// A truncate or chown leaves set-id bits alone.
    KeptOwnerSetId,
    /// Attributes read before a flush count as fresh after it.
    StaleAttributes,

    // Data.
    /// A flush commits before its segment was appended.
    CommitBeforeData,
    /// A truncate forgets to erase what lies beyond the new size.
    ForgottenErase,
    /// A truncate raises the size only.
    SizeByMax,
    /// A punch does not wait for buffered writes, so that a flush overtakes it.
    OvertakenPunch,
    /// A change of size or times does not wait for buffered writes.
    OvertakenTruncate,
    /// A copy names segments of its source and does not add to their live bytes.
    UnsharedCopy,
    /// A copy does not wait for the buffered writes of its source.
    UnsettledCopy,
    /// An append goes to where the kernel believes the end to be.
    AppendAtOffset,
    /// A cut through an extent loses what is left behind it, if that is one byte.
    CutShort,
    /// What is sealed later is written back first.
    OvertakenSeal,
    /// A change that had an inode to itself wakes nobody that waited for it.
    LostWakeup,
    /// A rename does not wait for the buffered writes of what gets the new name.
    UnsettledRename,
    /// An fsync is answered before anything is durable.
    HollowFsync,

    // Reclaim.
    /// A reclaimed inode leaves its extended attributes behind.
    KeptXattrs,
    /// A removed inode is reclaimed although it is open.
    ReclaimedOpen,
    /// A mount does not look for what an earlier one left to reclaim.
    ForgottenGarbage,
    /// Reclaim leaves the live bytes of a segment as they are unless all are gone.
    KeptLiveBytes,
    /// A segment is deleted before the commit that frees it is durable.
    EarlyDelete,
    /// A data generation that was cut off still counts in the volume's bytes.
    DriftingUsage,

    // Compaction.
    /// A fold clears the whole log of its region, and not only what it has read.
    DroppedWrite,
    /// A fold does not rely on the data generation that it read.
    UnreliedGeneration,
    /// A fold paints without the erases.
    ResurrectedErase,
    /// An erase goes although something lies below it.
    EarlyErase,
    /// A fold leaves the live bytes of the segments as they were.
    UnreleasedFold,
    /// A fold leaves the number of log entries as it was.
    UncountedFold,
    /// A fold's old segments are deleted before its commit is durable.
    EarlyFoldDelete,
    /// A read that finds bytes gone does not look again where they are.
    NoSecondLook,
    /// What a flush that was given up had appended stays.
    KeptAppend,
    /// What a fold that came to nothing had appended stays.
    KeptFold,

    // The local stores.
    /// A commit is not checked against those that the engine has taken since its reads.
    UncheckedGeneration,
    /// A record of the commit log is believed without its checksum.
    BelievedRecord,
    /// A new file of the commit log is not made durable as a name.
    UnsyncedLog,
    /// Only the newest file of the commit log is replayed.
    UnreadLog,
    /// A start forgets what the mark promises of files that are not sealed.
    ForgottenMark,
    /// A new page file is not made durable as a name.
    UnsyncedDirectory,
    /// A page file whose sync failed is synced again and believed.
    BelievedSync,
}

/// Says which bug is planted where it is called, if any.
pub type Ask = fn() -> Option<Canary>;

static ASK: AtomicRefCell<Option<Ask>> = AtomicRefCell::new(None);
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// From now on `ask` is asked, in every thread. Once per process.
///
/// # Panics
/// When it was called before and machines run.
pub fn install(ask: Ask) {
    *ASK.borrow_mut() = Some(ask);
    INSTALLED.store(true, Ordering::Release);
}

/// Whether a bug is planted here and now.
pub(crate) fn is_planted(canary: Canary) -> bool {
    INSTALLED.load(Ordering::Acquire) && ASK.borrow().is_some_and(|ask| ask() == Some(canary))
}

/// Takes note of the name of a rare situation that was met.
pub type Note = fn(&'static str);

static NOTE: AtomicRefCell<Option<Note>> = AtomicRefCell::new(None);
static NOTING: AtomicBool = AtomicBool::new(false);

/// From now on `note` is told of each `probe!` that is met, in every thread. Once per process.
///
/// # Panics
/// When it was called before and machines run.
pub fn note_with(note: Note) {
    *NOTE.borrow_mut() = Some(note);
    NOTING.store(true, Ordering::Release);
}

/// A rare situation was met.
pub(crate) fn met(name: &'static str) {
    if NOTING.load(Ordering::Acquire)
        && let Some(note) = *NOTE.borrow()
    {
        note(name);
    }
}
