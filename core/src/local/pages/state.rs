//! The state of the page files: what lies where, what is in flight, what is durable.
//!
//! No method performs I/O; [`super::ops`] pairs them with the calls.

use super::format::{
    DeadMap, FILE_BYTES_MAX, FIRST_RECORD, FileMark, Mark, PAGE, Record, encode_footer,
};
use crate::data::segment;
use crate::id::{SegmentId, VolumeId};
use crate::limits::SEGMENT_PAYLOAD_MAX;
use crate::port::page_store::{PageError, SegmentDraft};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use bytes::Bytes;

/// Where a segment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the file.
    pub file: u32,
    /// Where its head begins.
    pub offset: u64,
    /// Bytes of payload.
    pub payload_len: u32,
}

impl Place {
    /// Bytes it takes in the file.
    pub fn physical_len(&self) -> u64 {
        segment::physical_len(self.payload_len)
    }
}

/// One page file.
pub(super) struct PageFile<F> {
    pub(super) file: F,
    /// Where the next record goes.
    pub(super) end: u64,
    /// Length of each record that was written, by offset; dead ones too.
    pub(super) records: BTreeMap<u64, Record>,
    /// Allocated and not (or never) written: offset and length.
    pub(super) holes: BTreeMap<u64, u64>,
    /// How many of the holes are appends in flight.
    pub(super) in_flight: usize,
    pub(super) live: usize,
    pub(super) dead: DeadMap,
    pub(super) phase: Phase,
    /// Something was written since the last successful sync.
    pub(super) dirty: bool,
    /// Records, dead ones too, that no sync has made durable: offset and length.
    unsynced: BTreeMap<u64, u64>,
}

/// The life of a page file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Takes appends.
    Open,
    /// Takes none any more; the footer is still to come.
    Full,
    /// The footer is durable.
    Sealed,
    /// A sync failed: it is read, and never written again.
    Failed,
}

/// How far the removal of a file went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removal {
    /// To be done, or it failed.
    Due,
    /// A sync of the directory will make it durable.
    Done,
}

/// The page files of a volume.
pub struct Pages<F> {
    pub(super) volume: VolumeId,
    file_bytes: u64,
    pub(super) files: BTreeMap<u32, PageFile<F>>,
    pub(super) index: BTreeMap<SegmentId, Place>,
    appending: BTreeSet<SegmentId>,
    next_file: u32,
    /// Numbers handed out for files that are not here yet.
    creating: BTreeSet<u32>,
    /// Files without anything alive, until their removal is durable: a crash may bring them back.
    removed: BTreeMap<u32, Removal>,
    /// A file was created or removed since the directory was synced last.
    directory_dirty: bool,
    /// Segments that a crash could still take away, until a sync makes them durable.
    undurable: BTreeMap<SegmentId, SegmentDraft>,
    undurable_bytes: u64,
}

/// Room for an append.
pub(super) enum Room<F> {
    /// Write here.
    Here { file: F, place: Place },
    /// Create this file, hand it in, and ask again.
    NewFile(u32),
    /// The id is taken; compare with what is there.
    Taken(Place, F),
}

/// What a sync has to do, in this order.
pub(super) struct SyncPlan<F> {
    pub(super) directory: bool,
    /// Removed files that the sync of the directory forgets for good.
    pub(super) gone: Vec<u32>,
    pub(super) files: Vec<FileSync<F>>,
    /// Files in which nothing is alive.
    pub(super) remove: Vec<u32>,
    pub(super) mark: Mark,
}

/// One file to be synced.
pub(super) struct FileSync<F> {
    pub(super) number: u32,
    pub(super) file: F,
    /// To be written first: the footer of a full file.
    pub(super) footer: Option<(u64, Bytes)>,
    /// What becomes durable: segments, and offsets of records.
    pub(super) segments: Vec<SegmentId>,
    pub(super) offsets: Vec<u64>,
}

/// What a delete has to do.
pub(super) struct Burial<F> {
    pub(super) file: F,
    /// Sector of the dead map.
    pub(super) sector: (u64, Bytes),
    /// Everything of the record behind its head.
    pub(super) punch: (u64, u64),
    /// The whole file is dead: remove it instead.
    pub(super) remove: Option<u32>,
}

impl<F: Clone> Pages<F> {
    /// No files yet. `file_bytes` is the size at which a file is sealed.
    pub(super) fn new(volume: VolumeId, file_bytes: u64, next_file: u32) -> Pages<F> {
        Pages {
            volume,
            file_bytes: file_bytes.clamp(FIRST_RECORD + 2 * PAGE, FILE_BYTES_MAX),
            files: BTreeMap::new(),
            index: BTreeMap::new(),
            appending: BTreeSet::new(),
            next_file,
            removed: BTreeMap::new(),
            directory_dirty: false,
            creating: BTreeSet::new(),
            undurable: BTreeMap::new(),
            undurable_bytes: 0,
        }
    }

    /// Where a segment is, and the file.
    pub fn place(&self, id: SegmentId) -> Option<(Place, F)> {
        let place = *self.index.get(&id)?;
        Some((place, self.files.get(&place.file)?.file.clone()))
    }

    /// Segments in ascending order behind `after`.
    pub fn list(&self, after: Option<SegmentId>, limit: usize) -> Vec<SegmentId> {
        use core::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.index.range((from, Bound::Unbounded)).take(limit).map(|(id, _)| *id).collect()
    }

    /// Bytes of payload held in memory because they are not durable yet.
    pub fn undurable_bytes(&self) -> u64 {
        self.undurable_bytes
    }

    /// Number of page files.
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Finds room for a segment and reserves its id. With `again`, a stored one gets a second place.
    pub(super) fn reserve(
        &mut self,
        draft: &SegmentDraft,
        again: bool,
    ) -> Result<Room<F>, PageError> {
        if let Some((place, file)) = self.place(draft.id).filter(|_| !again) {
            return Ok(Room::Taken(place, file));
        }
        if draft.len > SEGMENT_PAYLOAD_MAX {
            return Err(PageError::NoSpace);
        }
        if self.appending.contains(&draft.id) {
            return Err(PageError::Unavailable);
        }
        let len = segment::physical_len(draft.len);
        let limit = self.file_bytes;
        // A segment above the size of a file gets one for itself.
        let fits = |file: &PageFile<F>| {
            file.end + len <= limit
                || (file.end == FIRST_RECORD && FIRST_RECORD + len <= FILE_BYTES_MAX)
        };
        let mut found = None;
        for (number, file) in self.files.iter_mut().rev().filter(|(_, f)| f.phase == Phase::Open) {
            if fits(file) {
                found = Some((*number, file));
                break;
            }
            file.phase = Phase::Full;
        }
        let Some((number, file)) = found else {
            let number = self.next_file;
            self.next_file += 1;
            self.creating.insert(number);
            return Ok(Room::NewFile(number));
        };
        let place = Place { file: number, offset: file.end, payload_len: draft.len };
        file.holes.insert(file.end, len);
        file.in_flight += 1;
        file.end += len;
        self.appending.insert(draft.id);
        Ok(Room::Here { file: file.file.clone(), place })
    }

    /// A file that [`Room::NewFile`] asked for is there with its header, or could not be created.
    pub(super) fn created(&mut self, number: u32, file: Option<F>) {
        self.creating.remove(&number);
        if let Some(file) = file {
            self.files.insert(number, PageFile::new(file, Phase::Open));
            self.directory_dirty = true;
        }
    }

    /// Whether a file has a durable footer.
    pub(super) fn is_sealed(&self, number: u32) -> bool {
        self.files.get(&number).is_some_and(|file| file.phase == Phase::Sealed)
    }

    /// An append has finished, well or not.
    pub(super) fn appended(
        &mut self,
        draft: SegmentDraft,
        place: Place,
        written: bool,
        again: bool,
    ) {
        self.appending.remove(&draft.id);
        let deleted = again && !self.index.contains_key(&draft.id);
        let Some(file) = self.files.get_mut(&place.file) else { return };
        file.in_flight -= 1;
        if !written || deleted {
            // The room stays a hole; the last one is given back.
            if place.offset + place.physical_len() == file.end && file.phase == Phase::Open {
                file.end = place.offset;
                file.holes.remove(&place.offset);
            }
            return;
        }
        file.dirty = true;
        file.unsynced.insert(place.offset, place.physical_len());
        if file.phase != Phase::Failed {
            file.holes.remove(&place.offset);
        }
        if let Some(old) = self.index.get(&draft.id).copied() {
            self.forget_record(old);
        }
        self.adopt(draft.id, place);
        self.undurable_bytes += u64::from(draft.len);
        if let Some(same) = self.undurable.insert(draft.id, draft) {
            self.undurable_bytes -= u64::from(same.len);
        }
    }

    /// Puts a segment into the index.
    pub(super) fn adopt(&mut self, id: SegmentId, place: Place) {
        if let Some(file) = self.files.get_mut(&place.file) {
            let record = Record { offset: place.offset, id, payload_len: place.payload_len };
            file.records.insert(place.offset, record);
            file.live += 1;
        }
        self.index.insert(id, place);
    }

    /// What must be done so that everything appended before is durable.
    pub(super) fn begin_sync(&mut self) -> SyncPlan<F> {
        let mut undurable: BTreeMap<u32, Vec<SegmentId>> = BTreeMap::new();
        for id in self.undurable.keys() {
            if let Some(place) = self.index.get(id) {
                undurable.entry(place.file).or_default().push(*id);
            }
        }
        let done = self.removed.iter().filter(|(_, removal)| **removal == Removal::Done);
        let mut plan = SyncPlan {
            directory: core::mem::take(&mut self.directory_dirty) && !planted!(UnsyncedDirectory),
            gone: done.map(|(number, _)| *number).collect(),
            files: Vec::new(),
            remove: self.remove_dead_files(),
            mark: Mark { next_file: self.next_file, files: Vec::new() },
        };
        plan.mark.files.extend(self.removed.keys().map(|number| FileMark::removed(*number)));
        for number in &self.creating {
            let nothing = FileMark { number: *number, end: FIRST_RECORD, holes: Vec::new() };
            plan.mark.files.push(nothing);
        }
        for (number, file) in &mut self.files {
            if file.phase == Phase::Sealed {
                continue;
            }
            plan.mark.files.push(file.mark(*number));
            let seal = file.phase == Phase::Full && file.in_flight == 0;
            if !(file.dirty || seal) || file.phase == Phase::Failed {
                continue;
            }
            file.dirty = false;
            plan.files.push(FileSync {
                number: *number,
                file: file.file.clone(),
                footer: seal.then(|| (file.end, file.footer(self.volume, *number))),
                segments: undurable.remove(number).unwrap_or_default(),
                offsets: file.unsynced.keys().copied().collect(),
            });
        }
        plan
    }

    /// A file was synced, with its footer if `sealed` and it was to have one.
    pub(super) fn file_synced(&mut self, sync: &FileSync<F>, sealed: bool) {
        for id in &sync.segments {
            if let Some(draft) = self.undurable.remove(id) {
                self.undurable_bytes -= u64::from(draft.len);
            }
        }
        if let Some(file) = self.files.get_mut(&sync.number) {
            file.unsynced.retain(|offset, _| sync.offsets.binary_search(offset).is_err());
            if sync.footer.is_some() && sealed {
                file.phase = Phase::Sealed;
            }
        }
    }

    /// A file was removed. Until the directory is synced a crash may bring them back.
    pub(super) fn removed(&mut self, number: u32) {
        self.removed.insert(number, Removal::Done);
        self.directory_dirty = true;
    }

    /// The directory was synced after these files were removed.
    pub(super) fn directory_synced(&mut self, gone: &[u32]) {
        self.removed.retain(|number, _| !gone.contains(number));
    }

    /// A start found this state: what of the names in the directory is durable is not known.
    pub(super) fn directory_unknown(&mut self) {
        self.directory_dirty = true;
    }

    /// The directory could not be synced: the names of new files may be lost.
    pub(super) fn directory_failed(&mut self) {
        self.directory_dirty = true;
    }

    /// A sync was given up before this file's turn.
    pub(super) fn sync_skipped(&mut self, sync: &FileSync<F>) {
        if let Some(file) = self.files.get_mut(&sync.number) {
            file.dirty = true;
        }
    }

    /// A file's sync failed: for good, whatever the kernel says later.
    pub(super) fn file_failed(&mut self, sync: &FileSync<F>) {
        probe!("page-sync-failed");
        if planted!(BelievedSync) {
            return self.sync_skipped(sync);
        }
        if let Some(file) = self.files.get_mut(&sync.number) {
            file.phase = Phase::Failed;
            // No mark may promise what never arrived, not even dead records.
            file.holes.append(&mut file.unsynced);
        }
    }

    /// Segments in failed files that only memory holds safely: to be appended again.
    pub(super) fn homeless(&self) -> Vec<SegmentDraft> {
        let failed = |id: &SegmentId| {
            let place = self.index.get(id);
            let file = place.and_then(|place| self.files.get(&place.file));
            file.is_some_and(|file| file.phase == Phase::Failed)
        };
        self.undurable.iter().filter(|(id, _)| failed(id)).map(|(_, d)| d.clone()).collect()
    }

    /// Takes a segment out for good; `None` if it is not there.
    pub(super) fn bury(&mut self, id: SegmentId) -> Option<Burial<F>> {
        let place = self.index.remove(&id)?;
        if let Some(draft) = self.undurable.remove(&id) {
            self.undurable_bytes -= u64::from(draft.len);
        }
        let file = self.files.get_mut(&place.file)?;
        file.live -= 1;
        let sector = file.dead.set(place.offset);
        // The head stays whole: should a crash lose the bit but not the hole, it is no damage.
        let head = segment::head_len(place.payload_len) as u64;
        let punch = (place.offset + head, place.physical_len() - head);
        let burial = Burial { file: file.file.clone(), sector, punch, remove: None };
        if file.live > 0 || file.in_flight > 0 || file.phase == Phase::Open {
            return Some(burial);
        }
        self.files.remove(&place.file);
        self.removed.insert(place.file, Removal::Due);
        Some(Burial { remove: Some(place.file), ..burial })
    }

    /// Forgets the files in which nothing is alive and nothing will be.
    pub(super) fn remove_dead_files(&mut self) -> Vec<u32> {
        let dead =
            |file: &PageFile<F>| file.live == 0 && file.in_flight == 0 && file.phase != Phase::Open;
        let numbers: Vec<u32> =
            self.files.iter().filter(|(_, file)| dead(file)).map(|(n, _)| *n).collect();
        for number in &numbers {
            self.files.remove(number);
            self.removed.insert(*number, Removal::Due);
        }
        numbers
    }

    /// A copy of a segment that is not the one to use: no footer names it, or a later start might take it.
    pub(super) fn disown(&mut self, place: Place) {
        if let Some(file) = self.files.get_mut(&place.file) {
            file.records.remove(&place.offset);
            file.holes.insert(place.offset, place.physical_len());
        }
    }

    fn forget_record(&mut self, place: Place) {
        self.disown(place);
        if let Some(file) = self.files.get_mut(&place.file) {
            file.live -= 1;
        }
    }
}

impl<F> PageFile<F> {
    pub(super) fn new(file: F, phase: Phase) -> PageFile<F> {
        PageFile {
            file,
            end: FIRST_RECORD,
            records: BTreeMap::new(),
            holes: BTreeMap::new(),
            in_flight: 0,
            live: 0,
            dead: DeadMap::new(),
            phase,
            dirty: false,
            unsynced: BTreeMap::new(),
        }
    }

    fn mark(&self, number: u32) -> FileMark {
        let holes = self.holes.iter().map(|(offset, len)| (*offset, *len)).collect();
        FileMark { number, end: self.end, holes }
    }

    fn footer(&self, volume: VolumeId, number: u32) -> Bytes {
        let records: Vec<Record> = self.records.values().copied().collect();
        encode_footer(volume, number, self.end, &records)
    }
}
