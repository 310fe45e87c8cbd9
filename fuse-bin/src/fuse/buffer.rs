//! Buffers for incoming requests.
//!
//! A reader has one and uses it again for each request. The payload of a large WRITE is not copied: the
//! machine gets the buffer itself, and the reader takes another. Buffers that the machine is done with
//! are kept, because a fresh one costs a page fault per 4 KiB.

use bytes::Bytes;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use vellum_core::limits::IO_SIZE_MAX;

/// The largest request: a WRITE with its headers. The kernel wants at least 8 KiB beyond the payload's
/// own size to be on the safe side of its header checks.
const SIZE: usize = IO_SIZE_MAX as usize + 8192;
/// From so many bytes on a payload keeps the whole buffer, which then is mostly payload.
const KEEP_MIN: usize = SIZE / 2;
/// Idle buffers kept.
const IDLE_MAX: usize = 24;

/// Where a connection's buffers come from and go to.
#[derive(Clone, Default)]
pub(super) struct Buffers {
    idle: Arc<Mutex<Vec<Box<[u8]>>>>,
}

impl Buffers {
    fn take(&self) -> Box<[u8]> {
        let idle = self.idle.lock().pop();
        idle.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice())
    }

    fn give(&self, bytes: Box<[u8]>) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(bytes);
        }
    }
}

/// One reader's buffer.
pub(super) struct Incoming {
    bytes: Box<[u8]>,
    buffers: Buffers,
}

impl Incoming {
    pub(super) fn new(buffers: &Buffers) -> Incoming {
        Incoming { bytes: buffers.take(), buffers: buffers.clone() }
    }

    /// The whole buffer, to read a request into.
    pub(super) fn whole(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The request that was read.
    pub(super) fn frame(&self, len: usize) -> &[u8] {
        &self.bytes[..len]
    }

    /// A part of the request that outlives it.
    pub(super) fn payload(&mut self, range: Range<usize>) -> Bytes {
        if range.len() < KEEP_MIN {
            return Bytes::copy_from_slice(&self.bytes[range]);
        }
        let bytes = std::mem::replace(&mut self.bytes, self.buffers.take());
        Bytes::from_owner(Lent { bytes, buffers: self.buffers.clone() }).slice(range)
    }
}

/// A buffer that the machine holds.
struct Lent {
    bytes: Box<[u8]>,
    buffers: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.buffers.give(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_payload_keeps_its_buffer_until_it_is_dropped() {
        let buffers = Buffers::default();
        let mut incoming = Incoming::new(&buffers);
        for round in 1..4u8 {
            incoming.whole().fill(round);
            let large = incoming.payload(80..80 + (1 << 20));
            incoming.whole().fill(0);
            let small = incoming.payload(80..4096);
            assert!(large.iter().all(|b| *b == round) && small.iter().all(|b| *b == 0));
            assert_eq!(buffers.idle.lock().len(), 0);
            let part = large.slice(10..20);
            drop(large);
            assert_eq!((buffers.idle.lock().len(), part[0]), (0, round));
            drop(part);
            assert_eq!(buffers.idle.lock().len(), 1);
        }
    }
}
