//! What a mount is told at its start.

use crate::data::fold::Policy;
use crate::id::SessionId;
use crate::port::control::Limit;
use crate::port::meta_kv::KvTraits;
use core::time::Duration;

/// Configuration of a [`super::Client`].
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// 128 random bits; never reused.
    pub session: SessionId,
    /// Seeds jitter and nothing else.
    pub seed: u64,
    /// What the metadata store promises.
    pub kv: KvTraits,
    /// Refuse every change.
    pub read_only: bool,
    /// Do not keep access times.
    pub noatime: bool,
    /// How long the kernel may cache attributes.
    pub attr_valid: Duration,
    /// How long the kernel may cache names.
    pub entry_valid: Duration,
    /// How long the kernel may cache that a name does not exist; zero for not at all.
    pub negative_valid: Duration,
    /// What the volume may hold at most, where it shall not be what its record says.
    pub limit: Limit,
    /// Bytes that all write buffers together may hold before writers wait.
    pub dirty_max: u64,
    /// Age at which buffered writes are committed without being asked.
    pub flush_after: Duration,
    /// Age at which commits are made durable without being asked.
    pub sync_after: Duration,
    /// When the write logs of files are folded.
    pub compaction: Policy,
}

impl ClientConfig {
    /// Defaults for a mount that has its volume to itself.
    pub fn sole(session: SessionId, seed: u64) -> ClientConfig {
        ClientConfig {
            session,
            seed,
            kv: KvTraits { may_be_unknown: false, sole: true, value_bytes_max: 16 << 10 },
            read_only: false,
            noatime: false,
            attr_valid: FOR_EVER,
            entry_valid: FOR_EVER,
            negative_valid: FOR_EVER,
            limit: Limit::default(),
            dirty_max: 256 << 20,
            flush_after: Duration::from_secs(1),
            sync_after: Duration::from_secs(1),
            compaction: Policy::default(),
        }
    }
}

/// Longer than any mount lives; still fits the kernel's arithmetic in jiffies.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);
