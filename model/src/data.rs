//! File contents: sparse bytes, and the operations that read and change them.
//!
//! Invariants: a chunk never holds anything but zeros at and behind the size; a hole reads as zeros.
//! What counts as a hole is a filesystem's own choice: an implementation may report less of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::attr::{Caller, NodeId, Time};
use crate::error::{Error, Result};
use crate::fs::{Body, Fs};
use crate::quirk::Quirk;
use crate::xattr::CAPABILITY;

/// Bytes of a chunk: the unit in which holes are known.
pub(crate) const CHUNK: u64 = 4096;

type Chunk = [u8; CHUNK as usize];

/// The modes of `fallocate` that the model knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocate {
    /// Reserve space; the size grows to the end of the range.
    Extend,
    /// Reserve space and keep the size (`FALLOC_FL_KEEP_SIZE`).
    Keep,
    /// Make a hole and keep the size (`FALLOC_FL_PUNCH_HOLE`).
    PunchHole,
    /// Zero the range; the size grows to its end (`FALLOC_FL_ZERO_RANGE`).
    ZeroExtend,
    /// Zero the range and keep the size.
    ZeroKeep,
}

impl Fs {
    /// Up to `len` bytes from `offset`; fewer only at the end of the file. Leaves atime to
    /// [`Fs::touch_atime`].
    ///
    /// # Errors
    /// `IsDir`, or `Invalid` for what is not a file.
    pub fn read(&self, id: NodeId, offset: u64, len: usize) -> Result<Vec<u8>> {
        Ok(self.data(id)?.read(offset, len))
    }

    /// Writes at `offset`; the gap behind the old end reads as zeros. Stamps mtime and ctime unless
    /// `bytes` is empty. Returns how many bytes fit below the largest file.
    ///
    /// # Errors
    /// `IsDir`, `Invalid`, or `TooBig` if not one byte fits.
    pub fn write(
        &mut self,
        id: NodeId,
        offset: u64,
        bytes: &[u8],
        caller: Caller,
        now: Time,
    ) -> Result<usize> {
        self.data(id)?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let room = self.limits.file_size_max.saturating_sub(offset);
        if room == 0 {
            return Err(Error::TooBig);
        }
        let fits = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
        self.modify(id, caller, now).write(offset, &bytes[..fits]);
        Ok(fits)
    }

    /// Writes at the end of the file (`O_APPEND`) and returns the offset it went to.
    ///
    /// # Errors
    /// As [`Fs::write`].
    pub fn append(&mut self, id: NodeId, bytes: &[u8], caller: Caller, now: Time) -> Result<u64> {
        let offset = self.data(id)?.size();
        self.write(id, offset, bytes, caller, now)?;
        Ok(offset)
    }

    /// Reserves, zeroes or punches a range of a file. Stamps mtime and ctime.
    ///
    /// # Errors
    /// `Invalid` for an empty range, `TooBig` beyond the largest file, and as [`Fs::write`].
    pub fn allocate(
        &mut self,
        id: NodeId,
        mode: Allocate,
        offset: u64,
        len: u64,
        caller: Caller,
        now: Time,
    ) -> Result<()> {
        self.data(id)?;
        if len == 0 {
            return Err(Error::Invalid);
        }
        let end = offset.checked_add(len).filter(|end| *end <= self.limits.file_size_max);
        let end = end.ok_or(Error::TooBig)?;
        let data = self.modify(id, caller, now);
        if matches!(mode, Allocate::PunchHole | Allocate::ZeroExtend | Allocate::ZeroKeep) {
            data.zero(offset, end);
        }
        if matches!(mode, Allocate::Extend | Allocate::ZeroExtend) && end > data.size {
            data.size = end;
        }
        Ok(())
    }

    /// Copies up to `len` bytes between files, or within one; fewer only at the end of the source, of
    /// which 0 are copied behind it. Chunks that are holes become holes. Stamps mtime and ctime of the
    /// target unless nothing is copied.
    ///
    /// # Errors
    /// As [`Fs::write`], and `Invalid` if the ranges overlap in one file.
    pub fn copy_range(
        &mut self,
        (from, offset): (NodeId, u64),
        (to, to_offset): (NodeId, u64),
        len: u64,
        caller: Caller,
        now: Time,
    ) -> Result<u64> {
        self.data(to)?;
        let source = self.data(from)?.clone();
        let len = len.min(source.size.saturating_sub(offset));
        if len == 0 {
            return Ok(0);
        }
        let room = self.limits.file_size_max.saturating_sub(to_offset);
        if room == 0 {
            return Err(Error::TooBig);
        }
        let len = len.min(room);
        if from == to && offset < to_offset + len && to_offset < offset + len {
            return Err(Error::Invalid);
        }
        let target = self.modify(to, caller, now);
        target.zero(to_offset, to_offset + len);
        target.size = target.size.max(to_offset + len);
        for (at, span) in spans_of_data(&source, offset, offset + len) {
            let bytes = &source.chunks[&(at / CHUNK)][span];
            target.write(to_offset + (at - offset), bytes);
        }
        Ok(len)
    }

    /// Bytes of the chunks that hold data: no filesystem with blocks of this size needs more for them.
    ///
    /// # Errors
    /// As [`Fs::read`].
    pub fn allocated(&self, id: NodeId) -> Result<u64> {
        Ok(self.data(id)?.chunks.len() as u64 * CHUNK)
    }

    /// The first offset at or after `offset` that holds data (`SEEK_DATA`).
    ///
    /// # Errors
    /// `NoAddress` if there is none before the end of the file, `Invalid` for what is not a file.
    pub fn seek_data(&self, id: NodeId, offset: u64) -> Result<u64> {
        let data = self.data_to_seek(id)?;
        data.next_data(offset).filter(|found| *found < data.size).ok_or(Error::NoAddress)
    }

    /// The first offset at or after `offset` in a hole; the end of the file counts as one (`SEEK_HOLE`).
    ///
    /// # Errors
    /// `NoAddress` at and behind the end of the file, `Invalid` for what is not a file.
    pub fn seek_hole(&self, id: NodeId, offset: u64) -> Result<u64> {
        let data = self.data_to_seek(id)?;
        if offset >= data.size {
            return Err(Error::NoAddress);
        }
        Ok(data.next_hole(offset).min(data.size))
    }

    pub(crate) fn resize(
        &mut self,
        id: NodeId,
        size: u64,
        caller: Caller,
        now: Time,
    ) -> Result<()> {
        if size > self.limits.file_size_max {
            return Err(Error::TooBig);
        }
        let keep_tail = self.has(Quirk::TruncateKeepsTail);
        self.data(id)?;
        let data = self.modify(id, caller, now);
        if !keep_tail {
            data.zero(size, u64::MAX);
        }
        data.size = size;
        Ok(())
    }

    pub(crate) fn data(&self, id: NodeId) -> Result<&Data> {
        match &self.node(id)?.body {
            Body::File(data) => Ok(data),
            Body::Dir { .. } => Err(Error::IsDir),
            Body::Symlink(_) | Body::Special(_) => Err(Error::Invalid),
        }
    }

    fn data_to_seek(&self, id: NodeId) -> Result<&Data> {
        self.data(id).map_err(|error| if error == Error::IsDir { Error::Invalid } else { error })
    }

    /// What every change of contents does first: stamp, and drop file capabilities and set-id bits. Only
    /// for files.
    fn modify(&mut self, id: NodeId, caller: Caller, now: Time) -> &mut Data {
        let drops = caller == Caller::Unprivileged && !self.has(Quirk::WriteKeepsSetId);
        let keeps_capability = self.has(Quirk::WriteKeepsCapability);
        let node = self.node_mut(id);
        node.mtime = now;
        node.ctime = now;
        if !keeps_capability {
            node.xattrs.remove(CAPABILITY);
        }
        if drops {
            node.drop_set_id();
        }
        match &mut node.body {
            Body::File(data) => data,
            _ => unreachable!("the caller checked that it is a file"),
        }
    }
}

/// Sparse bytes. Chunks are shared between clones until they are written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Data {
    size: u64,
    chunks: BTreeMap<u64, Arc<Chunk>>,
}

impl Data {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The chunks that hold data: (offset, bytes up to the size).
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.chunks.iter().map(|(index, chunk)| {
            let offset = index * CHUNK;
            let len = self.size.saturating_sub(offset).min(CHUNK);
            (offset, &chunk[..len as usize])
        })
    }

    /// Whether nothing but zeros lies behind the size.
    pub(crate) fn is_clean_behind_end(&self) -> bool {
        self.chunks.iter().all(|(index, chunk)| {
            let live = self.size.saturating_sub(index * CHUNK).min(CHUNK) as usize;
            chunk[live..].iter().all(|b| *b == 0)
        })
    }

    fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = offset.saturating_add(len as u64).min(self.size);
        let mut out = Vec::new();
        for (at, span) in spans(offset, end) {
            match self.chunks.get(&(at / CHUNK)) {
                Some(chunk) => out.extend_from_slice(&chunk[span]),
                None => out.resize(out.len() + span.len(), 0),
            }
        }
        out
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let mut rest = bytes;
        for (at, span) in spans(offset, end) {
            let (now, later) = rest.split_at(span.len());
            let chunk =
                self.chunks.entry(at / CHUNK).or_insert_with(|| Arc::new([0; CHUNK as usize]));
            Arc::make_mut(chunk)[span].copy_from_slice(now);
            rest = later;
        }
        self.size = self.size.max(end);
    }

    /// Zeros `from..to`: chunks of which nothing is left become holes.
    fn zero(&mut self, from: u64, to: u64) {
        let to = if to >= self.size { u64::MAX } else { to };
        let touched: Vec<u64> =
            self.chunks.range(from / CHUNK..).map(|(index, _)| *index).collect();
        for index in touched {
            let start = index * CHUNK;
            let first = from.saturating_sub(start).min(CHUNK) as usize;
            let last = to.saturating_sub(start).min(CHUNK) as usize;
            if last == 0 {
                break;
            }
            if first == 0 && last == CHUNK as usize {
                self.chunks.remove(&index);
            } else if let Some(chunk) = self.chunks.get_mut(&index) {
                Arc::make_mut(chunk)[first..last].fill(0);
            }
        }
    }

    fn next_data(&self, offset: u64) -> Option<u64> {
        self.chunks.range(offset / CHUNK..).next().map(|(index, _)| offset.max(index * CHUNK))
    }

    fn next_hole(&self, offset: u64) -> u64 {
        let mut index = offset / CHUNK;
        if !self.chunks.contains_key(&index) {
            return offset;
        }
        while self.chunks.contains_key(&index) {
            index += 1;
        }
        index * CHUNK
    }
}

/// [`spans`] of the chunks that hold data.
fn spans_of_data(
    data: &Data,
    from: u64,
    to: u64,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let chunks = data.chunks.range(from / CHUNK..to.div_ceil(CHUNK));
    chunks.flat_map(move |(index, _)| {
        let start = index * CHUNK;
        spans(from.max(start), to.min(start + CHUNK))
    })
}

/// Cuts `from..to` at chunk borders: (offset, range within its chunk).
fn spans(from: u64, to: u64) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut at = from;
    std::iter::from_fn(move || {
        if at >= to {
            return None;
        }
        let start = at;
        let chunk_start = at / CHUNK * CHUNK;
        at = (chunk_start + CHUNK).min(to);
        Some((start, (start - chunk_start) as usize..(at - chunk_start) as usize))
    })
}
