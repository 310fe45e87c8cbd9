//! What every store behind the ports must do, as functions that tests call.
//!
//! One suite for the real stores and for the simulator's: a fake that behaves otherwise proves nothing.
//! Each function panics with what was expected and what was found.

pub mod meta;
pub mod pages;

use crate::{DiskPages, EmbeddedKv};
use bytes::Bytes;
use vellum_core::id::SegmentId;
use vellum_core::port::meta_kv::{Commit, CommitRequest, KvError, KvReply, ReadRound, Version};
use vellum_core::port::page_store::{PageError, SegmentDraft, Space};

/// A metadata store, called directly. The contract is `vellum_core::port::meta_kv`.
pub trait MetaStore {
    /// Answers with [`KvReply::Values`].
    fn read(&self, round: &ReadRound) -> Result<KvReply, KvError>;
    /// Applies a write set.
    fn commit(&self, request: CommitRequest) -> Result<Commit, KvError>;
    /// Makes everything up to a version durable.
    fn sync(&self, up_to: Version) -> Result<Version, KvError>;
}

/// A page store, called directly. The contract is `vellum_core::port::page_store`.
pub trait PageStore {
    /// Stores a segment; answers with the bytes it takes.
    fn append(&self, draft: SegmentDraft) -> Result<u64, PageError>;
    /// Reads and verifies payload bytes.
    fn read(&self, segment: SegmentId, offset: u32, len: u32) -> Result<Bytes, PageError>;
    /// Verifies a whole segment; answers with the length of its payload.
    fn verify(&self, segment: SegmentId) -> Result<u32, PageError>;
    /// Frees segments.
    fn delete(&self, segments: &[SegmentId]) -> Result<(), PageError>;
    /// Names segments in ascending order.
    fn list(&self, after: Option<SegmentId>, limit: u32) -> Result<Vec<SegmentId>, PageError>;
    /// Capacity.
    fn space(&self) -> Result<Space, PageError>;
    /// Makes everything appended durable.
    fn sync(&self) -> Result<(), PageError>;
}

impl MetaStore for EmbeddedKv {
    fn read(&self, round: &ReadRound) -> Result<KvReply, KvError> {
        EmbeddedKv::read(self, round)
    }
    fn commit(&self, request: CommitRequest) -> Result<Commit, KvError> {
        EmbeddedKv::commit(self, request)
    }
    fn sync(&self, up_to: Version) -> Result<Version, KvError> {
        EmbeddedKv::sync(self, up_to)
    }
}

impl PageStore for DiskPages {
    fn append(&self, draft: SegmentDraft) -> Result<u64, PageError> {
        DiskPages::append(self, draft)
    }
    fn read(&self, segment: SegmentId, offset: u32, len: u32) -> Result<Bytes, PageError> {
        DiskPages::read(self, segment, offset, len)
    }
    fn verify(&self, segment: SegmentId) -> Result<u32, PageError> {
        DiskPages::verify(self, segment)
    }
    fn delete(&self, segments: &[SegmentId]) -> Result<(), PageError> {
        DiskPages::delete(self, segments)
    }
    fn list(&self, after: Option<SegmentId>, limit: u32) -> Result<Vec<SegmentId>, PageError> {
        Ok(DiskPages::list(self, after, limit))
    }
    fn space(&self) -> Result<Space, PageError> {
        DiskPages::space(self)
    }
    fn sync(&self) -> Result<(), PageError> {
        DiskPages::sync_all(self).map(drop)
    }
}
