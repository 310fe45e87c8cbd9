//! The page store of one machine: `vellum_core::local::pages` over files of a local disk.
//!
//! Appends and reads of different segments run at once. Heads of segments are cached, so that a read of
//! one frame is one system call.
//!
//! Tests: `tests/` of this crate (conformance, crashes), `core/src/local/pages/tests.rs`.

use crate::disk::{DiskFile, DiskMedium};
use crate::embedded::Barrier;
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use vellum_core::data::segment::{self, Head, decode_head};
use vellum_core::id::{SegmentId, VolumeId};
use vellum_core::local::Shared;
use vellum_core::local::medium::MediumError;
use vellum_core::local::pages::{
    self, DEFAULT_FILE_BYTES, Mark, Pages, Place, RecoverError, Trouble,
};
use vellum_core::port::page_store::{PageError, SegmentDraft, Space};

/// Memory for heads of segments.
const HEADS_BYTES_MAX: u64 = 16 << 20;
/// Bytes that are kept in memory until they are durable, above which an append syncs.
const UNDURABLE_BYTES_MAX: u64 = 64 << 20;
/// Bytes read at a time to verify a segment.
const VERIFY_STEP: u32 = 1 << 20;

const POISONED: &str = "a thread panicked while it held the page store";

/// Why the page store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PagesOpenError {
    /// A call failed.
    #[error("cannot open the page files in {path}: {cause}. Check the permissions and the disk")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// The mark kept with the metadata is damaged.
    #[error(
        "the durable mark of the page files in {path} is damaged, so torn writes cannot be told from \
         rot. Nothing was changed. Restore the volume from a backup"
    )]
    Mark {
        /// The directory.
        path: PathBuf,
    },
}

/// The page store. Shared by many threads.
pub struct DiskPages {
    volume: VolumeId,
    medium: DiskMedium,
    state: State,
    /// Held while files are synced: a failed write is reported to one of two concurrent callers only.
    syncing: Mutex<()>,
    heads: Cache<SegmentId, Arc<Head>, HeadWeight>,
    troubles: Vec<Trouble>,
}

struct State(RwLock<Pages<DiskFile>>);

#[derive(Clone)]
struct HeadWeight;

impl Weighter<SegmentId, Arc<Head>> for HeadWeight {
    fn weight(&self, _: &SegmentId, head: &Arc<Head>) -> u64 {
        head.weight() as u64
    }
}

impl DiskPages {
    /// Opens the page files in a directory, which exists. Nothing was promised about what is in there:
    /// see [`DiskPages::open_marked`].
    pub fn open(dir: &Path, volume: VolumeId) -> Result<DiskPages, PagesOpenError> {
        DiskPages::open_marked(dir, volume, None, DEFAULT_FILE_BYTES)
    }

    /// Opens the page files; `mark` is what [`Barrier::sync_before`] answered for the last durable batch
    /// of metadata. Files are sealed at `file_bytes`.
    pub fn open_marked(
        dir: &Path,
        volume: VolumeId,
        mark: Option<&[u8]>,
        file_bytes: u64,
    ) -> Result<DiskPages, PagesOpenError> {
        let io = |cause: std::io::Error| PagesOpenError::Io {
            path: dir.to_path_buf(),
            cause: cause.to_string(),
        };
        let medium = DiskMedium::open(dir, ".pages").map_err(|error| io(error.into()))?;
        let recovered =
            pages::recover(&medium, volume, file_bytes, mark).map_err(|error| match error {
                RecoverError::Mark => PagesOpenError::Mark { path: dir.to_path_buf() },
                RecoverError::Medium(MediumError::NoSpace) => io(rustix::io::Errno::NOSPC.into()),
                RecoverError::Medium(MediumError::Io) => io(rustix::io::Errno::IO.into()),
            })?;
        Ok(DiskPages {
            volume,
            medium,
            state: State(RwLock::new(recovered.pages)),
            syncing: Mutex::new(()),
            heads: Cache::with_weighter(4096, HEADS_BYTES_MAX, HeadWeight),
            troubles: recovered.troubles,
        })
    }

    /// Damage that was found and survived when the files were opened.
    pub fn troubles(&self) -> &[Trouble] {
        &self.troubles
    }

    /// Stores a segment and returns the bytes it takes; durable after [`DiskPages::sync_all`].
    pub fn append(&self, draft: SegmentDraft) -> Result<u64, PageError> {
        let physical = pages::append(&self.state, &self.medium, self.volume, draft)?;
        if self.state.with(Pages::undurable_bytes) > UNDURABLE_BYTES_MAX {
            self.relieve();
        }
        Ok(physical)
    }

    /// Reads and verifies payload bytes.
    pub fn read(&self, segment: SegmentId, offset: u32, len: u32) -> Result<Bytes, PageError> {
        let (place, file) = pages::locate(&self.state, segment)?;
        let bytes = self
            .head(segment, place, &file)
            .and_then(|head| pages::read(&head, place, &file, offset, len));
        // Deleted or moved meanwhile: what was read says nothing about it.
        match (bytes, pages::locate(&self.state, segment)) {
            (Err(_), Err(missing)) => Err(missing),
            (Err(_), Ok((moved, file))) if moved != place => {
                let head = self.head(segment, moved, &file)?;
                pages::read(&head, moved, &file, offset, len)
            }
            (bytes, _) => bytes,
        }
    }

    /// [`DiskPages::read`] if that needs no wait for the disk, else `None`.
    pub fn try_read(
        &self,
        segment: SegmentId,
        offset: u32,
        len: u32,
    ) -> Option<Result<Bytes, PageError>> {
        let (place, file) = match pages::locate(&self.state, segment) {
            Ok(located) => located,
            Err(error) => return Some(Err(error)),
        };
        let head = match self.heads.get(&segment) {
            Some(head) => head,
            None => {
                let len = segment::head_len(place.payload_len);
                let head = decode_head(self.volume, &file.read_cached(place.offset, len)?).ok()?;
                let head = Some(head).filter(|head| head.id() == segment)?;
                self.keep(segment, Arc::new(head))
            }
        };
        let Some(frames) = head.frame_range(offset, len) else {
            return Some(Err(PageError::Missing));
        };
        let count = (frames.bytes.end - frames.bytes.start) as usize;
        let bytes = file.read_cached(place.offset + frames.bytes.start, count)?;
        // What does not verify is read again by `read`, which knows about moves and deletes.
        pages::checked(&head, &frames, &bytes, len).ok().map(Ok)
    }

    /// Lets the kernel read payload bytes into its cache: segment, first byte, number of bytes. What is not
    /// there is for the read to report.
    pub fn prefetch(&self, parts: &[(SegmentId, u32, u32)]) {
        for &(segment, offset, len) in parts {
            let Ok((place, file)) = pages::locate(&self.state, segment) else { continue };
            let start =
                place.offset + u64::from(segment::head_len(place.payload_len) as u32 + offset);
            file.will_need(start, u64::from(len));
        }
    }

    /// Verifies every frame of a segment; returns the length of its payload.
    pub fn verify(&self, segment: SegmentId) -> Result<u32, PageError> {
        self.heads.remove(&segment);
        let (place, _) = pages::locate(&self.state, segment)?;
        for offset in (0..place.payload_len).step_by(VERIFY_STEP as usize) {
            self.read(segment, offset, VERIFY_STEP.min(place.payload_len - offset))?;
        }
        if place.payload_len == 0 {
            self.read(segment, 0, 0)?;
        }
        Ok(place.payload_len)
    }

    /// Frees segments; unknown ones are skipped. It must be durable already that nothing names them.
    pub fn delete(&self, segments: &[SegmentId]) -> Result<(), PageError> {
        let done = pages::delete(&self.state, &self.medium, segments);
        segments.iter().for_each(|id| drop(self.heads.remove(id)));
        done
    }

    /// Stored segments in ascending order behind `after`.
    pub fn list(&self, after: Option<SegmentId>, limit: u32) -> Vec<SegmentId> {
        self.state.with(|pages| pages.list(after, limit as usize))
    }

    /// Capacity of the disk.
    pub fn space(&self) -> Result<Space, PageError> {
        Ok(self.medium.space()?)
    }

    /// Makes every segment appended before the call durable.
    pub fn sync_all(&self) -> Result<Mark, PageError> {
        let _one_at_a_time = self.syncing.lock().expect(POISONED);
        pages::sync(&self.state, &self.medium, self.volume)
    }

    /// Bounds the memory that waits for a sync. A failure is kept in the state: the next sync that
    /// somebody relies on meets it again.
    fn relieve(&self) {
        if let Ok(_one_at_a_time) = self.syncing.try_lock()
            && let Err(error) = pages::sync(&self.state, &self.medium, self.volume)
        {
            tracing::warn!(?error, "page files could not be synced; trying again at the next sync");
        }
    }

    fn head(&self, id: SegmentId, place: Place, file: &DiskFile) -> Result<Arc<Head>, PageError> {
        if let Some(head) = self.heads.get(&id) {
            return Ok(head);
        }
        let head = Arc::new(pages::read_head(self.volume, id, place, file)?);
        Ok(self.keep(id, head))
    }

    fn keep(&self, id: SegmentId, head: Arc<Head>) -> Arc<Head> {
        self.heads.insert(id, Arc::clone(&head));
        head
    }
}

impl Barrier for DiskPages {
    fn sync_before(&self) -> Result<Bytes, PageError> {
        self.sync_all().map(|mark| mark.encode())
    }
}

impl Shared<Pages<DiskFile>> for State {
    fn with<R>(&self, look: impl FnOnce(&Pages<DiskFile>) -> R) -> R {
        look(&self.0.read().expect(POISONED))
    }

    fn with_mut<R>(&self, change: impl FnOnce(&mut Pages<DiskFile>) -> R) -> R {
        change(&mut self.0.write().expect(POISONED))
    }
}
