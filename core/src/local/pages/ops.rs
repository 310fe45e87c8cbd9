//! What a page store does: state changes under the lock, calls outside of it.

use super::format::{Mark, encode_header};
use super::state::{Burial, Pages, Place, Room, SyncPlan};
use crate::data::segment::{self, BadFrame, Frames, Head, decode_head, encode_head};
use crate::id::{SegmentId, VolumeId};
use crate::local::Shared;
use crate::local::medium::{File, Medium, MediumError};
use crate::port::page_store::{PageError, SegmentDraft};
use alloc::vec;
use bytes::Bytes;

/// How often a sync moves segments out of failing files before it gives up.
const SYNC_ATTEMPTS_MAX: usize = 3;

impl From<MediumError> for PageError {
    fn from(error: MediumError) -> PageError {
        match error {
            MediumError::NoSpace => PageError::NoSpace,
            MediumError::Io => PageError::Io,
        }
    }
}

/// Stores a segment; durable after the next [`sync`]. Several appends may run at once.
/// Returns the bytes it takes. An id that is taken is an error, unless the bytes are the same.
pub fn append<M: Medium>(
    shared: &impl Shared<Pages<M::File>>,
    medium: &M,
    volume: VolumeId,
    draft: SegmentDraft,
) -> Result<u64, PageError> {
    put(shared, medium, volume, draft, false)
}

fn put<M: Medium>(
    shared: &impl Shared<Pages<M::File>>,
    medium: &M,
    volume: VolumeId,
    draft: SegmentDraft,
    again: bool,
) -> Result<u64, PageError> {
    let head = encode_head(volume, &draft);
    loop {
        match shared.with_mut(|pages| pages.reserve(&draft, again))? {
            Room::NewFile(number) => {
                let file = create(medium, volume, number);
                let installed = file.as_ref().ok().cloned();
                shared.with_mut(|pages| pages.created(number, installed));
                file?;
            }
            Room::Taken(place, file) => {
                let same = file.read(place.offset, head.len())? == head;
                return if same {
                    Ok(place.physical_len())
                } else {
                    Err(PageError::Corrupt { offset: 0 })
                };
            }
            Room::Here { file, place } => {
                let mut pieces = vec![head];
                pieces.extend(draft.payload.iter().cloned());
                pieces.push(segment::padding(draft.len));
                let written = file.write(place.offset, &pieces);
                shared.with_mut(|pages| pages.appended(draft, place, written.is_ok(), again));
                written?;
                return Ok(place.physical_len());
            }
        }
    }
}

fn create<M: Medium>(medium: &M, volume: VolumeId, number: u32) -> Result<M::File, MediumError> {
    let file = medium.create(number)?;
    if let Err(error) = file.write(0, &[encode_header(volume, number)]) {
        // What stays is found empty at the next start.
        let _ = medium.remove(number);
        return Err(error);
    }
    Ok(file)
}

/// Makes everything appended before the call durable, and says what that is. One at a time: the kernel
/// reports a failed write to one of two concurrent callers only.
pub fn sync<M: Medium>(
    shared: &impl Shared<Pages<M::File>>,
    medium: &M,
    volume: VolumeId,
) -> Result<Mark, PageError> {
    for _ in 0..SYNC_ATTEMPTS_MAX {
        for draft in shared.with(Pages::homeless) {
            put(shared, medium, volume, draft, true)?;
        }
        let mut plan = shared.with_mut(Pages::begin_sync);
        if perform(shared, medium, &plan)? {
            shared.with(|pages| plan.mark.files.retain(|file| !pages.is_sealed(file.number)));
            return Ok(plan.mark);
        }
    }
    Err(PageError::Io)
}

/// Whether every file was synced; a directory that was not is an error.
fn perform<M: Medium>(
    shared: &impl Shared<Pages<M::File>>,
    medium: &M,
    plan: &SyncPlan<M::File>,
) -> Result<bool, PageError> {
    if plan.directory {
        if let Err(error) = medium.sync() {
            shared.with_mut(|pages| {
                pages.directory_failed();
                plan.files.iter().for_each(|sync| pages.sync_skipped(sync));
            });
            return Err(error.into());
        }
        shared.with_mut(|pages| pages.directory_synced(&plan.gone));
    }
    let mut all = true;
    for sync in &plan.files {
        let sealed = match &sync.footer {
            // A start looks for the footer at the end: what a failed append left there goes.
            Some((offset, footer)) => sync
                .file
                .write(*offset, core::slice::from_ref(footer))
                .and_then(|()| sync.file.truncate(offset + footer.len() as u64)),
            None => Ok(()),
        };
        match sync.file.sync() {
            Ok(()) => shared.with_mut(|pages| pages.file_synced(sync, sealed.is_ok())),
            Err(_) => {
                all = false;
                shared.with_mut(|pages| pages.file_failed(sync));
            }
        }
    }
    for number in &plan.remove {
        // A file that stays is removed at the next start, because the mark says so.
        if medium.remove(*number).is_ok() {
            shared.with_mut(|pages| pages.removed(*number));
        }
    }
    Ok(all)
}

/// Frees segments; unknown ones are skipped. The caller has made durable that nothing names them.
pub fn delete<M: Medium>(
    shared: &impl Shared<Pages<M::File>>,
    medium: &M,
    ids: &[SegmentId],
) -> Result<(), PageError> {
    let mut outcome = Ok(());
    for id in ids {
        let Some(burial) = shared.with_mut(|pages| pages.bury(*id)) else { continue };
        let done = match burial.remove {
            Some(number) => {
                medium.remove(number).map(|()| shared.with_mut(|pages| pages.removed(number)))
            }
            None => bury(&burial),
        };
        outcome = outcome.and(done);
    }
    Ok(outcome?)
}

fn bury<F: File>(burial: &Burial<F>) -> Result<(), MediumError> {
    let (sector, bits) = &burial.sector;
    let (offset, len) = burial.punch;
    match burial.file.write(*sector, core::slice::from_ref(bits)) {
        // Space is freed all the same; the segment comes back at the next start, unreferenced.
        Ok(()) | Err(MediumError::NoSpace) => {}
        Err(error) => return Err(error),
    }
    if len == 0 { Ok(()) } else { burial.file.punch(offset, len) }
}

/// Where a segment is.
pub fn locate<F: Clone>(
    shared: &impl Shared<Pages<F>>,
    id: SegmentId,
) -> Result<(Place, F), PageError> {
    shared.with(|pages| pages.place(id)).ok_or(PageError::Missing)
}

/// Reads and checks the head of a segment.
pub fn read_head<F: File>(
    volume: VolumeId,
    id: SegmentId,
    place: Place,
    file: &F,
) -> Result<Head, PageError> {
    let bytes = file.read(place.offset, segment::head_len(place.payload_len))?;
    match decode_head(volume, &bytes) {
        Ok(head) if head.id() == id && head.payload_len() == place.payload_len => Ok(head),
        _ => Err(PageError::Corrupt { offset: 0 }),
    }
}

/// Reads and verifies payload bytes. A range beyond the end is [`PageError::Missing`].
pub fn read<F: File>(
    head: &Head,
    place: Place,
    file: &F,
    offset: u32,
    len: u32,
) -> Result<Bytes, PageError> {
    let frames = head.frame_range(offset, len).ok_or(PageError::Missing)?;
    let count = (frames.bytes.end - frames.bytes.start) as usize;
    let bytes = file.read(place.offset + frames.bytes.start, count)?;
    checked(head, &frames, &bytes, len)
}

/// Verifies whole frames that were read, and cuts out the `len` bytes that were asked for.
pub fn checked(head: &Head, frames: &Frames, bytes: &Bytes, len: u32) -> Result<Bytes, PageError> {
    let count = (frames.bytes.end - frames.bytes.start) as usize;
    let verified = if bytes.len() == count {
        head.verify(frames.first, bytes)
    } else {
        Err(BadFrame { frame: frames.first })
    };
    verified.map_err(|bad| PageError::Corrupt { offset: bad.offset() })?;
    Ok(bytes.slice(frames.skip..frames.skip + len as usize))
}
