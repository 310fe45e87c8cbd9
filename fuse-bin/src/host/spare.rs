//! Which reader of the kernel's queue may block.
//!
//! What blocks for a moment (a read of the disk, a sync) is done soonest by the thread that has it in hand.
//! But one reader always goes on reading, whatever the disk does: the kernel may need an answer before it
//! lets go of what the others wait for.

use super::sync::{AtomicUsize, Ordering, Plant, planted};

/// Counts the readers that may still block.
#[derive(Debug)]
pub(super) struct Spare(AtomicUsize);

/// A reader that may block until it lets go of this.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a AtomicUsize);

impl Spare {
    /// Nobody reads yet.
    pub(super) fn new() -> Spare {
        Spare(AtomicUsize::new(0))
    }

    /// So many threads read the kernel's queue.
    pub(super) fn readers(&self, count: usize) {
        let busy = if planted(Plant::LastReaderBlocks) { 0 } else { 1 };
        self.0.store(count.saturating_sub(busy), Ordering::Relaxed);
    }

    /// Leave to block, unless this is the last reader that does not.
    pub(super) fn take(&self) -> Option<Permit<'_>> {
        let less = |free: usize| free.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok()?;
        Some(Permit(&self.0))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    #[test]
    fn the_last_reader_never_blocks() {
        let spare = Spare::new();
        assert!(spare.take().is_none(), "before anybody reads");
        spare.readers(3);
        let one = spare.take().expect("two may");
        let two = spare.take().expect("two may");
        assert!(spare.take().is_none());
        drop(one);
        assert!(spare.take().is_some());
        drop(two);
    }
}
