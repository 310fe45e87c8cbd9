//! The values of the metadata store. Each starts with a version byte where it may grow.
//!
//! Never does: panics on foreign bytes; a value that does not decode is [`FsError::Damaged`].
//! Golden bytes: `core/tests/records.rs`.

use crate::error::{FsError, FsResult};
use crate::id::{Ino, VolumeId};
use crate::port::control::Limit;
use crate::port::kernel::{S_IFDIR, S_IFMT};
use crate::port::meta_kv::Value;
use crate::time::WallTime;
use alloc::vec::Vec;
use bytes::Bytes;
use smallvec::SmallVec;

/// The newest volume format this program knows.
pub const FORMAT: u32 = 1;

/// What makes a store a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Version of the format.
    pub format: u32,
    /// Identity.
    pub volume: VolumeId,
    /// Key of the name hash.
    pub hash_key: [u8; 16],
    /// Bits of the name hash.
    pub hash_bits: u8,
    /// Counts restores into a store whose versions start lower.
    pub incarnation: u32,
    /// When it was formatted.
    pub created: WallTime,
}

impl VolumeRecord {
    /// Encodes.
    pub fn encode(&self) -> Value {
        let mut w = Writer::default();
        w.u32(self.format);
        w.bytes(&self.volume.0.to_le_bytes());
        w.bytes(&self.hash_key);
        w.u8(self.hash_bits);
        w.u32(self.incarnation);
        w.time(self.created);
        w.finish()
    }

    /// The format version alone, which every format keeps in front.
    pub fn format_of(value: &[u8]) -> FsResult<u32> {
        Reader(value).u32()
    }

    /// Decodes a record of format [`FORMAT`].
    pub fn decode(value: &[u8]) -> FsResult<VolumeRecord> {
        let mut r = Reader(value);
        let record = VolumeRecord {
            format: r.u32()?,
            volume: VolumeId(u128::from_le_bytes(r.array()?)),
            hash_key: r.array()?,
            hash_bits: r.u8()?,
            incarnation: r.u32()?,
            created: r.time()?,
        };
        r.end()?;
        ((1..=60).contains(&record.hash_bits)).then_some(record).ok_or(FsError::Damaged)
    }
}

/// Bits of [`Core::flags`].
pub mod flag {
    /// Data is inline (a file without extents).
    pub const INLINE: u16 = 1;
    /// utimens put mtime into the future: the next write SETs it instead of raising it.
    pub const MTIME_SET: u16 = 2;
    /// It has extended attributes.
    pub const XATTR: u16 = 4;
    /// One of them is `security.capability`.
    pub const CAPABILITY: u16 = 8;
    /// One of them is an access ACL.
    pub const ACCESS_ACL: u16 = 16;
    /// One of them is a default ACL (a directory).
    pub const DEFAULT_ACL: u16 = 32;
    /// A file of O_TMPFILE that has no name yet and may get one.
    pub const NAMEABLE: u16 = 64;
    /// All of them.
    pub const ALL: u16 = 127;
}

/// The rarely written attributes of an inode, read with conflict by every mutation of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names; for a directory 1, or 0 once removed (what stat shows is 2 + subdirectories).
    pub nlink: u32,
    /// Device number.
    pub rdev: u32,
    /// Bits of [`flag`].
    pub flags: u16,
    /// Data generation: a truncate to zero begins a new one.
    pub generation: u64,
    /// Counts truncates, so that a stale extent map is noticed.
    pub trunc_epoch: u64,
    /// Birth time.
    pub btime: WallTime,
    /// Change time of the last change of this record.
    pub ctime: WallTime,
    /// Directory of the home name.
    pub home: Ino,
    /// Cookie of the home name.
    pub home_cookie: u64,
}

const CORE_VERSION: u8 = 1;

impl Core {
    /// Encodes.
    pub fn encode(&self) -> Value {
        let mut w = Writer::default();
        w.u8(CORE_VERSION);
        w.u32(self.mode);
        w.u32(self.uid);
        w.u32(self.gid);
        w.u32(self.nlink);
        w.u32(self.rdev);
        w.u16(self.flags);
        w.u64(self.generation);
        w.u64(self.trunc_epoch);
        w.time(self.btime);
        w.time(self.ctime);
        w.u64(self.home.0);
        w.u64(self.home_cookie);
        w.finish()
    }

    /// Decodes.
    pub fn decode(value: &[u8]) -> FsResult<Core> {
        let mut r = Reader(value);
        r.version(CORE_VERSION)?;
        let core = Core {
            mode: r.u32()?,
            uid: r.u32()?,
            gid: r.u32()?,
            nlink: r.u32()?,
            rdev: r.u32()?,
            flags: r.u16()?,
            generation: r.u64()?,
            trunc_epoch: r.u64()?,
            btime: r.time()?,
            ctime: r.time()?,
            home: Ino(r.u64()?),
            home_cookie: r.u64()?,
        };
        r.end()?;
        Ok(core)
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }

    /// The type bits.
    pub fn kind(&self) -> u32 {
        self.mode & S_IFMT
    }

    /// Whether a flag is set.
    pub fn has(&self, bit: u16) -> bool {
        self.flags & bit != 0
    }

    /// Sets or clears a flag.
    pub fn put(&mut self, bit: u16, on: bool) {
        if on { self.flags |= bit } else { self.flags &= !bit }
    }
}

/// A directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dentry {
    /// What it names.
    pub ino: Ino,
    /// Type bits (S_IF*).
    pub kind: u32,
    /// Name.
    pub name: Bytes,
}

const DENTRY_VERSION: u8 = 1;

impl Dentry {
    /// Encodes.
    pub fn encode(&self) -> Value {
        let mut w = Writer::default();
        w.u8(DENTRY_VERSION);
        w.u64(self.ino.0);
        w.u8((self.kind >> 12) as u8);
        w.bytes(&self.name);
        w.finish()
    }

    /// Decodes; the name shares the value's memory.
    pub fn decode(value: &Value) -> FsResult<Dentry> {
        let mut r = Reader(value);
        r.version(DENTRY_VERSION)?;
        let (ino, kind) = (Ino(r.u64()?), u32::from(r.u8()?) << 12);
        if r.0.is_empty() || r.0.len() > crate::limits::NAME_MAX {
            return Err(FsError::Damaged);
        }
        Ok(Dentry { ino, kind, name: value.slice(value.len() - r.0.len()..) })
    }
}

/// A time as 12 bytes that order as little-endian integers, so that MAX keeps the later one.
pub fn encode_time(time: WallTime) -> [u8; 12] {
    let mut out = [0; 12];
    out[..4].copy_from_slice(&time.nanos.to_le_bytes());
    out[4..].copy_from_slice(&((time.secs as u64) ^ (1 << 63)).to_le_bytes());
    out
}

/// The inverse of [`encode_time`]. A second has no more than its nanoseconds: each time has one form.
pub fn decode_time(value: &[u8]) -> FsResult<WallTime> {
    let mut r = Reader(value);
    let nanos = r.u32()?;
    let secs = (r.u64()? ^ (1 << 63)) as i64;
    r.end()?;
    (nanos < 1_000_000_000).then_some(WallTime { secs, nanos }).ok_or(FsError::Damaged)
}

/// A pair of counters in one little-endian i128, so that one ADD changes both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// Upper 64 bits.
    pub hi: i64,
    /// Lower 64 bits.
    pub lo: i64,
}

impl Pair {
    /// The operand or value.
    pub fn encode(self) -> [u8; 16] {
        ((i128::from(self.hi) << 64).wrapping_add(i128::from(self.lo))).to_le_bytes()
    }

    /// The inverse; the lower half borrows from the upper one when negative.
    pub fn decode(value: &[u8]) -> FsResult<Pair> {
        let all = i128::from_le_bytes(value.try_into().map_err(|_| FsError::Damaged)?);
        let lo = all as i64;
        Ok(Pair { hi: (all.wrapping_sub(i128::from(lo)) >> 64) as i64, lo })
    }
}

/// A u64 value, little-endian.
pub fn decode_u64(value: &[u8]) -> FsResult<u64> {
    Ok(u64::from_le_bytes(value.try_into().map_err(|_| FsError::Damaged)?))
}

/// What is known of a segment from its first commit on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRecord {
    /// Payload length.
    pub len: u64,
    /// Whose log named it first; volumes of earlier builds do not say.
    pub owner: Option<Ino>,
}

impl SegmentRecord {
    /// Encodes.
    pub fn encode(&self) -> Value {
        let mut w = Writer::default();
        w.u64(self.len);
        if let Some(owner) = self.owner {
            w.u64(owner.0);
        }
        w.finish()
    }

    /// Decodes.
    pub fn decode(value: &[u8]) -> FsResult<SegmentRecord> {
        let mut r = Reader(value);
        let len = r.u64()?;
        let owner = if r.0.is_empty() { None } else { Some(Ino(r.u64()?)) };
        r.end()?;
        Ok(SegmentRecord { len, owner })
    }
}

const LIMIT_VERSION: u8 = 1;

/// Limits of a volume; the largest number stands for none.
pub fn encode_limit(limit: Limit) -> Value {
    let mut w = Writer::default();
    w.u8(LIMIT_VERSION);
    w.u64(limit.bytes.unwrap_or(u64::MAX));
    w.u64(limit.inodes.unwrap_or(u64::MAX));
    w.finish()
}

/// The inverse of [`encode_limit`].
pub fn decode_limit(value: &[u8]) -> FsResult<Limit> {
    let mut r = Reader(value);
    r.version(LIMIT_VERSION)?;
    let mut next = || r.u64().map(|n| (n != u64::MAX).then_some(n));
    let limit = Limit { bytes: next()?, inodes: next()? };
    r.end()?;
    Ok(limit)
}

/// An erased range `lo..hi`.
pub fn encode_erase(lo: u64, hi: u64) -> Value {
    let mut w = Writer::default();
    w.u64(lo);
    w.u64(hi);
    w.finish()
}

/// The inverse of [`encode_erase`].
pub fn decode_erase(value: &[u8]) -> FsResult<(u64, u64)> {
    let mut r = Reader(value);
    let range = (r.u64()?, r.u64()?);
    r.end()?;
    Ok(range)
}

#[derive(Default)]
struct Writer(SmallVec<[u8; 128]>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn u8(&mut self, v: u8) {
        self.0.push(v);
    }
    fn u16(&mut self, v: u16) {
        self.bytes(&v.to_le_bytes());
    }
    fn u32(&mut self, v: u32) {
        self.bytes(&v.to_le_bytes());
    }
    fn u64(&mut self, v: u64) {
        self.bytes(&v.to_le_bytes());
    }
    fn time(&mut self, t: WallTime) {
        self.bytes(&encode_time(t));
    }
    fn finish(self) -> Value {
        Bytes::from(Vec::from(self.0.as_slice()))
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> FsResult<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(FsError::Damaged)?;
        self.0 = rest;
        Ok(*head)
    }
    fn u8(&mut self) -> FsResult<u8> {
        Ok(self.array::<1>()?[0])
    }
    fn u16(&mut self) -> FsResult<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    fn u32(&mut self) -> FsResult<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    fn u64(&mut self) -> FsResult<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    fn time(&mut self) -> FsResult<WallTime> {
        decode_time(&self.array::<12>()?)
    }
    fn version(&mut self, known: u8) -> FsResult<()> {
        (self.u8()? == known).then_some(()).ok_or(FsError::Damaged)
    }
    fn end(&self) -> FsResult<()> {
        self.0.is_empty().then_some(()).ok_or(FsError::Damaged)
    }
}
