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
}

impl Canary {
    /// All of them, with the names used on command lines.
    pub const ALL: [(&'static str, Canary); 3] = [
        ("lost-conflict", Canary::LostConflict),
        ("commit-before-data", Canary::CommitBeforeData),
        ("forgotten-erase", Canary::ForgottenErase),
    ];
}
