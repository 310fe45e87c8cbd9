//! Page files: what a start finds of segments that were durable, on sound disks, damaged ones, and any bytes.

use crate::disk::{Damage, Disk, DiskFile, Guarded, Hit, PAGE};
use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use vellum_core::id::{SegmentId, SessionId, VolumeId};
use vellum_core::local::Shared;
use vellum_core::local::pages::{
    self, Mark, Pages, Place, RecoverError, Recovered, append, delete, locate, recover, sync,
};
use vellum_core::port::page_store::{PageError, SegmentDraft};
use xxhash_rust::xxh3::xxh3_64;

const VOLUME: VolumeId = VolumeId(77);
/// Small, so that files are sealed.
const FILE_BYTES: u64 = 20 * PAGE as u64;
/// Behind the header page and the dead map.
const FIRST_RECORD: usize = 4 * PAGE;
const STEPS_MAX: usize = 40;

/// What happens to a page store.
#[derive(Arbitrary, Debug)]
enum Step {
    Append {
        len: u16,
    },
    /// The same segment once more.
    Again {
        which: u8,
    },
    Delete {
        which: u8,
    },
    Sync,
    /// Opens the files anew.
    Reopen,
}

/// Runs steps that `input` spells, damages the files, and opens them; then opens files that hold `input`.
pub fn fuzz_one(input: &[u8]) {
    let mut spelled = Unstructured::new(input);
    if let Ok(run) = Run::spell(&mut spelled) {
        let mut damages = Vec::new();
        while damages.len() < 4 && !spelled.is_empty() {
            let Ok(damage) = Damage::arbitrary(&mut spelled) else { break };
            damages.push(damage);
        }
        run.check(&damages);
    }
    check_mark(input);
    check_any(input);
}

/// A mark, and the records of a file, as inputs that are opened.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut run = Run::new();
    [5000, 3, 0].into_iter().for_each(|len| run.append(len));
    run.sync();
    let mark = run.mark.clone().expect("just synced");
    // Its checksum is added when it is tried.
    let mark = mark[..mark.len() - 8].to_vec();
    let (_, bytes) = run.disk.contents().remove(0);
    let head = bytes[FIRST_RECORD..FIRST_RECORD + 96].to_vec();
    vec![("mark".to_owned(), mark), ("head".to_owned(), head)]
}

/// A page store, and what it should hold.
struct Run {
    disk: Disk,
    pages: Guarded<Pages<DiskFile>>,
    /// Every payload that was ever stored.
    stored: BTreeMap<SegmentId, Bytes>,
    durable: BTreeSet<SegmentId>,
    deleted: BTreeSet<SegmentId>,
    mark: Option<Bytes>,
}

impl Run {
    fn new() -> Run {
        let disk = Disk::default();
        let opened = recover(&disk, VOLUME, FILE_BYTES, None).expect("an empty disk");
        Run {
            disk,
            pages: Guarded::new(opened.pages),
            stored: BTreeMap::new(),
            durable: BTreeSet::new(),
            deleted: BTreeSet::new(),
            mark: None,
        }
    }

    fn spell(input: &mut Unstructured<'_>) -> Result<Run> {
        let mut run = Run::new();
        for _ in 0..input.int_in_range(0..=STEPS_MAX)? {
            match Step::arbitrary(input)? {
                Step::Append { len } => run.append(usize::from(len) % (3 * PAGE)),
                Step::Again { which } => run.again(which),
                Step::Delete { which } => run.delete(which),
                Step::Sync => run.sync(),
                Step::Reopen => run.reopen(),
            }
        }
        Ok(run)
    }

    fn append(&mut self, len: usize) {
        let id = SegmentId { session: SessionId(5), sequence: self.stored.len() as u64 + 1 };
        let first = id.sequence as u8;
        let payload: Bytes = (0..len).map(|i| first ^ (i / 3) as u8).collect();
        self.put(id, &payload).expect("room");
        self.stored.insert(id, payload);
    }

    fn put(&self, id: SegmentId, payload: &Bytes) -> std::result::Result<u64, PageError> {
        let draft = SegmentDraft { id, payload: vec![payload.clone()], len: payload.len() as u32 };
        append(&self.pages, &self.disk, VOLUME, draft)
    }

    fn again(&mut self, which: u8) {
        let Some(id) = self.pick(which) else { return };
        let payload = self.stored[&id].clone();
        self.put(id, &payload).expect("the same bytes are no error");
        let other = Bytes::from(vec![0xee; payload.len() + 1]);
        assert!(self.put(id, &other).is_err(), "an id is written once");
    }

    /// One of the segments that are there.
    fn pick(&self, which: u8) -> Option<SegmentId> {
        let ids = self.pages.with(|pages| pages.list(None, usize::MAX));
        ids.get(usize::from(which) % ids.len().max(1)).copied()
    }

    fn delete(&mut self, which: u8) {
        let Some(id) = self.pick(which) else { return };
        delete(&self.pages, &self.disk, &[id]).expect("a sound disk");
        self.deleted.insert(id);
        assert_eq!(locate(&self.pages, id).map(|_| ()), Err(PageError::Missing));
    }

    fn sync(&mut self) {
        let mark = sync(&self.pages, &self.disk, VOLUME).expect("a sound disk").encode();
        self.mark = Some(mark);
        self.durable = self.pages.with(|pages| pages.list(None, usize::MAX)).into_iter().collect();
    }

    fn reopen(&mut self) {
        // What was not durable is cut off, and its ids never come back.
        let opened = self.open(&self.disk).expect("a sound disk");
        assert_eq!(opened.troubles, [], "no damage");
        self.pages = Guarded::new(opened.pages);
    }

    fn open(&self, disk: &Disk) -> std::result::Result<Recovered<DiskFile>, RecoverError> {
        recover(disk, VOLUME, FILE_BYTES, self.mark.as_deref())
    }

    /// Opens the files as they are, and after each damage.
    fn check(mut self, damages: &[Damage]) {
        for id in self.pages.with(|pages| pages.list(None, usize::MAX)) {
            assert_eq!(read_all(&self.pages, id).as_ref(), Ok(&self.stored[&id]));
        }
        let disk = self.disk.copy();
        let opened = self.open(&disk).expect("a sound disk");
        assert_eq!(opened.troubles, [], "no damage");
        let pages = Guarded::new(opened.pages);
        self.check_found(&pages);
        self.check_alive(&pages, |_, _| true);

        // The last sync is what a crash may fall back to; damage is done to that.
        self.sync();
        let places = self.places();
        let (disk, mut hits, mut mild) = (self.disk.copy(), Vec::new(), true);
        for damage in damages {
            let Some(hit) = disk.damage(damage) else { continue };
            mild &= matches!(damage, Damage::Flip { .. } | Damage::Zero { .. });
            hits.push(hit);
            let attempt = disk.copy();
            let pages = Guarded::new(self.open(&attempt).expect("damage is survived").pages);
            self.check_found(&pages);
            if mild {
                let whole =
                    |id: SegmentId, _: Place| !hits.iter().any(|hit| meets(hit, places[&id]));
                self.check_alive(&pages, whole);
            }
            self.check_goes_on(&attempt, &pages);
        }
    }

    fn places(&self) -> BTreeMap<SegmentId, Place> {
        let ids = self.pages.with(|pages| pages.list(None, usize::MAX));
        ids.into_iter().map(|id| (id, locate(&self.pages, id).expect("listed").0)).collect()
    }

    /// Whatever is found are bytes that were stored, or an error.
    fn check_found(&self, pages: &Guarded<Pages<DiskFile>>) {
        for id in pages.with(|pages| pages.list(None, usize::MAX)) {
            let payload = self.stored.get(&id).unwrap_or_else(|| panic!("{id} was never stored"));
            match read_all(pages, id) {
                Ok(bytes) => assert_eq!(bytes, payload, "{id}"),
                Err(error) => assert!(matches!(error, PageError::Corrupt { .. })),
            }
        }
    }

    /// What was durable and not deleted is there, if `whole` says that no damage hit it.
    fn check_alive(
        &self,
        pages: &Guarded<Pages<DiskFile>>,
        whole: impl Fn(SegmentId, Place) -> bool,
    ) {
        for id in self.durable.difference(&self.deleted) {
            let place = locate(&self.pages, *id).expect("durable").0;
            if whole(*id, place) {
                assert_eq!(read_all(pages, *id).as_ref(), Ok(&self.stored[id]), "{id} is alive");
            }
        }
    }

    /// Opened files take more, whatever they have been through.
    fn check_goes_on(&self, disk: &Disk, pages: &Guarded<Pages<DiskFile>>) {
        let id = SegmentId { session: SessionId(6), sequence: 1 };
        let draft = SegmentDraft { id, payload: vec![Bytes::from_static(b"new")], len: 3 };
        append(pages, disk, VOLUME, draft).expect("room");
        let mark = sync(pages, disk, VOLUME).expect("a working disk").encode();
        let again = recover(disk, VOLUME, FILE_BYTES, Some(&mark)).expect("a working disk");
        let again = Guarded::new(again.pages);
        assert_eq!(read_all(&again, id).as_deref(), Ok(&b"new"[..]));
    }
}

/// Whether damage hit a segment.
fn meets(hit: &Hit, place: Place) -> bool {
    let (from, to) = (place.offset as usize, (place.offset + place.physical_len()) as usize);
    hit.file == place.file && hit.bytes.start < to && from < hit.bytes.end
}

fn read_all(
    pages: &Guarded<Pages<DiskFile>>,
    id: SegmentId,
) -> std::result::Result<Bytes, PageError> {
    let (place, file) = locate(pages, id)?;
    let head = pages::read_head(VOLUME, id, place, &file)?;
    pages::read(&head, place, &file, 0, place.payload_len)
}

/// A mark has one form. One that is none is refused, and opens nothing.
fn check_mark(input: &[u8]) {
    let sealed = [input, &xxh3_64(input).to_le_bytes()].concat();
    for bytes in [input, &sealed] {
        match Mark::decode(bytes) {
            Some(mark) => {
                assert_eq!(mark.encode(), bytes);
                let disk = sample();
                recover(&disk, VOLUME, FILE_BYTES, Some(bytes)).expect("a mark and a sound disk");
            }
            None => {
                let opened = recover(&Disk::default(), VOLUME, FILE_BYTES, Some(bytes));
                assert_eq!(opened.err(), Some(RecoverError::Mark));
            }
        }
    }
}

/// A few files with a few segments.
fn sample() -> Disk {
    static FILES: LazyLock<Vec<(u32, Vec<u8>)>> = LazyLock::new(|| {
        let mut run = Run::new();
        for len in [100, 9000, 12_000, 12_000, 12_000, 12_000, 0] {
            run.append(len);
        }
        run.sync();
        run.disk.contents()
    });
    let disk = Disk::default();
    FILES.iter().for_each(|(number, bytes)| disk.put(*number, bytes.clone()));
    disk
}

/// Files of which the part behind the header is `input`, or which are `input` as a whole, can be opened.
fn check_any(input: &[u8]) {
    let disk = sample();
    let (number, mut bytes) = disk.contents().pop().expect("a file");
    bytes.truncate(FIRST_RECORD);
    bytes.extend_from_slice(input);
    disk.put(number, bytes);
    disk.put(number + 1, input.to_vec());
    let opened = recover(&disk, VOLUME, FILE_BYTES, None).expect("a working disk");
    let pages = Guarded::new(opened.pages);
    for id in pages.with(|pages| pages.list(None, usize::MAX)) {
        let _ = read_all(&pages, id);
    }
}
