//! The dentries that share a name hash.

use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::limits::BUCKET_SLOTS;
use crate::meta::key;
use crate::meta::record::Dentry;
use crate::meta::txn::{Want, list, rows};
use crate::port::meta_kv::Values;
use smallvec::SmallVec;

/// One bucket of one directory, as read.
#[derive(Debug)]
pub(super) struct Bucket {
    first: u64,
    entries: SmallVec<[(u64, Dentry); 1]>,
}

impl Bucket {
    /// The read that fetches it.
    pub(super) fn want(dir: Ino, first: u64) -> Want {
        // One more than fits: a full answer would end the conflict range at its last row.
        rows(key::bucket(dir, first), BUCKET_SLOTS as u32 + 1)
    }

    /// What the read brought.
    pub(super) fn decode(first: u64, values: Values) -> FsResult<Bucket> {
        let mut entries = SmallVec::new();
        for (key, value) in list(values) {
            let (_, cookie) = key::parse_dentry(&key).ok_or(FsError::Damaged)?;
            entries.push((cookie, Dentry::decode(&value)?));
        }
        Ok(Bucket { first, entries })
    }

    /// The entry with this name.
    pub(super) fn find(&self, name: &[u8]) -> Option<(u64, &Dentry)> {
        self.entries.iter().find(|(_, d)| d.name == name).map(|(cookie, d)| (*cookie, d))
    }

    /// The lowest free cookie, counting one that is about to be freed as free.
    pub(super) fn vacancy(&self, leaving: Option<u64>) -> FsResult<u64> {
        if planted!(CollidingName) {
            return Ok(self.first);
        }
        (self.first..self.first + BUCKET_SLOTS)
            .find(|cookie| {
                Some(*cookie) == leaving || self.entries.iter().all(|(taken, _)| taken != cookie)
            })
            .inspect(|cookie| {
                if *cookie > self.first {
                    probe!("bucket-shared");
                }
            })
            .ok_or_else(|| {
                probe!("bucket-full");
                FsError::NoSpace
            })
    }
}
