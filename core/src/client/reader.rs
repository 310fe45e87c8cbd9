//! read: buffered writes over committed extents over zeros.

use super::file::Span;
use super::tasks::done;
use super::{Client, Mounted};
use crate::data::gather::{Gather, Part, read_parts};
use crate::data::page_io::{failure, page};
use crate::error::FsError;
use crate::id::{Handle, Ino, RequestId};
use crate::limits::{FILE_SIZE_MAX, IO_SIZE_MAX, REGION_SIZE};
use crate::meta::ops::load::load_region;
use crate::meta::txn::transact;
use crate::port::kernel::{Caller, Operation, Piece, Pieces, Reply, Request};
use crate::port::page_store::{PageError, PageRequest};
use crate::port::{Point, Severity};
use alloc::format;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// Scattered pieces of a file that are fetched ahead at a time.
const PREFETCH_PARTS_MAX: usize = 512;

/// How often one read looks again where bytes are that are not where they were.
const READ_AGAIN_MAX: u32 = 16;

/// Bytes between two pieces that are read along: what a device moves in the time that a request takes.
const GAP_MAX: u32 = 16 << 10;

/// A read that needs the page store: pieces with gaps, and what fills each gap.
struct ReadPlan {
    pieces: Pieces,
    /// Which pieces.
    gaps: Vec<usize>,
    /// From where, one part for each.
    parts: Vec<Part>,
}

impl Client {
    /// FUSE_READ.
    pub(super) fn read(
        &mut self,
        mounted: Mounted,
        id: RequestId,
        (caller, ino, handle, offset, len): (Caller, Ino, Handle, u64, u32),
    ) {
        if let Err(error) = self.inodes.handle(ino, handle) {
            return self.fail(id, error);
        }
        let request = Request { caller, op: Operation::Read { ino, handle, offset, len } };
        let inode = self.inodes.enter(ino);
        if inode.exclusive {
            return inode.parked.push((id, request));
        }
        let Some(size) = inode.file.as_deref().and_then(|f| f.size()) else {
            return self.load(mounted, ino, (id, request));
        };
        let end = offset.saturating_add(u64::from(len.min(IO_SIZE_MAX))).min(FILE_SIZE_MAX);
        let wanted = offset.min(end)..end;
        let range = within(&wanted, size);
        let missing = inode.file.as_deref_mut().and_then(|f| f.missing_region(&range));
        match missing {
            Some((region, begin)) => {
                inode.parked.push((id, request));
                if begin {
                    self.load_region(mounted, ino, region);
                }
            }
            None => {
                if !range.is_empty() {
                    self.touch_atime(ino);
                }
                self.read_loaded(id, wanted.clone(), request);
                if let Some(ahead) = self.inodes.read_ahead(handle, &wanted) {
                    self.prefetch(ino, &ahead);
                }
            }
        }
    }

    /// Lets the page store fetch what a stream of reads will want, as far as the extents are known.
    fn prefetch(&mut self, ino: Ino, ahead: &Range<u64>) {
        let Some(file) = self.inodes.file_mut(ino) else { return };
        let Some(size) = file.size() else { return };
        let range = within(ahead, size);
        if range.is_empty() || !file.knows(&range) {
            return;
        }
        let Some(plan) = self.plan_read(ino, &range) else { return };
        if plan.parts.is_empty() {
            return;
        }
        let gather = Gather::new(plan.parts, GAP_MAX);
        let parts = gather.reads().iter().map(|part| (part.segment, part.offset, part.len));
        let parts = parts.take(PREFETCH_PARTS_MAX).collect();
        self.spawn_own(move |cx| async move {
            // Whatever comes of it, the read itself will say.
            let _ = page(&cx, PageRequest::Prefetch { parts }).await;
            done(|_| ())
        });
    }

    /// Loads a region; whoever waits for the inode then goes on.
    pub(super) fn load_region(&mut self, mounted: Mounted, ino: Ino, region: u64) {
        let Some(file) = self.inodes.file(ino) else { return };
        let Some(committed) = file.committed() else { return };
        let (epoch, generation) = (file.epoch, committed.generation);
        self.pin(ino);
        self.spawn_own(move |cx| async move {
            let volume = &mounted.volume;
            let (result, point) =
                transact!(&cx, volume, |txn| load_region(txn, ino, generation, region).await);
            done(move |client| {
                match (result, point) {
                    (Ok(loaded), Point::Snapshot(version)) => {
                        if let Some(file) = client.inodes.file_mut(ino) {
                            file.region_loaded(epoch, region, loaded, version);
                        }
                        client.advance_flush(ino);
                        client.fold_what_is_due(ino);
                    }
                    (result, _) => {
                        if let Some(file) = client.inodes.file_mut(ino) {
                            file.region_failed(epoch, region);
                        }
                        let error = result.err().unwrap_or(FsError::Damaged);
                        client.fail_parked(ino, error);
                        client.measure_failed(ino, error);
                    }
                }
                client.unpark_inode(ino);
                client.unpin(ino);
            })
        });
    }

    /// Answers from memory, or fetches what is missing.
    fn read_loaded(&mut self, id: RequestId, wanted: Range<u64>, request: Request) {
        let Operation::Read { ino, .. } = request.op else { return };
        let Some(plan) = self.plan_read(ino, &wanted) else {
            return self.fail(id, FsError::Damaged);
        };
        if plan.parts.is_empty() {
            return self.reply(id, Reply::Data(plan.pieces), Point::Step);
        }
        self.pin(ino);
        self.spawn_waiting(id, move |cx| async move {
            let read = read_parts(&cx, plan.parts.clone(), GAP_MAX).await;
            done(move |client| {
                let read = read.into_iter().map(|read| read.map_err(|e| (e, failure(&cx, e))));
                if !cx.left() {
                    client.read_fetched(id, (request, wanted), plan, read);
                }
                client.unpin(ino);
            })
        });
    }

    fn read_fetched(
        &mut self,
        id: RequestId,
        (request, range): (Request, Range<u64>),
        mut plan: ReadPlan,
        read: impl Iterator<Item = Result<Bytes, (PageError, FsError)>>,
    ) {
        let Operation::Read { ino, .. } = request.op else { return };
        for ((piece, part), read) in plan.gaps.iter().zip(&plan.parts).zip(read) {
            let (error, failure) = match read {
                Ok(bytes) => {
                    plan.pieces[*piece] = Piece::Bytes(bytes);
                    continue;
                }
                Err(error) => error,
            };
            let looks = !planted!(NoSecondLook);
            if error == PageError::Missing && looks && self.may_read_again(id) {
                return self.read_again(id, request, range);
            }
            if failure == FsError::Interrupted {
                return self.fail(id, failure);
            }
            self.report(
                Severity::Error,
                format!(
                    "reading inode {ino}, bytes {}..{}: segment {}, payload {}+{}: {error:?}",
                    range.start, range.end, part.segment, part.offset, part.len
                ),
            );
            return self.fail(id, failure);
        }
        self.reply(id, Reply::Data(plan.pieces), Point::Step);
    }

    /// Whether a missing segment may mean that what is known is old: a fold moved its bytes.
    fn may_read_again(&mut self, id: RequestId) -> bool {
        let times = self.read_again.entry(id).or_default();
        *times += 1;
        *times <= READ_AGAIN_MAX
    }

    /// A segment was gone: where the bytes are is read afresh before anybody hears of an error.
    fn read_again(&mut self, id: RequestId, request: Request, range: Range<u64>) {
        let Operation::Read { ino, .. } = request.op else { return };
        probe!("read-again");
        if let Some(file) = self.inodes.file_mut(ino) {
            for region in range.start / REGION_SIZE..=(range.end - 1) / REGION_SIZE {
                file.forget_region(region);
            }
        }
        self.dispatch(id, request);
    }

    /// What an answer consists of now; nothing beyond the end of the file, wherever that is by now.
    fn plan_read(&self, ino: Ino, wanted: &Range<u64>) -> Option<ReadPlan> {
        let file = self.inodes.file(ino)?;
        let committed = file.committed()?;
        let mut plan = ReadPlan { pieces: Pieces::new(), gaps: Vec::new(), parts: Vec::new() };
        let range = within(wanted, file.size()?);
        if range.is_empty() {
            return Some(plan);
        }
        file.buffer.visit(range, |part, buffered| match buffered {
            Some(bytes) => plan.pieces.push(Piece::Bytes(bytes)),
            None => committed.visit(part, |part, span| plan.push(part, span)),
        });
        Some(plan)
    }
}

/// The part of a range that lies in a file of a size.
fn within(range: &Range<u64>, size: u64) -> Range<u64> {
    range.start.min(size)..range.end.min(size)
}

impl ReadPlan {
    fn push(&mut self, part: Range<u64>, span: Span) {
        let len = (part.end - part.start) as u32;
        match span {
            Span::Bytes(bytes) => self.pieces.push(Piece::Bytes(bytes)),
            Span::Hole => self.pieces.push(Piece::Zeros(len)),
            Span::Segment { segment, offset } => {
                self.gaps.push(self.pieces.len());
                self.parts.push(Part { segment, offset, len });
                self.pieces.push(Piece::Zeros(len));
            }
        }
    }
}
