//! Every bound in one place; the relations between them are asserted at compile time.

/// Longest name of a directory entry, in bytes (NAME_MAX).
pub const NAME_MAX: usize = 255;
/// Longest symlink target, in bytes (PATH_MAX without its NUL).
pub const SYMLINK_MAX: usize = 4095;
/// Longest name of an extended attribute, namespace included (XATTR_NAME_MAX).
pub const XATTR_NAME_MAX: usize = 255;
/// Largest value of an extended attribute (XATTR_SIZE_MAX).
pub const XATTR_SIZE_MAX: usize = 64 << 10;
/// All names of one inode, each with its NUL (XATTR_LIST_MAX): more could never be listed.
pub const XATTR_LIST_MAX: i64 = 64 << 10;
/// All values of one inode.
pub const XATTR_BYTES_MAX: i64 = 1 << 20;
/// Most names of one inode (LINK_MAX).
pub const LINK_MAX: u32 = 65_000;
/// Largest file offset plus one.
pub const FILE_SIZE_MAX: u64 = i64::MAX as u64;
/// Largest payload of one WRITE or READ request.
pub const IO_SIZE_MAX: u32 = 1 << 20;

/// A region: the unit of the write log and of the extent map.
pub const REGION_SIZE: u64 = 64 << 20;
/// Write buffer of one file.
pub const WRITE_BUFFER_MAX: u64 = 16 << 20;
/// One sub-buffer: what is sealed and appended as one segment.
pub const SUB_BUFFER_MAX: u64 = 4 << 20;
/// Extents that seal a sub-buffer.
pub const SUB_BUFFER_EXTENTS_MAX: usize = 4096;
/// Extents of one file that are kept in memory; beyond, regions are read again when they are needed.
pub const EXTENTS_KEPT_MAX: usize = 1 << 20;
/// Largest payload of a segment.
pub const SEGMENT_PAYLOAD_MAX: u32 = 64 << 20;
/// Unit of checksumming of an uncompressed segment.
pub const FRAME_SIZE: u32 = 4096;

/// Files up to this size live in the metadata store.
pub const INLINE_MAX: u64 = 4096;
/// A flush of at most so many bytes is carried by the write log itself.
pub const LOG_BYTES_MAX: u64 = 16 << 10;
/// Largest encoded pack of extents that name segments.
pub const PACK_MAX: usize = 8 << 10;

/// Largest key of the metadata store.
pub const KEY_MAX: usize = 10_000;
/// Largest value of the metadata store.
pub const VALUE_MAX: usize = 100_000;
/// Largest transaction of the metadata store.
pub const TRANSACTION_MAX: usize = 10_000_000;
/// Size at which a flush is cut into successive transactions.
pub const FLUSH_TRANSACTION_MAX: usize = 512 << 10;

/// The end of the disk that is left to metadata: so much, of a small disk an eighth.
pub const DISK_RESERVE_MAX: u64 = 64 << 20;

/// Most bytes that one copy_file_range covers; the caller asks for the rest.
pub const COPY_MAX: u64 = 1 << 30;
/// Most extents of one copy.
pub const COPY_EXTENTS_MAX: usize = 8192;
/// A copy takes at most so many bytes along that are in no segment, but one extent in any case.
pub const COPY_BYTES_MAX: u64 = 256 << 10;

/// Names that share one name hash (the dentry key has 2 tie bits).
pub const BUCKET_SLOTS: u64 = 4;

/// Largest payload of one message between peers: a request of the kernel's size and what describes it.
pub const PEER_MESSAGE_MAX: usize = (1 << 20) + (64 << 10);
/// Messages to one peer that are not acknowledged.
pub const PEER_WINDOW_MESSAGES: usize = 1024;
/// Their bytes.
pub const PEER_WINDOW_BYTES: usize = 16 << 20;
/// Sessions that one process accepts.
pub const PEER_SESSIONS_MAX: usize = 4096;
/// Connections that have not said who they are.
pub const PEER_GREETING_MAX: usize = 256;

const _: () = {
    assert!(PEER_MESSAGE_MAX > IO_SIZE_MAX as usize);
    assert!(PEER_WINDOW_BYTES >= PEER_MESSAGE_MAX);
    assert!(SUB_BUFFER_MAX * 4 == WRITE_BUFFER_MAX);
    assert!(SUB_BUFFER_MAX >= IO_SIZE_MAX as u64);
    assert!(SUB_BUFFER_MAX <= SEGMENT_PAYLOAD_MAX as u64);
    assert!(REGION_SIZE.is_multiple_of(FRAME_SIZE as u64));
    assert!(INLINE_MAX <= LOG_BYTES_MAX);
    assert!(LOG_BYTES_MAX as usize + 1024 <= VALUE_MAX);
    assert!(PACK_MAX < VALUE_MAX);
    assert!(XATTR_SIZE_MAX <= VALUE_MAX);
    assert!(XATTR_NAME_MAX + 16 <= KEY_MAX);
    assert!(XATTR_BYTES_MAX >= XATTR_SIZE_MAX as i64);
    assert!(FLUSH_TRANSACTION_MAX * 2 < TRANSACTION_MAX);
    assert!(COPY_EXTENTS_MAX * 64 + COPY_BYTES_MAX as usize * 2 < TRANSACTION_MAX);
    assert!(FRAME_SIZE.is_power_of_two());
};
