//! Planted bugs: each proves that a comparison with the model can fail.

/// A bug that a test switches on with [`Fs::plant`](crate::Fs::plant). Never set otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quirk {
    /// `link` does not stamp the ctime of the node that gets a name.
    LinkKeepsCtime,
    /// A rename between directories forgets the link count of the directory that loses a subdirectory.
    RenameForgetsParentLinks,
    /// Truncation keeps the old bytes behind the new end, so that a later extension shows them.
    TruncateKeepsTail,
    /// An exchange of two names is done as a plain rename of the first over the second.
    ExchangeReplaces,
    /// A directory made in a set-group-ID directory does not inherit the bit.
    MkdirDropsSetGid,
    /// A write of an unprivileged caller leaves set-id bits alone.
    WriteKeepsSetId,
    /// A chmod leaves the mask of an access ACL as it was.
    ChmodKeepsMask,
    /// What is made in a directory with a default ACL does not inherit it.
    MakeForgetsDefaultAcl,
    /// Setting an extended attribute does not stamp ctime.
    SetxattrKeepsCtime,
    /// A write leaves file capabilities alone.
    WriteKeepsCapability,
}
