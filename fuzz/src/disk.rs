//! A medium in memory whose bytes can be damaged, for the stores of one machine.

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use vellum_core::local::Shared;
use vellum_core::local::medium::{File, Medium, MediumError};

/// Both stores write whole pages of this size.
pub(crate) const PAGE: usize = 4096;
/// Largest file that damage makes.
const LEN_MAX: usize = 1 << 20;

/// Numbered files. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Disk(Rc<RefCell<BTreeMap<u32, DiskFile>>>);

/// The bytes of one file. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct DiskFile(Rc<RefCell<Vec<u8>>>);

/// State without a lock: there is one thread.
pub(crate) struct Guarded<T>(RefCell<T>);

/// One thing that is wrong with a disk. Files and places are taken modulo what is there.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Damage {
    /// A bit is another one.
    Flip { file: u8, at: Spot, bit: u8 },
    /// A file ends early.
    Cut { file: u8, at: Spot },
    /// Some bytes are zeros.
    Zero { file: u8, at: Spot, pages: u8 },
    /// A page lies where another one belongs.
    Misdirect { file: u8, from: u8, to: u8 },
    /// Bytes are others.
    Write { file: u8, at: Spot, bytes: [u8; 8] },
    /// More bytes follow the last one.
    Grow { file: u8, len: u16, with: u8 },
    /// A file is gone.
    Remove { file: u8 },
}

/// A place in a file: mostly near the begin of a page, where heads are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    page: u8,
    offset: u16,
}

impl<'a> Arbitrary<'a> for Spot {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Spot> {
        let (page, near) = (u8::arbitrary(input)?, u8::arbitrary(input)?);
        let offset = match near % 4 {
            0 => u16::arbitrary(input)? % PAGE as u16,
            _ => u16::from(near / 4),
        };
        Ok(Spot { page, offset })
    }
}

/// What damage hit.
pub(crate) struct Hit {
    pub(crate) file: u32,
    /// Bytes that may be others than before; up to `usize::MAX` where the file ends.
    pub(crate) bytes: Range<usize>,
}

impl<T> Guarded<T> {
    pub(crate) fn new(state: T) -> Guarded<T> {
        Guarded(RefCell::new(state))
    }
}

impl<T> Shared<T> for Guarded<T> {
    fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.borrow())
    }
    fn with_mut<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.0.borrow_mut())
    }
}

impl Disk {
    /// A disk that starts as this one is, on its own.
    pub(crate) fn copy(&self) -> Disk {
        let copy = |(number, file): (&u32, &DiskFile)| {
            (*number, DiskFile(Rc::new(RefCell::new(file.0.borrow().clone()))))
        };
        Disk(Rc::new(RefCell::new(self.0.borrow().iter().map(copy).collect())))
    }

    /// Puts bytes in as a file.
    pub(crate) fn put(&self, number: u32, bytes: Vec<u8>) {
        self.0.borrow_mut().insert(number, DiskFile(Rc::new(RefCell::new(bytes))));
    }

    /// Every file's number and bytes.
    pub(crate) fn contents(&self) -> Vec<(u32, Vec<u8>)> {
        self.0.borrow().iter().map(|(number, file)| (*number, file.0.borrow().clone())).collect()
    }

    /// Does damage; `None` where there is nothing to damage.
    pub(crate) fn damage(&self, damage: &Damage) -> Option<Hit> {
        let (Damage::Flip { file, .. }
        | Damage::Cut { file, .. }
        | Damage::Zero { file, .. }
        | Damage::Misdirect { file, .. }
        | Damage::Write { file, .. }
        | Damage::Grow { file, .. }
        | Damage::Remove { file }) = *damage;
        let mut files = self.0.borrow_mut();
        let numbers: Vec<u32> = files.keys().copied().collect();
        let number = *numbers.get(usize::from(file) % numbers.len().max(1))?;
        if matches!(damage, Damage::Remove { .. }) {
            files.remove(&number);
            return Some(Hit { file: number, bytes: 0..usize::MAX });
        }
        let bytes = strike(damage, &mut files[&number].0.borrow_mut())?;
        Some(Hit { file: number, bytes })
    }
}

/// Damages the bytes of one file; returns where.
fn strike(damage: &Damage, content: &mut Vec<u8>) -> Option<Range<usize>> {
    let len = content.len();
    if len == 0 {
        return None;
    }
    let place = |at: &Spot| {
        let page = usize::from(at.page) % len.div_ceil(PAGE);
        (page * PAGE + usize::from(at.offset)).min(len - 1)
    };
    match damage {
        Damage::Flip { at, bit, .. } => {
            let at = place(at);
            content[at] ^= 1 << (bit % 8);
            Some(at..at + 1)
        }
        Damage::Cut { at, .. } => {
            content.truncate(place(at));
            Some(content.len()..usize::MAX)
        }
        Damage::Zero { at, pages, .. } => {
            let at = place(at);
            let end = (at + (usize::from(*pages % 4) + 1) * PAGE).min(len);
            content[at..end].fill(0);
            Some(at..end)
        }
        Damage::Misdirect { from, to, .. } => {
            let page = |n: &u8| usize::from(*n) % (len / PAGE).max(1) * PAGE;
            let (from, to, part) = (page(from), page(to), PAGE.min(len));
            content.copy_within(from..from + part, to);
            Some(to..to + part)
        }
        Damage::Write { at, bytes, .. } => {
            let at = place(at);
            let end = (at + bytes.len()).min(len);
            content[at..end].copy_from_slice(&bytes[..end - at]);
            Some(at..end)
        }
        Damage::Grow { len: more, with, .. } => {
            content.resize((len + usize::from(*more)).min(LEN_MAX.max(len)), *with);
            Some(len..usize::MAX)
        }
        Damage::Remove { .. } => None,
    }
}

impl Medium for Disk {
    type File = DiskFile;

    fn list(&self) -> Result<Vec<u32>, MediumError> {
        Ok(self.0.borrow().keys().copied().collect())
    }

    fn create(&self, number: u32) -> Result<DiskFile, MediumError> {
        let file = DiskFile::default();
        let before = self.0.borrow_mut().insert(number, file.clone());
        assert!(before.is_none(), "file {number} is created twice");
        Ok(file)
    }

    fn open(&self, number: u32) -> Result<DiskFile, MediumError> {
        self.0.borrow().get(&number).cloned().ok_or(MediumError::Io)
    }

    fn remove(&self, number: u32) -> Result<(), MediumError> {
        self.0.borrow_mut().remove(&number).map(|_| ()).ok_or(MediumError::Io)
    }

    fn sync(&self) -> Result<(), MediumError> {
        Ok(())
    }
}

impl File for DiskFile {
    fn len(&self) -> Result<u64, MediumError> {
        Ok(self.0.borrow().len() as u64)
    }

    fn read(&self, offset: u64, len: usize) -> Result<Bytes, MediumError> {
        let content = self.0.borrow();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let to = from.saturating_add(len).min(content.len());
        Ok(Bytes::copy_from_slice(&content[from..to]))
    }

    fn write(&self, offset: u64, pieces: &[Bytes]) -> Result<(), MediumError> {
        let mut content = self.0.borrow_mut();
        let mut at = offset as usize;
        for piece in pieces {
            let end = at + piece.len();
            let len = content.len().max(end);
            content.resize(len, 0);
            content[at..end].copy_from_slice(piece);
            at = end;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), MediumError> {
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> Result<(), MediumError> {
        let mut content = self.0.borrow_mut();
        let end = ((offset + len) as usize).min(content.len());
        let from = (offset as usize).min(end);
        content[from..end].fill(0);
        Ok(())
    }

    fn truncate(&self, len: u64) -> Result<(), MediumError> {
        self.0.borrow_mut().resize(len as usize, 0);
        Ok(())
    }
}
