//! Newtype identifiers. Mixing two of them up is a type error.

use core::fmt;

/// Inode number. 1 is the root; below 2^63; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory of a volume.
    pub const ROOT: Ino = Ino(1);
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A mount's registration: 128 random bits from the host, so that no id ever returns after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u128);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// An immutable run of bytes in a page store: the session that wrote it and a sequence number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The writer.
    pub session: SessionId,
    /// Counts up from 1 within the session.
    pub sequence: u64,
}

impl SegmentId {
    /// Encoded length in bytes.
    pub const LEN: usize = 24;

    /// Big-endian bytes, ordered like the id itself.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..16].copy_from_slice(&self.session.0.to_be_bytes());
        out[16..].copy_from_slice(&self.sequence.to_be_bytes());
        out
    }

    /// The inverse of [`SegmentId::to_bytes`].
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> SegmentId {
        let (session, sequence) = bytes.split_at(16);
        SegmentId {
            session: SessionId(session.iter().fold(0, |acc, b| acc << 8 | u128::from(*b))),
            sequence: sequence.iter().fold(0, |acc, b| acc << 8 | u64::from(*b)),
        }
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.session, self.sequence)
    }
}

/// A volume's identity, chosen at format time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(pub u128);

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A request on its way through the machine; the host chooses it and gets it back with the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// An effect that awaits its completion; the machine chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectId(pub u64);

/// An open file or directory of one mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);
