//! Recovery at a start: finds every segment, ends torn files, reports rot.

use super::format::{
    DeadMap, FIRST_RECORD, FileMark, Mark, PAGE, Record, decode_footer, footer_offset, is_header,
};
use super::state::{PageFile, Pages, Phase, Place};
use crate::data::segment::{HEADER_LEN, Header, decode_head};
use crate::id::{SegmentId, VolumeId};
use crate::local::medium::{File, Medium, MediumError};
use alloc::vec::Vec;
use core::cmp::Reverse;

/// What a start found.
pub struct Recovered<F> {
    /// The state to go on with.
    pub pages: Pages<F>,
    /// Damage that was survived; for the log.
    pub troubles: Vec<Trouble>,
}

/// Damage below the durable mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The header page of a file is not its own; its records were scanned.
    FileHeader {
        /// Number of the file.
        file: u32,
    },
    /// The footer of a sealed file is damaged; its records were scanned.
    Footer {
        /// Number of the file.
        file: u32,
    },
    /// No record where one was durable; what follows was kept.
    Record {
        /// Number of the file.
        file: u32,
        /// Where.
        offset: u64,
    },
    /// The checksums of a segment are damaged; reading it will fail.
    Segment {
        /// Which one.
        id: SegmentId,
        /// Number of the file.
        file: u32,
        /// Where.
        offset: u64,
    },
}

/// Why there is no state to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoverError {
    /// The mark is not one.
    Mark,
    /// A call failed.
    Medium(MediumError),
}

impl From<MediumError> for RecoverError {
    fn from(error: MediumError) -> RecoverError {
        RecoverError::Medium(error)
    }
}

/// How much a found segment is worth when another one has the same id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// Durable.
    Durable,
    /// Above the mark: intact, never promised.
    Tail,
    /// Found behind rot by searching; might be a copy inside of a payload.
    Salvaged,
}

/// Opens every page file. `mark` is the one stored with the last durable batch of metadata; without one
/// nothing was promised.
pub fn recover<M: Medium>(
    medium: &M,
    volume: VolumeId,
    file_bytes: u64,
    mark: Option<&[u8]>,
) -> Result<Recovered<M::File>, RecoverError> {
    let known = mark.is_some();
    let mark = match mark {
        Some(bytes) => Mark::decode(bytes).ok_or(RecoverError::Mark)?,
        None => Mark::default(),
    };
    let mut numbers = medium.list()?;
    numbers.sort_unstable();
    let next_file = numbers.last().map_or(0, |last| last + 1).max(mark.next_file);
    let mut pages = Pages::new(volume, file_bytes, next_file);
    let mut troubles = Vec::new();
    let mut found = Vec::new();
    pages.directory_unknown();
    for number in numbers {
        let promise = match mark.files.iter().find(|file| file.number == number) {
            Some(file) if file.is_removed() => {
                remove(medium, &mut pages, number)?;
                continue;
            }
            Some(file) => Promise::Until(file.clone()),
            None if number < mark.next_file => Promise::Sealed,
            None => Promise::Nothing,
        };
        let mut scan = Scan {
            volume,
            number,
            file: medium.open(number)?,
            known,
            promise,
            found: Vec::new(),
            troubles: Vec::new(),
        };
        match scan.run(number + 1 == next_file)? {
            Some(file) => {
                pages.files.insert(number, file);
            }
            None => remove(medium, &mut pages, number)?,
        }
        found.append(&mut scan.found);
        troubles.append(&mut scan.troubles);
    }
    // What was written again after a failed sync is in a later file.
    found.sort_by_key(|(worth, _, place)| (*worth, Reverse(place.file), place.offset));
    for (_, id, place) in found {
        if pages.place(id).is_none() {
            pages.adopt(id, place);
        } else {
            pages.disown(place);
        }
    }
    for number in pages.remove_dead_files() {
        remove(medium, &mut pages, number)?;
    }
    Ok(Recovered { pages, troubles })
}

fn remove<M: Medium>(
    medium: &M,
    pages: &mut Pages<M::File>,
    number: u32,
) -> Result<(), MediumError> {
    medium.remove(number)?;
    pages.removed(number);
    Ok(())
}

/// What the mark says about a file.
enum Promise {
    /// All of it is durable, and it has a footer.
    Sealed,
    Until(FileMark),
    Nothing,
}

/// The search through one file.
struct Scan<F> {
    volume: VolumeId,
    number: u32,
    file: F,
    /// There is a mark: what it does not promise, no metadata names.
    known: bool,
    promise: Promise,
    found: Vec<(Worth, SegmentId, Place)>,
    troubles: Vec<Trouble>,
}

impl<F: File> Scan<F> {
    /// `None` for a file that holds nothing and may go.
    fn run(&mut self, last: bool) -> Result<Option<PageFile<F>>, RecoverError> {
        let len = self.file.len()?;
        let preamble = self.file.read(0, FIRST_RECORD as usize)?;
        let header = preamble.get(..PAGE as usize).unwrap_or_default();
        let promised = match &self.promise {
            Promise::Sealed => true,
            Promise::Until(mark) => {
                let holes: u64 = mark.holes.iter().map(|(_, len)| len).sum();
                mark.end > FIRST_RECORD.saturating_add(holes)
            }
            Promise::Nothing => !self.known,
        };
        if self.known && !promised {
            return Ok(None);
        }
        if !is_header(header, self.volume, self.number) {
            if !promised || len <= FIRST_RECORD {
                return Ok(None);
            }
            self.troubles.push(Trouble::FileHeader { file: self.number });
        }
        let mut page_file = PageFile::new(self.file.clone(), Phase::Full);
        page_file.dead = DeadMap::decode(preamble.get(PAGE as usize..).unwrap_or_default());

        // A footer that was not promised may be in the page cache only: it is written anew.
        if (matches!(self.promise, Promise::Sealed) || !self.known)
            && let Some((offset, records)) = self.footer(len)?
        {
            page_file.phase = Phase::Sealed;
            page_file.end = offset;
            for record in records {
                self.note(&mut page_file, record, Worth::Durable);
            }
            return Ok(Some(page_file));
        }
        if matches!(self.promise, Promise::Sealed) && len > FIRST_RECORD {
            self.troubles.push(Trouble::Footer { file: self.number });
        }
        let end = self.records(&mut page_file, len)?;
        if len > end {
            probe!("page-tail-cut");
            self.file.truncate(end)?;
        }
        page_file.end = end;
        page_file.dirty = true;
        // A stale bit of the dead map would kill a new segment in the same place.
        if last && self.troubles.is_empty() && !page_file.dead.any_from(end) {
            page_file.phase = Phase::Open;
        }
        Ok(Some(page_file))
    }

    fn footer(&self, len: u64) -> Result<Option<(u64, Vec<Record>)>, MediumError> {
        if len < FIRST_RECORD + PAGE || !len.is_multiple_of(PAGE) {
            return Ok(None);
        }
        let page = self.file.read(len - PAGE, PAGE as usize)?;
        let Some(offset) = footer_offset(&page, len) else { return Ok(None) };
        let footer = self.file.read(offset, (len - offset) as usize)?;
        let records = decode_footer(self.volume, self.number, offset, &footer);
        Ok(records.map(|records| (offset, records)))
    }

    /// Walks from record to record; returns where the file ends.
    fn records(&mut self, page_file: &mut PageFile<F>, len: u64) -> Result<u64, MediumError> {
        let (promised, holes) = match &self.promise {
            Promise::Sealed => (len, Vec::new()),
            Promise::Until(_) if planted!(ForgottenMark) => (FIRST_RECORD, Vec::new()),
            Promise::Until(mark) => (mark.end, mark.holes.clone()),
            Promise::Nothing => (FIRST_RECORD, Vec::new()),
        };
        let mut at = FIRST_RECORD;
        let mut rotten = false;
        while at < len.max(promised) {
            if let Some((_, hole)) = holes.iter().find(|(offset, _)| *offset == at) {
                // What was in flight may have arrived; it was not promised.
                match self.header(at, len)?.filter(|_| !self.known) {
                    Some(header)
                        if header.physical_len() == *hole && self.intact(at, &header)? =>
                    {
                        self.note(page_file, record(at, &header), Worth::Tail);
                    }
                    _ => drop(page_file.holes.insert(at, *hole)),
                }
                at += hole.max(&PAGE);
                rotten = false;
                continue;
            }
            let durable = at < promised;
            if !durable && self.known {
                break;
            }
            let header = self.header(at, len)?;
            let Some(header) = header else {
                if !durable {
                    break;
                }
                if !rotten {
                    self.troubles.push(Trouble::Record { file: self.number, offset: at });
                }
                rotten = true;
                match page_file.holes.last_entry() {
                    Some(mut hole) if hole.key() + hole.get() == at => *hole.get_mut() += PAGE,
                    _ => drop(page_file.holes.insert(at, PAGE)),
                }
                at += PAGE;
                continue;
            };
            // Of a dead segment only the first page is left, to walk on from.
            if !page_file.dead.is_dead(at) && !self.intact(at, &header)? {
                if !durable {
                    break;
                }
                let (id, file) = (header.id, self.number);
                self.troubles.push(Trouble::Segment { id, file, offset: at });
            }
            let worth = match (rotten, durable) {
                (true, _) => Worth::Salvaged,
                (false, true) => Worth::Durable,
                (false, false) => Worth::Tail,
            };
            self.note(page_file, record(at, &header), worth);
            at += header.physical_len();
        }
        Ok(at)
    }

    /// The header at an offset, if there is one and its segment fits the file.
    fn header(&self, at: u64, len: u64) -> Result<Option<Header>, MediumError> {
        let bytes = self.file.read(at, HEADER_LEN)?;
        let header = Header::decode(self.volume, &bytes).ok();
        Ok(header.filter(|header| at + header.physical_len() <= len))
    }

    /// Whether the checksums of a segment are there. Its frames are verified when they are read.
    fn intact(&self, at: u64, header: &Header) -> Result<bool, MediumError> {
        let bytes = self.file.read(at, header.head_len())?;
        Ok(decode_head(self.volume, &bytes).is_ok())
    }

    fn note(&mut self, page_file: &mut PageFile<F>, record: Record, worth: Worth) {
        page_file.records.insert(record.offset, record);
        if !page_file.dead.is_dead(record.offset) {
            let Record { offset, id, payload_len } = record;
            self.found.push((worth, id, Place { file: self.number, offset, payload_len }));
        }
    }
}

fn record(offset: u64, header: &Header) -> Record {
    Record { offset, id: header.id, payload_len: header.payload_len }
}
