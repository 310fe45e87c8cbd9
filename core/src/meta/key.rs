//! The key layout. Keys are big-endian, so that they order as their parts do.
//!
//! ```text
//! N dir cookie                 dentry
//! I ino tag ...                everything of one inode, attributes first
//! P ino parent cookie          back link of an inode with several names
//! G ino                        removed inode that waits for reclaim
//! U segment                    segment: payload length
//! V segment                    segment: live bytes
//! A                            next inode group
//! S session slot               slot ledger;  S session: fence
//! Z ...                        volume record, counters
//! ```

use crate::id::{Ino, SegmentId, SessionId};
use crate::port::meta_kv::{Key, KeyRange};

/// Attribute tags sort together and ahead of everything else of an inode, so that stat is one short
/// range read that never meets the write log.
pub mod tag {
    /// Rarely written attributes ([`crate::meta::record::Core`]).
    pub const CORE: u8 = 0x10;
    /// Size, u64 little-endian.
    pub const SIZE: u8 = 0x11;
    /// Modification time.
    pub const MTIME: u8 = 0x12;
    /// Change time bump.
    pub const CTIME: u8 = 0x13;
    /// Access time.
    pub const ATIME: u8 = 0x14;
    /// Write-log entries and physical bytes, i128.
    pub const USAGE: u8 = 0x15;
    /// Subdirectories and entries of a directory, i128.
    pub const CHILDREN: u8 = 0x16;
    /// Parent of a directory.
    pub const PARENT: u8 = 0x17;
    /// First tag that is no attribute.
    pub const ATTR_END: u8 = 0x20;
    /// Target of a symlink.
    pub const TARGET: u8 = 0x20;
    /// Inline data.
    pub const INLINE: u8 = 0x21;
    /// Bytes of the names of all extended attributes, as listed, and of their values, i128.
    pub const XATTRS: u8 = 0x22;
    /// An extended attribute, by name.
    pub const XATTR: u8 = 0x30;
    /// Erased ranges.
    pub const ERASE: u8 = 0x40;
    /// Write log.
    pub const LOG: u8 = 0x50;
}

fn key(parts: &[&[u8]]) -> Key {
    let mut key = Key::default();
    for part in parts {
        key.push(part);
    }
    key
}

/// The record that makes a store a volume.
pub fn volume() -> Key {
    key(&[b"Zv"])
}

/// Inodes and bytes of the volume, i128.
pub fn usage() -> Key {
    key(&[b"Zu"])
}

/// What the volume may hold at most.
pub fn limit() -> Key {
    key(&[b"Zl"])
}

/// The next free inode group.
pub fn groups() -> Key {
    key(&[b"A"])
}

/// A dentry; the cookie is the name hash and two tie bits.
pub fn dentry(dir: Ino, cookie: u64) -> Key {
    key(&[b"N", &dir.0.to_be_bytes(), &cookie.to_be_bytes()])
}

/// The dentries that share a name hash.
pub fn bucket(dir: Ino, first_cookie: u64) -> KeyRange {
    KeyRange {
        begin: dentry(dir, first_cookie),
        end: dentry(dir, first_cookie + crate::limits::BUCKET_SLOTS),
    }
}

/// All dentries of a directory after a cookie.
pub fn dentries_after(dir: Ino, cookie: u64) -> KeyRange {
    KeyRange { begin: dentry(dir, cookie + 1), end: dentry(dir, u64::MAX) }
}

/// Every dentry of the volume.
pub fn all_dentries() -> KeyRange {
    KeyRange::prefix(key(&[b"N"]))
}

/// The directory and cookie of a dentry key.
pub fn parse_dentry(key: &[u8]) -> Option<(Ino, u64)> {
    let rest = key.strip_prefix(b"N")?;
    let (dir, cookie) = rest.split_at_checked(8)?;
    Some((Ino(be64(dir)?), be64(cookie)?))
}

/// One key of an inode.
pub fn inode(ino: Ino, tag: u8) -> Key {
    key(&[b"I", &ino.0.to_be_bytes(), &[tag]])
}

/// The attribute keys of an inode.
pub fn attrs(ino: Ino) -> KeyRange {
    KeyRange { begin: inode(ino, 0), end: inode(ino, tag::ATTR_END) }
}

/// Everything of an inode.
pub fn whole_inode(ino: Ino) -> KeyRange {
    KeyRange { begin: inode(ino, 0), end: inode(ino, 0xff) }
}

/// Every inode key of the volume.
pub fn all_inodes() -> KeyRange {
    KeyRange::prefix(key(&[b"I"]))
}

/// The inode, tag and remainder of an inode key.
pub fn parse_inode(key: &[u8]) -> Option<(Ino, u8, &[u8])> {
    let rest = key.strip_prefix(b"I")?;
    let (ino, rest) = rest.split_at_checked(8)?;
    let (tag, rest) = rest.split_first()?;
    Some((Ino(be64(ino)?), *tag, rest))
}

/// An extended attribute.
pub fn xattr(ino: Ino, name: &[u8]) -> Key {
    let mut k = inode(ino, tag::XATTR);
    k.push(name);
    k
}

/// All extended attributes of an inode.
pub fn xattrs(ino: Ino) -> KeyRange {
    KeyRange::prefix(inode(ino, tag::XATTR))
}

/// Length of a stamped order: incarnation, versionstamp, number within the transaction.
const ORDER: usize = 4 + 10 + 2;

/// A write-log pack. Returns the key and the place of the stamp in it.
pub fn log_pack(ino: Ino, generation: u64, region: u64, incarnation: u32, n: u16) -> (Key, usize) {
    let mut k = inode(ino, tag::LOG);
    k.push(&generation.to_be_bytes());
    k.push(&region.to_be_bytes());
    stamped(k, incarnation, n)
}

/// The write log of one region.
pub fn log_region(ino: Ino, generation: u64, region: u64) -> KeyRange {
    let mut k = inode(ino, tag::LOG);
    k.push(&generation.to_be_bytes());
    k.push(&region.to_be_bytes());
    KeyRange::prefix(k)
}

/// The write log of a whole data generation.
pub fn log_generation(ino: Ino, generation: u64) -> KeyRange {
    let mut k = inode(ino, tag::LOG);
    k.push(&generation.to_be_bytes());
    KeyRange::prefix(k)
}

/// The write logs of all generations.
pub fn log_all(ino: Ino) -> KeyRange {
    KeyRange::prefix(inode(ino, tag::LOG))
}

/// An erased range. Returns the key and the place of the stamp in it.
pub fn erase(ino: Ino, generation: u64, incarnation: u32, n: u16) -> (Key, usize) {
    let mut k = inode(ino, tag::ERASE);
    k.push(&generation.to_be_bytes());
    stamped(k, incarnation, n)
}

/// The erased ranges of a data generation.
pub fn erases(ino: Ino, generation: u64) -> KeyRange {
    let mut k = inode(ino, tag::ERASE);
    k.push(&generation.to_be_bytes());
    KeyRange::prefix(k)
}

/// Everything an older data generation can have left: log and erases.
pub fn generation_keys(ino: Ino, generation: u64) -> [KeyRange; 2] {
    [erases(ino, generation), log_generation(ino, generation)]
}

fn stamped(mut k: Key, incarnation: u32, n: u16) -> (Key, usize) {
    k.push(&incarnation.to_be_bytes());
    let at = k.len();
    k.push(&[0; 10]);
    k.push(&n.to_be_bytes());
    (k, at)
}

/// The order of paint of a log or erase key: its last bytes compare as paint does.
pub fn paint_order(key: &[u8]) -> Option<[u8; ORDER]> {
    key.last_chunk::<ORDER>().copied()
}

/// The generation and region of a log key's remainder.
pub fn parse_log(rest: &[u8]) -> Option<(u64, u64)> {
    let (generation, rest) = rest.split_at_checked(8)?;
    let (region, order) = rest.split_at_checked(8)?;
    (order.len() == ORDER).then_some(())?;
    Some((be64(generation)?, be64(region)?))
}

/// The generation of an erase key's remainder.
pub fn parse_erase(rest: &[u8]) -> Option<u64> {
    let (generation, order) = rest.split_at_checked(8)?;
    (order.len() == ORDER).then_some(())?;
    be64(generation)
}

/// A back link.
pub fn back_link(ino: Ino, parent: Ino, cookie: u64) -> Key {
    key(&[b"P", &ino.0.to_be_bytes(), &parent.0.to_be_bytes(), &cookie.to_be_bytes()])
}

/// The back links of an inode.
pub fn back_links(ino: Ino) -> KeyRange {
    KeyRange::prefix(key(&[b"P", &ino.0.to_be_bytes()]))
}

/// Every back link of the volume.
pub fn all_back_links() -> KeyRange {
    KeyRange::prefix(key(&[b"P"]))
}

/// The inode, parent and cookie of a back link.
pub fn parse_back_link(key: &[u8]) -> Option<(Ino, Ino, u64)> {
    let rest = key.strip_prefix(b"P")?;
    let (ino, rest) = rest.split_at_checked(8)?;
    let (parent, cookie) = rest.split_at_checked(8)?;
    Some((Ino(be64(ino)?), Ino(be64(parent)?), be64(cookie)?))
}

/// A data generation that waits for reclaim; the whole inode when `generation` is `u64::MAX`.
pub fn garbage(ino: Ino, generation: u64) -> Key {
    key(&[b"G", &ino.0.to_be_bytes(), &generation.to_be_bytes()])
}

/// The queue's entries of data generations that were cut off an inode.
pub fn older_garbage(ino: Ino) -> KeyRange {
    KeyRange { begin: garbage(ino, 0), end: garbage(ino, u64::MAX) }
}

/// Everything that waits for reclaim, after an entry.
pub fn all_garbage() -> KeyRange {
    KeyRange::prefix(key(&[b"G"]))
}

/// The inode and generation of a reclaim entry.
pub fn parse_garbage(key: &[u8]) -> Option<(Ino, u64)> {
    let rest = key.strip_prefix(b"G")?;
    let (ino, generation) = rest.split_at_checked(8)?;
    Some((Ino(be64(ino)?), be64(generation)?))
}

/// A segment's record.
pub fn segment(id: SegmentId) -> Key {
    key(&[b"U", &id.to_bytes()])
}

/// Every segment of the volume.
pub fn all_segments() -> KeyRange {
    KeyRange::prefix(key(&[b"U"]))
}

/// A segment's live bytes.
pub fn live_bytes(id: SegmentId) -> Key {
    key(&[b"V", &id.to_bytes()])
}

/// The live bytes of every segment.
pub fn all_live_bytes() -> KeyRange {
    KeyRange::prefix(key(&[b"V"]))
}

/// The segment of a U or V key.
pub fn parse_segment(key: &[u8]) -> Option<SegmentId> {
    Some(SegmentId::from_bytes(key.get(1..)?.try_into().ok()?))
}

/// A session's fence: cleared, no commit of that session can happen any more.
pub fn fence(session: SessionId) -> Key {
    key(&[b"S", &session.0.to_be_bytes(), b"f"])
}

/// A slot of a session's ledger.
pub fn slot(session: SessionId, slot: u32) -> Key {
    key(&[b"S", &session.0.to_be_bytes(), b"r", &slot.to_be_bytes()])
}

/// Whether a key is a fence or a slot of a session.
pub fn is_session(key: &[u8]) -> bool {
    let Some(rest) = key.strip_prefix(b"S") else { return false };
    match rest.split_at_checked(16) {
        Some((_, [b'f'])) => true,
        Some((_, [b'r', slot @ ..])) => slot.len() == 4,
        _ => false,
    }
}

fn be64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}
