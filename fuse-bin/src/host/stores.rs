//! The stores a host performs effects on.

use std::sync::Arc;
use vellum_core::port::meta_kv::{KvError, KvReply, KvRequest};
use vellum_core::port::page_store::{PageError, PageReply, PageRequest};

/// A metadata store. Reads and commits must be quick; a sync may block.
pub trait MetaStore: Send + Sync + 'static {
    /// Performs one request.
    ///
    /// # Errors
    /// As the port defines them.
    fn perform(&self, request: KvRequest) -> Result<KvReply, KvError>;
}

/// A page store.
pub trait PageStore: Send + Sync + 'static {
    /// Performs one request; may block.
    ///
    /// # Errors
    /// As the port defines them.
    fn perform(&self, request: PageRequest) -> Result<PageReply, PageError>;

    /// Performs a request if that is possible without blocking; `None` if not.
    fn try_perform(&self, request: &PageRequest) -> Option<Result<PageReply, PageError>>;
}

/// Both stores of a volume.
#[derive(Clone)]
pub struct Stores {
    /// Metadata.
    pub kv: Arc<dyn MetaStore>,
    /// Data.
    pub pages: Arc<dyn PageStore>,
}

impl Stores {
    /// Whether it is worth asking [`PageStore::try_perform`].
    pub(super) fn may_be_instant(&self, request: &PageRequest) -> bool {
        matches!(request, PageRequest::Read { .. })
    }
}
