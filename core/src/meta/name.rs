//! Where a name goes: a keyed 60-bit hash and two tie bits. The same number is the readdir cookie.
//!
//! Cookies are stable across mounts, restarts and removals, below 2^63, and never 0, 1 or 2:
//! 1 is ".", 2 is "..", names begin at 4. A keyed hash, so that nobody can fill a bucket on purpose.

use crate::error::{FsError, FsResult};
use crate::limits::{BUCKET_SLOTS, NAME_MAX};
use core::hash::Hasher;
use siphasher::sip::SipHasher13;

/// The cookie of ".".
pub const COOKIE_SELF: u64 = 1;
/// The cookie of "..".
pub const COOKIE_PARENT: u64 = 2;

/// The name hash of a volume.
#[derive(Clone, Debug)]
pub struct Names {
    key: [u8; 16],
    bits: u8,
}

impl Names {
    /// With the volume's key and number of bits (1..=60).
    pub fn new(key: [u8; 16], bits: u8) -> Names {
        Names { key, bits: bits.clamp(1, 60) }
    }

    /// The first of the four cookies that a name may have.
    pub fn bucket(&self, name: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(name);
        let hash = hasher.finish() >> (64 - u32::from(self.bits));
        // Bucket 0 holds the cookies of "." and "..".
        hash.max(1) * BUCKET_SLOTS
    }
}

/// Checks a name that is to be created or looked up.
pub fn check(name: &[u8]) -> FsResult<()> {
    match name {
        [] => Err(FsError::NotFound),
        _ if name.len() > NAME_MAX => Err(FsError::NameTooLong),
        _ if name.iter().any(|b| matches!(b, b'/' | 0)) => Err(FsError::Invalid),
        _ => Ok(()),
    }
}

/// Checks a name that is to be created, removed or renamed: "." and ".." are none.
pub fn check_entry(name: &[u8]) -> FsResult<()> {
    match name {
        b"." | b".." => Err(FsError::Invalid),
        _ => check(name),
    }
}
