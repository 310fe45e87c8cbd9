//! A volume on a local disk: one directory that holds everything.
//!
//! ```text
//! VELLUM      what this is: format version and volume id, as text
//! LOCK        held while the volume is open; names the holder's process
//! meta.redb   the metadata store, and
//! *.log       what was committed since it was written last
//! pages/      the page files
//! ```
//!
//! Owns: the layout of the directory, who may open it, the order of opening.
//! Never does: anything with what is in the stores.
//! Tests: `tests/volume.rs`.

use crate::embedded::{Barrier, EmbeddedKv, EngineOpenError};
use crate::pages::{DiskPages, PagesOpenError};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vellum_core::id::{SessionId, VolumeId};
use vellum_core::local::pages::{DEFAULT_FILE_BYTES, Mark};
use vellum_core::port::meta_kv::KvError;
use vellum_core::port::page_store::PageError;

/// The newest layout this program knows.
pub const FORMAT: u32 = 1;

const IDENTITY: &str = "VELLUM";
const IDENTITY_NEW: &str = "VELLUM.new";
const LOCK: &str = "LOCK";
const META: &str = "meta.redb";
const PAGES: &str = "pages";
const FIRST_LINE: &str = "vellum volume";

/// What to do with a directory that is no volume yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Make a volume of it if it is empty or does not exist.
    CreateIfEmpty,
    /// Refuse it.
    MustExist,
}

/// Why a volume was not opened.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Nothing there.
    #[error(
        "{path} is not a Vellum volume. Create one with `vellum format {path}`, or check the path"
    )]
    NotAVolume {
        /// The directory.
        path: PathBuf,
    },
    /// Something else is there.
    #[error(
        "{path} is neither empty nor a Vellum volume (it contains {found:?}). Nothing was changed. \
         Choose an empty directory"
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// A name in it.
        found: String,
    },
    /// Somebody has it open.
    #[error("{path} is in use by process {holder}. Unmount it there, or end that process")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process.
        holder: String,
    },
    /// A later program wrote it.
    #[error(
        "{path} has format {found}; this program knows formats up to {known}. Nothing was changed. \
         Use a newer release of Vellum"
    )]
    FutureFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The identity file makes no sense.
    #[error(
        "{path} is damaged: line {line} of it should read `{expected}`. Restore the file from a backup; \
         the data beside it was not touched"
    )]
    Identity {
        /// The file.
        path: PathBuf,
        /// Which line, counted from 1.
        line: usize,
        /// What belongs there.
        expected: &'static str,
    },
    /// A call failed.
    #[error("cannot open the volume {path}: {cause}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The metadata store does not open.
    #[error(transparent)]
    Meta(#[from] EngineOpenError),
    /// The metadata store opened, and cannot be read.
    #[error(
        "the metadata store of {path} cannot be read ({cause:?}). Restore the volume from a backup"
    )]
    MetaRead {
        /// The directory.
        path: PathBuf,
        /// What it said.
        cause: KvError,
    },
    /// The page store does not open.
    #[error(transparent)]
    Pages(#[from] PagesOpenError),
}

/// An open volume. It is closed when the last of its stores goes.
pub struct LocalVolume {
    /// Its identity.
    pub id: VolumeId,
    /// Whether this call made it: the caller formats it.
    pub created: bool,
    /// The metadata store.
    pub kv: Arc<EmbeddedKv>,
    /// The page store.
    pub pages: Arc<DiskPages>,
    path: PathBuf,
    _lock: Arc<File>,
}

/// The metadata store owns the page store and the lock, so that neither goes before its last flush.
struct Held {
    pages: Arc<DiskPages>,
    _lock: Arc<File>,
}

impl Barrier for Held {
    fn sync_before(&self) -> Result<bytes::Bytes, PageError> {
        self.pages.sync_before()
    }
}

impl LocalVolume {
    /// Opens the volume in a directory.
    pub fn open(path: &Path, mode: OpenMode) -> Result<LocalVolume, VolumeError> {
        LocalVolume::open_with(path, mode, DEFAULT_FILE_BYTES)
    }

    /// [`LocalVolume::open`] with another size of page files.
    pub fn open_with(
        path: &Path,
        mode: OpenMode,
        file_bytes: u64,
    ) -> Result<LocalVolume, VolumeError> {
        if mode == OpenMode::CreateIfEmpty {
            fs::create_dir_all(path).map_err(|cause| io_error(path, cause))?;
        }
        let known = match read_identity(path)? {
            Some(id) => Some(id),
            None if mode == OpenMode::MustExist => {
                return Err(VolumeError::NotAVolume { path: path.to_path_buf() });
            }
            None => {
                check_empty(path)?;
                None
            }
        };
        let lock = take_lock(path)?;
        // Another process may have made or changed it before the lock was ours.
        let known = read_identity(path)?.or(known);
        let id = known.unwrap_or_else(|| VolumeId(u128::from_ne_bytes(random())));
        let page_dir = path.join(PAGES);
        if known.is_none() {
            fs::create_dir_all(&page_dir).map_err(|cause| io_error(&page_dir, cause))?;
        }
        if known.is_some() {
            check_meta(path)?;
        }
        let kv = EmbeddedKv::open(path)?;
        let mark = kv
            .open_mark()
            .map_err(|cause| VolumeError::MetaRead { path: path.to_path_buf(), cause })?;
        // Without a mark no batch has named a segment yet.
        let mark = mark.unwrap_or_else(|| Mark::default().encode());
        let pages = DiskPages::open_marked(&page_dir, id, Some(&mark), file_bytes)?;
        for trouble in pages.troubles() {
            tracing::error!(?trouble, volume = %path.display(), "damaged page file; the rest was kept");
        }
        let pages = Arc::new(pages);
        let lock = Arc::new(lock);
        kv.set_barrier(Arc::new(Held { pages: Arc::clone(&pages), _lock: Arc::clone(&lock) }));
        if known.is_none() {
            // Last, so that an interrupted creation is begun anew.
            write_identity(path, id).map_err(|cause| io_error(path, cause))?;
        }
        let created = known.is_none();
        Ok(LocalVolume {
            id,
            created,
            kv: Arc::new(kv),
            pages,
            path: path.to_path_buf(),
            _lock: lock,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes everything durable and stops the background work.
    pub fn close(&self) -> Result<(), KvError> {
        self.kv.close().map(drop)
    }
}

/// 128 random bits for a session.
pub fn fresh_session() -> SessionId {
    SessionId(u128::from_ne_bytes(random()))
}

/// A random key for the name hash of a new volume.
pub fn fresh_hash_key() -> [u8; 16] {
    random()
}

/// Random bytes of the operating system.
///
/// # Panics
/// When the system has no randomness, which no supported kernel does.
fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

fn read_identity(path: &Path) -> Result<Option<VolumeId>, VolumeError> {
    let file = path.join(IDENTITY);
    let text = match fs::read(&file) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(io_error(&file, cause)),
    };
    let wrong = |line, expected| VolumeError::Identity { path: file.clone(), line, expected };
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err(wrong(1, FIRST_LINE));
    }
    let format = lines.next().and_then(|line| line.strip_prefix("format ")?.parse().ok());
    let found: u32 = format.ok_or_else(|| wrong(2, "format 1"))?;
    if found > FORMAT {
        return Err(VolumeError::FutureFormat { path: path.to_path_buf(), found, known: FORMAT });
    }
    let digits = lines.next().and_then(|line| line.strip_prefix("id ")).filter(|id| id.len() == 32);
    let id = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
    Ok(Some(VolumeId(id.ok_or_else(|| wrong(3, "id <32 hexadecimal digits>"))?)))
}

/// A volume that exists has a metadata store: without one it must not pass for new and empty.
fn check_meta(path: &Path) -> Result<(), VolumeError> {
    let meta = path.join(META);
    match fs::metadata(&meta) {
        Ok(found) if found.len() > 0 => Ok(()),
        Ok(_) => Err(EngineOpenError::Damaged { path: meta, cause: "it is empty".into() }.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(EngineOpenError::Damaged { path: meta, cause: "it is missing".into() }.into())
        }
        Err(cause) => Err(io_error(&meta, cause)),
    }
}

fn write_identity(path: &Path, id: VolumeId) -> io::Result<()> {
    let new = path.join(IDENTITY_NEW);
    let mut file = File::create(&new)?;
    write!(file, "{FIRST_LINE}\nformat {FORMAT}\nid {id}\n")?;
    file.sync_all()?;
    fs::rename(&new, path.join(IDENTITY))?;
    File::open(path)?.sync_all()?;
    // The directory itself may be new, too.
    match path
        .parent()
        .map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
    {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Accepts what an interrupted creation leaves behind.
fn check_empty(path: &Path) -> Result<(), VolumeError> {
    for entry in fs::read_dir(path).map_err(|cause| io_error(path, cause))? {
        let name = entry.map_err(|cause| io_error(path, cause))?.file_name();
        let name = name.to_string_lossy();
        if ![LOCK, IDENTITY_NEW, META, PAGES, "lost+found"].contains(&&*name) {
            let found = name.into_owned();
            return Err(VolumeError::NotEmpty { path: path.to_path_buf(), found });
        }
    }
    Ok(())
}

fn take_lock(path: &Path) -> Result<File, VolumeError> {
    let lock = path.join(LOCK);
    let fail = |cause| io_error(&lock, cause);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&lock).map_err(fail)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // What the holder wrote is a courtesy; without it the refusal stands all the same.
            let _ = file.read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "unknown".to_owned(),
                pid => pid.to_owned(),
            };
            return Err(VolumeError::InUse { path: path.to_path_buf(), holder });
        }
        Err(errno) => return Err(fail(errno.into())),
    }
    file.set_len(0).map_err(fail)?;
    writeln!(file, "{}", std::process::id()).map_err(fail)?;
    Ok(file)
}

fn io_error(path: &Path, cause: io::Error) -> VolumeError {
    VolumeError::Io { path: path.to_path_buf(), cause }
}
