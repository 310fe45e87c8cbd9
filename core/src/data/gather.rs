//! Reading many small parts of segments in few reads: what lies close together is read in one go.
//!
//! Random writes leave a file in alternate pieces of two segments or more. Asked for one by one, they would
//! cost a system call (or a message) for each few KiB.
//!
//! Owns: which parts share a read, and how its answer is cut. Never does: choosing what to read. A part
//! never fails for what lies between it and another one: then it is read alone.
//!
//! Tests: `gather/tests.rs`.

use super::page_io::{page, pages};
use crate::id::SegmentId;
use crate::limits::IO_SIZE_MAX;
use crate::port::page_store::{PageError, PageReply, PageRequest};
use crate::task::Cx;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

#[cfg(test)]
mod tests;

/// Bytes of a segment's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// Which segment.
    pub segment: SegmentId,
    /// First byte.
    pub offset: u32,
    /// Number of bytes.
    pub len: u32,
}

/// Parts, and the reads that bring them.
#[derive(Debug, PartialEq, Eq)]
pub struct Gather {
    parts: Vec<Part>,
    reads: Vec<Part>,
    /// Which read brings a part.
    of: Vec<usize>,
}

impl Part {
    /// What to ask the page store for.
    pub fn request(&self) -> PageRequest {
        PageRequest::Read { segment: self.segment, offset: self.offset, len: self.len }
    }

    fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.len)
    }
}

impl Gather {
    /// As few reads as it takes when up to `gap` bytes between two parts are read along. A read has at most
    /// [`IO_SIZE_MAX`] bytes, unless a part has more: none is cut.
    pub fn new(parts: Vec<Part>, gap: u32) -> Gather {
        let mut order: Vec<usize> = (0..parts.len()).collect();
        order.sort_unstable_by_key(|n| parts[*n]);
        let mut reads: Vec<Part> = Vec::new();
        let mut of = vec![0; parts.len()];
        for n in order {
            let part = parts[n];
            match reads.last_mut() {
                Some(last) if joins(last, &part, gap) => {
                    let end = last.end().max(part.end());
                    last.len = (end - u64::from(last.offset)) as u32;
                }
                _ => reads.push(part),
            }
            of[n] = reads.len() - 1;
        }
        Gather { parts, reads, of }
    }

    /// What to read.
    pub fn reads(&self) -> &[Part] {
        &self.reads
    }

    /// Cuts what the reads brought. A part whose read failed is read alone, unless the segment is not there:
    /// it might be damage of its neighbours.
    pub async fn cut(
        &self,
        cx: &Cx,
        replies: &[Result<PageReply, PageError>],
    ) -> Vec<Result<Bytes, PageError>> {
        let mut answers: Vec<_> = (0..self.parts.len()).map(|n| self.part(n, replies)).collect();
        let alone: Vec<usize> =
            (0..answers.len()).filter(|n| self.may_do_better(*n, &answers[*n])).collect();
        if !alone.is_empty() {
            probe!("read-alone");
            let requests = alone.iter().map(|n| self.parts[*n].request()).collect();
            for (n, reply) in alone.into_iter().zip(pages(cx, requests).await) {
                answers[n] = whole(&self.parts[n], &reply);
            }
        }
        answers
    }

    fn part(&self, n: usize, replies: &[Result<PageReply, PageError>]) -> Result<Bytes, PageError> {
        let (part, read) = (&self.parts[n], &self.reads[self.of[n]]);
        let reply = replies.get(self.of[n]).ok_or(PageError::Io)?;
        let begin = (part.offset - read.offset) as usize;
        whole(read, reply).map(|bytes| bytes.slice(begin..begin + part.len as usize))
    }

    fn may_do_better(&self, n: usize, answer: &Result<Bytes, PageError>) -> bool {
        let shared = self.reads[self.of[n]] != self.parts[n];
        shared && matches!(answer, Err(PageError::Corrupt { .. } | PageError::Io))
    }
}

/// Reads parts, all at once; one answer for each, in their order. `gap` is that of [`Gather::new`].
pub async fn read_parts(cx: &Cx, parts: Vec<Part>, gap: u32) -> Vec<Result<Bytes, PageError>> {
    if let [part] = parts[..] {
        return vec![whole(&part, &page(cx, part.request()).await)];
    }
    let gather = Gather::new(parts, gap);
    let replies = pages(cx, gather.reads.iter().map(Part::request).collect()).await;
    gather.cut(cx, &replies).await
}

fn joins(last: &Part, next: &Part, gap: u32) -> bool {
    let end = last.end().max(next.end());
    last.segment == next.segment
        && u64::from(next.offset) <= last.end() + u64::from(gap)
        && (end == last.end() || end - u64::from(last.offset) <= u64::from(IO_SIZE_MAX))
}

/// The bytes of one read, all of them.
fn whole(read: &Part, reply: &Result<PageReply, PageError>) -> Result<Bytes, PageError> {
    match reply {
        Ok(PageReply::Data(bytes)) if bytes.len() == read.len as usize => Ok(bytes.clone()),
        Ok(_) => Err(PageError::Io),
        Err(error) => Err(*error),
    }
}
