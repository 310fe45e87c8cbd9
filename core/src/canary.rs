//! Known bugs that a test can plant, so that the simulator can prove that it finds them.

/// A planted bug. Each variant names the rule that the planted code breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Canary {
    /// A commit leaves out the read conflict on the bucket of the name.
    LostConflict,
    /// A flush commits before its segment was appended.
    CommitBeforeData,
    /// A truncate forgets to erase what lies beyond the new size.
    ForgottenErase,
    /// A chmod leaves the mask of the access ACL as it was.
    ForgottenMask,
    /// A reclaimed inode leaves its extended attributes behind.
    KeptXattrs,
    /// A write leaves set-id bits and file capabilities alone.
    KeptSetId,
    /// A copy names segments of its source and does not add to their live bytes.
    UnsharedCopy,
    /// A punch does not wait for buffered writes, so that a flush overtakes it.
    OvertakenPunch,
    /// A page file whose sync failed is synced again and believed.
    BelievedSync,
}

impl Canary {
    /// All of them, with the names used on command lines.
    pub const ALL: [(&'static str, Canary); 9] = [
        ("lost-conflict", Canary::LostConflict),
        ("commit-before-data", Canary::CommitBeforeData),
        ("forgotten-erase", Canary::ForgottenErase),
        ("forgotten-mask", Canary::ForgottenMask),
        ("kept-xattrs", Canary::KeptXattrs),
        ("kept-set-id", Canary::KeptSetId),
        ("unshared-copy", Canary::UnsharedCopy),
        ("overtaken-punch", Canary::OvertakenPunch),
        ("believed-sync", Canary::BelievedSync),
    ];
}
