//! The stores of a local volume as the host sees them.

use super::stores::{MetaStore, PageStore, Stores};
use std::sync::Arc;
use vellum_core::port::meta_kv::{KvError, KvReply, KvRequest};
use vellum_core::port::page_store::{PageError, PageReply, PageRequest};
use vellum_drivers::{DiskPages, EmbeddedKv};

impl Stores {
    /// Both stores of a local volume.
    pub fn local(kv: &Arc<EmbeddedKv>, pages: &Arc<DiskPages>) -> Stores {
        Stores { kv: Arc::new(LocalMeta(kv.clone())), pages: Arc::new(LocalPages(pages.clone())) }
    }
}

/// The embedded store as the host sees it.
struct LocalMeta(Arc<EmbeddedKv>);

impl MetaStore for LocalMeta {
    fn perform(&self, request: KvRequest) -> Result<KvReply, KvError> {
        match request {
            KvRequest::Read(round) => self.0.read(&round),
            KvRequest::Commit(commit) => self.0.commit(*commit).map(KvReply::Committed),
            KvRequest::Sync { up_to } => self.0.sync(up_to).map(KvReply::Durable),
        }
    }
}

/// The page files as the host sees them.
struct LocalPages(Arc<DiskPages>);

impl PageStore for LocalPages {
    fn perform(&self, request: PageRequest) -> Result<PageReply, PageError> {
        let pages = &self.0;
        match request {
            PageRequest::Append(draft) => {
                pages.append(draft).map(|physical| PageReply::Appended { physical })
            }
            PageRequest::Read { segment, offset, len } => {
                pages.read(segment, offset, len).map(PageReply::Data)
            }
            PageRequest::Prefetch { parts } => {
                pages.prefetch(&parts);
                Ok(PageReply::Prefetched)
            }
            PageRequest::Verify { segment } => {
                pages.verify(segment).map(|len| PageReply::Verified { len })
            }
            PageRequest::Delete { segments } => {
                pages.delete(&segments).map(|()| PageReply::Deleted)
            }
            PageRequest::List { after, limit } => Ok(PageReply::Listed(pages.list(after, limit))),
            PageRequest::Space => pages.space().map(PageReply::Space),
        }
    }

    fn try_perform(&self, request: &PageRequest) -> Option<Result<PageReply, PageError>> {
        match *request {
            PageRequest::Read { segment, offset, len } => {
                let read = self.0.try_read(segment, offset, len)?;
                Some(read.map(PageReply::Data))
            }
            PageRequest::Space => Some(self.0.space().map(PageReply::Space)),
            _ => None,
        }
    }
}
