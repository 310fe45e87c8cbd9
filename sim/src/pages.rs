//! A simulated page store: immutable segments that may be volatile until a sync.
//!
//! Owns: which segments exist, which survive a crash. Never does: latencies (that is `link.rs`).
//! Invariant: a segment is never written twice with other bytes; an attempt is kept in
//! [`SimPages::violations`].

use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use vellum_core::id::SegmentId;
use vellum_core::port::meta_kv::Commit;
use vellum_core::port::page_store::{PageError, PageReply, PageRequest, SegmentDraft, Space};

use crate::dice::Dice;

/// Space that a segment takes beyond its payload.
const OVERHEAD: u64 = 4096;

/// The store.
#[derive(Clone, Debug)]
pub struct SimPages {
    segments: BTreeMap<SegmentId, Stored>,
    /// Appends are durable when they are answered.
    durable_at_once: bool,
    capacity: u64,
    used: u64,
    violations: Vec<String>,
}

#[derive(Clone, Debug)]
struct Stored {
    payload: Vec<Bytes>,
    len: u32,
    durable: bool,
    /// The newest commit when the append was done: a later one that survives pulls it along.
    after: Commit,
    damaged: Option<u32>,
}

impl SimPages {
    /// An empty store of `capacity` bytes.
    pub fn new(durable_at_once: bool, capacity: u64) -> SimPages {
        SimPages {
            segments: BTreeMap::new(),
            durable_at_once,
            capacity,
            used: 0,
            violations: Vec::new(),
        }
    }

    /// What a client did that no client may do.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// There is room again.
    pub fn grow(&mut self) {
        self.capacity = 1 << 40;
    }

    /// Segments stored.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Damages a stored segment from payload byte `offset` on, for tests.
    pub fn damage(&mut self, id: SegmentId, offset: u32) {
        if let Some(stored) = self.segments.get_mut(&id) {
            stored.damaged = Some(offset);
        }
    }

    /// Names of all segments.
    pub fn ids(&self) -> impl Iterator<Item = SegmentId> {
        self.segments.keys().copied()
    }

    /// Performs a request; `last` is the newest commit of the metadata store.
    ///
    /// # Errors
    /// As the port says.
    pub fn serve(&mut self, request: &PageRequest, last: Commit) -> Result<PageReply, PageError> {
        match request {
            PageRequest::Append(draft) => self.append(draft, last),
            PageRequest::Read { segment, offset, len } => self.read(*segment, *offset, *len),
            PageRequest::Prefetch { .. } => Ok(PageReply::Prefetched),
            PageRequest::Verify { segment } => {
                let stored = self.segments.get(segment).ok_or(PageError::Missing)?;
                match stored.damaged {
                    Some(offset) => Err(PageError::Corrupt { offset }),
                    None => Ok(PageReply::Verified { len: stored.len }),
                }
            }
            PageRequest::Delete { segments } => {
                for id in segments {
                    if let Some(stored) = self.segments.remove(id) {
                        self.used -= u64::from(stored.len) + OVERHEAD;
                    }
                }
                Ok(PageReply::Deleted)
            }
            PageRequest::List { after, limit } => {
                let ids = self.segments.keys().filter(|id| after.is_none_or(|a| **id > a));
                Ok(PageReply::Listed(ids.take(*limit as usize).copied().collect()))
            }
            PageRequest::Space => Ok(PageReply::Space(Space {
                total: self.capacity,
                free: self.capacity.saturating_sub(self.used),
            })),
        }
    }

    /// A sync of the metadata store covers every append that was answered before.
    pub fn sync(&mut self) {
        for stored in self.segments.values_mut() {
            stored.durable = true;
        }
    }

    /// Power cut; the metadata store kept its commits up to `cut`.
    pub fn crash(&mut self, cut: Commit, dice: &mut Dice) -> u64 {
        let mut lost = 0;
        let ids: Vec<SegmentId> = self.ids().collect();
        for id in ids {
            let stored = self.segments.get_mut(&id).expect("just listed");
            if stored.durable || cut > stored.after {
                stored.durable = true;
                continue;
            }
            match dice.below(4) {
                0 => stored.durable = true,
                1 => stored.damaged = Some(dice.below(u64::from(stored.len.max(1))) as u32),
                _ => {
                    self.used -= u64::from(stored.len) + OVERHEAD;
                    self.segments.remove(&id);
                }
            }
            lost += 1;
        }
        lost
    }

    fn append(&mut self, draft: &SegmentDraft, last: Commit) -> Result<PageReply, PageError> {
        let len: usize = draft.payload.iter().map(Bytes::len).sum();
        if len != draft.len as usize {
            self.violations
                .push(format!("segment {} says {} bytes and has {len}", draft.id, draft.len));
        }
        let physical = u64::from(draft.len) + OVERHEAD;
        if let Some(old) = self.segments.get(&draft.id) {
            if flat(&old.payload, 0, old.len) != flat(&draft.payload, 0, draft.len) {
                self.violations
                    .push(format!("segment {} was written twice with other bytes", draft.id));
                return Err(PageError::Corrupt { offset: 0 });
            }
            return Ok(PageReply::Appended { physical });
        }
        if self.used + physical > self.capacity {
            return Err(PageError::NoSpace);
        }
        self.used += physical;
        let stored = Stored {
            payload: draft.payload.clone(),
            len: draft.len,
            durable: self.durable_at_once,
            after: last,
            damaged: None,
        };
        self.segments.insert(draft.id, stored);
        Ok(PageReply::Appended { physical })
    }

    fn read(&mut self, id: SegmentId, offset: u32, len: u32) -> Result<PageReply, PageError> {
        let stored = self.segments.get(&id).ok_or(PageError::Missing)?;
        let end = u64::from(offset) + u64::from(len);
        if len == 0 || end > u64::from(stored.len) {
            self.violations
                .push(format!("read of {offset}+{len} in segment {id} of {} bytes", stored.len));
            return Err(PageError::Missing);
        }
        if let Some(from) = stored.damaged.filter(|from| end > u64::from(*from)) {
            return Err(PageError::Corrupt { offset: from });
        }
        Ok(PageReply::Data(flat(&stored.payload, offset, len)))
    }
}

/// `len` bytes from `offset` of a payload, without a copy if they lie in one piece.
fn flat(payload: &[Bytes], offset: u32, len: u32) -> Bytes {
    let (mut skip, len) = (offset as usize, len as usize);
    let mut out = BytesMut::new();
    for piece in payload {
        if skip >= piece.len() {
            skip -= piece.len();
            continue;
        }
        let take = (piece.len() - skip).min(len - out.len());
        let part = piece.slice(skip..skip + take);
        if out.is_empty() && part.len() == len {
            return part;
        }
        out.extend_from_slice(&part);
        skip = 0;
        if out.len() == len {
            break;
        }
    }
    out.freeze()
}
