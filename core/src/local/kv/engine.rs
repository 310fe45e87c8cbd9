//! What the overlay asks of an ordered engine.

use super::layer::{Layer, Operand};
use crate::port::meta_kv::{Key, KeyRange, KvError, Value, Version};
use alloc::sync::Arc;
use bytes::Bytes;
use core::ops::ControlFlow;

/// An ordered map on a medium that takes whole batches.
pub trait Engine {
    /// A state between two batches.
    type Snapshot: Snapshot;

    /// Takes a batch. When it returns `Ok` the batch is durable; after a crash at any moment the engine
    /// holds the state before or after a batch, and [`Batch::version`] and [`Batch::mark`] with it.
    /// The snapshot is the state after the batch.
    ///
    /// [`EngineError::NoSpace`] promises that the engine still holds the state before the batch and can
    /// try again.
    fn apply(&self, batch: &Batch) -> Result<Self::Snapshot, EngineError>;
}

/// An immutable state of an engine. Clones are cheap and share it.
pub trait Snapshot: Clone {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Value>, EngineError>;

    /// Shows the rows of a range in order, or downwards from its end, until `visit` breaks.
    /// The range is not empty.
    fn scan(
        &self,
        range: &KeyRange,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError>;
}

/// Takes the rows of a scan: key and value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Why an engine did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// The medium is full; nothing changed.
    NoSpace,
    /// Its bytes are damaged.
    Corrupt,
    /// The medium failed, with the number of the error.
    Io(i32),
}

impl From<EngineError> for KvError {
    fn from(error: EngineError) -> KvError {
        match error {
            EngineError::NoSpace => KvError::NoSpace,
            EngineError::Corrupt => KvError::Corrupt,
            EngineError::Io(code) => KvError::Fatal(code),
        }
    }
}

/// Everything one flush puts into the engine: the range clears first, then the writes.
#[derive(Clone)]
pub struct Batch {
    layer: Arc<Layer>,
    mark: Option<Bytes>,
}

impl Batch {
    pub(super) fn new(layer: Arc<Layer>) -> Batch {
        Batch { layer, mark: None }
    }

    /// The version the engine's state has after the batch; stored with it.
    pub fn version(&self) -> Version {
        self.layer.last()
    }

    /// What the page store wants to be told at the next start, as of this batch; stored with it.
    /// `None` leaves the one stored before.
    pub fn mark(&self) -> Option<&Bytes> {
        self.mark.as_ref()
    }

    /// Puts the page store's mark in.
    pub fn set_mark(&mut self, mark: Bytes) {
        self.mark = Some(mark);
    }

    /// Ranges to clear before anything is written, ascending and disjoint.
    pub fn clears(&self) -> impl Iterator<Item = KeyRange> + '_ {
        self.layer.clears().merged()
    }

    /// One write per key, ascending.
    pub fn writes(&self) -> impl Iterator<Item = (&Key, Write<'_>)> + '_ {
        self.layer.writes()
    }
}

/// What becomes of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write<'a> {
    /// key := value.
    Set(&'a Value),
    /// The key goes away, if it was there.
    Clear,
    /// key := the operands applied in order to the engine's value; see [`Operand::fold`].
    Merge(&'a [Operand]),
}
