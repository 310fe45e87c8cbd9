//! Read-ahead: recognises who reads a file from front to back, and says what to fetch before it is asked for.
//!
//! Owns: the pattern of one open file. Never does: I/O; and it keeps no bytes. What is fetched ahead waits
//! in the page store's cache, so memory is bounded there.
//!
//! A file that was written in many places lies scattered over segments: only its extent map knows what
//! comes next. Source: the doubling window of Linux' mm/readahead.c.
//!
//! Tests: `tests.rs` beside this file.

use core::ops::Range;

/// Sequential reads in a row before anything is fetched ahead.
const RUN_MIN: u32 = 3;
/// What is fetched ahead at first.
const WINDOW_MIN: u64 = 1 << 20;
/// The most that is fetched ahead.
const WINDOW_MAX: u64 = 8 << 20;
/// The kernel sends reads of one stream at the same time, so they arrive in any order within this.
const DISORDER: u64 = 4 << 20;

/// The pattern of reads through one open file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadAhead {
    /// End of the furthest read of the run.
    next: u64,
    /// Sequential reads in a row.
    run: u32,
    /// Where the next fetch begins.
    fetched: u64,
    window: u64,
}

impl ReadAhead {
    /// A read of `range` arrived. Returns what to fetch now, which begins behind it.
    pub fn read(&mut self, range: &Range<u64>) -> Option<Range<u64>> {
        let near = range.start <= self.next.saturating_add(DISORDER)
            && range.end.saturating_add(DISORDER) > self.next;
        let goes_on = self.run > 0 && near && (self.run >= RUN_MIN || range.start == self.next);
        if !goes_on {
            // A jump ends the run and cancels what was planned.
            *self = ReadAhead { next: range.end, run: 1, fetched: 0, window: WINDOW_MIN };
            return None;
        }
        self.run = self.run.saturating_add(1);
        self.next = self.next.max(range.end);
        if self.run < RUN_MIN {
            return None;
        }
        let begin = self.fetched.max(self.next);
        let end = self.next.saturating_add(self.window);
        // In halves of a window, so that a stream of small reads does not cause one fetch each.
        if end.saturating_sub(begin) < self.window / 2 {
            return None;
        }
        self.fetched = end;
        self.window = (self.window * 2).min(WINDOW_MAX);
        Some(begin..end)
    }
}

#[cfg(test)]
mod tests;
