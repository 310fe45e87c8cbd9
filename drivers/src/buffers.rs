//! Large read buffers, used again: a fresh one costs a page fault per 4 KiB, which is dearer than the
//! copy that fills it.

use bytes::Bytes;
use std::sync::Mutex;

/// Smaller buffers are the allocator's business.
const POOLED_MIN: usize = 64 << 10;
/// Size of a pooled buffer: the largest READ, begun and ended within a frame, with its frames.
const POOLED_SIZE: usize = (1 << 20) + 2 * 4096;
/// Buffers kept; more are given back to the allocator.
const KEPT_MAX: usize = 16;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer of `len` bytes of any content.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer {
    pub(crate) fn new(len: usize) -> Buffer {
        if !pooled(len) {
            return Buffer { bytes: vec![0; len], len };
        }
        let kept = KEPT.lock().ok().and_then(|mut kept| kept.pop());
        Buffer { bytes: kept.unwrap_or_else(|| vec![0; POOLED_SIZE]), len }
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    /// Lets go of what lies beyond `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The bytes as a handle; the buffer is used again when the last one is dropped.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.len() == POOLED_SIZE
            && let Ok(mut kept) = KEPT.lock()
            && kept.len() < KEPT_MAX
        {
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

fn pooled(len: usize) -> bool {
    (POOLED_MIN..=POOLED_SIZE).contains(&len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_in_use_is_not_given_to_another() {
        let mut first = Buffer::new(1 << 20);
        first.as_mut().fill(1);
        let first = first.freeze();
        let part = first.slice(10..20);
        drop(first);
        let mut second = Buffer::new(1 << 20);
        second.as_mut().fill(2);
        let second = second.freeze();
        assert!(part.iter().all(|b| *b == 1) && second.iter().all(|b| *b == 2));
        assert_eq!((part.len(), second.len()), (10, 1 << 20));
    }

    #[test]
    fn small_and_huge_ones_have_their_size() {
        for len in [0, 1, POOLED_MIN - 1, POOLED_MIN, POOLED_SIZE, POOLED_SIZE + 1] {
            assert_eq!(Buffer::new(len).freeze().len(), len);
        }
    }
}
