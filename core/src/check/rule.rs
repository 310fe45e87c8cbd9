//! The names of the rules. They are stable: scripts and documents refer to them.

macro_rules! rules {
    ($($(#[doc = $says:literal])+ $id:ident = $name:literal;)+) => {
        $($(#[doc = $says])+ pub const $id: &str = $name;)+

        /// Every rule.
        pub const ALL: &[&str] = &[$($id),+];
    };
}

/// What a repair makes of a broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It is made good.
    Repaired,
    /// It is made good if nothing is lost or guessed that way, else left alone.
    Sometimes,
    /// It is left alone: what should be there is not known, or the data is gone.
    Left,
}

/// The class of a rule.
pub fn class(rule: &str) -> Class {
    match rule {
        VOLUME_RECORD | UNKNOWN_KEY | CORE_DECODE | UNKNOWN_TAG | TAG_KIND | INLINE_LOG
        | ERASE_DECODE | LOG_DECODE | LOG_ORDER | XATTR_DECODE | ACL_MODE | DENTRY_DECODE
        | SEGMENT_MISSING | SEGMENT_UNREADABLE | FRAME_CHECKSUM => Class::Left,
        ATTR_DECODE | LOG_GENERATION | SYMLINK_TARGET | SEGMENT_RECORD | SEGMENT_LENGTH => {
            Class::Sometimes
        }
        _ => Class::Repaired,
    }
}

rules! {
    /// The volume record is there and decodes.
    VOLUME_RECORD = "volume-record";
    /// The volume's counters are the number of inodes and the sum of their bytes.
    VOLUME_USAGE = "volume-usage";
    /// Every key belongs to a known family and has its shape.
    UNKNOWN_KEY = "unknown-key";
    /// The root directory is there.
    ROOT = "root";

    /// The core of an inode decodes; type and flags are possible ones.
    CORE_DECODE = "core-decode";
    /// The attributes of an inode decode, and its size is one that a file can have.
    ATTR_DECODE = "attr-decode";
    /// Every key of an inode has a known tag.
    UNKNOWN_TAG = "unknown-tag";
    /// Every key of an inode belongs to its type.
    TAG_KIND = "tag-kind";
    /// Every key of an inode has an inode: a core.
    STRAY_KEY = "stray-key";
    /// Every inode number is of a group that was handed out.
    INODE_GROUP = "inode-group";
    /// A symlink has a target, and its size is the target's length.
    SYMLINK_TARGET = "symlink-target";

    /// Inline data ends at or before the size and the limit of inline data.
    INLINE_LENGTH = "inline-length";
    /// An inline file has no log, and a file with a log no inline data.
    INLINE_LOG = "inline-log";
    /// Every erase record decodes.
    ERASE_DECODE = "erase-decode";
    /// Every log pack decodes.
    LOG_DECODE = "log-decode";
    /// Every log pack and erase is of the current data generation or of one that waits for reclaim.
    LOG_GENERATION = "log-generation";
    /// No log pack or erase is newer than the store: it would hide every later write.
    LOG_ORDER = "log-order";
    /// No byte is visible beyond the size.
    BEYOND_SIZE = "beyond-size";
    /// An inode's counters are the entries of its log and its visible bytes, inline ones included.
    USAGE = "usage";

    /// Every extended attribute has a name of a known namespace and a value that it can have.
    XATTR_DECODE = "xattr-decode";
    /// The flags of an inode tell of the extended attributes that it has.
    XATTR_FLAGS = "xattr-flags";
    /// An inode's counter of extended attributes is the bytes of their names and values.
    XATTR_USAGE = "xattr-usage";
    /// An access ACL and the mode say the same; only directories have default ACLs.
    ACL_MODE = "acl-mode";

    /// Every directory entry decodes and has a name that an entry can have.
    DENTRY_DECODE = "dentry-decode";
    /// Every directory entry lies in the bucket of its name.
    DENTRY_BUCKET = "dentry-bucket";
    /// No name stands twice in a directory.
    DENTRY_DUPLICATE = "dentry-duplicate";
    /// Every directory entry is in a directory that has a name itself.
    DENTRY_PARENT = "dentry-parent";
    /// Every directory entry names an inode.
    DENTRY_TARGET = "dentry-target";
    /// Every directory entry tells the type of its inode.
    DENTRY_KIND = "dentry-kind";

    /// The link count of an inode is the number of its names.
    NLINK = "nlink";
    /// The home name of an inode is one of its names.
    HOME_NAME = "home-name";
    /// An inode with several names has one back link per name; any other has none.
    BACK_LINK = "back-link";
    /// An inode with a link count has a name.
    INODE_UNREACHABLE = "inode-unreachable";
    /// A directory has one name, and the root none.
    DIR_NAMES = "dir-names";
    /// A directory's parent is the directory that has its name.
    DIR_PARENT = "dir-parent";
    /// The directories form a tree.
    DIR_TREE = "dir-tree";
    /// A directory's counters are its entries and its subdirectories.
    DIR_CHILDREN = "dir-children";

    /// An inode without names waits for reclaim.
    RECLAIM_MISSING = "reclaim-missing";
    /// What waits for reclaim is an inode without names or an older data generation.
    RECLAIM_ENTRY = "reclaim-entry";

    /// Segment records and live-byte counters decode.
    SEGMENT_RECORD = "segment-record";
    /// Every segment that a log names has a record.
    SEGMENT_UNKNOWN = "segment-unknown";
    /// A segment is as long as its record says, and every extent lies inside.
    SEGMENT_LENGTH = "segment-length";
    /// Every segment record has a live-byte counter, and the other way round.
    SEGMENT_PAIR = "segment-pair";
    /// Every segment record is of a segment that some log names.
    SEGMENT_UNREFERENCED = "segment-unreferenced";
    /// The live bytes of a segment are the sum of all extents that name it.
    SEGMENT_LIVE_BYTES = "segment-live-bytes";
    /// Every segment that a log names is in the page store.
    SEGMENT_MISSING = "segment-missing";
    /// Every segment that a log names can be read.
    SEGMENT_UNREADABLE = "segment-unreadable";
    /// Every frame of a segment that a log names has the bytes that were written.
    FRAME_CHECKSUM = "frame-checksum";
}
