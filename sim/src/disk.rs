//! A simulated disk under the real stores of one machine: numbered files that lose, tear and reorder
//! what was not synced.
//!
//! Owns: what is on the platter and what is only in the page cache. Never does: knowing what the bytes
//! mean.
//!
//! At a power cut every sector of 512 bytes that was written since the last sync of its file is old, new,
//! or garbage; the length is any between; files and removals that were not synced in the directory may be
//! forgotten. A killed process loses nothing of this. A fuse makes all calls fail after so many, so that a
//! crash can come in the middle of an operation.

use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vellum_core::local::medium::{File, Medium, MediumError};

use crate::dice::Dice;

const SECTOR: usize = 512;

/// A directory of numbered files. Clones share it.
#[derive(Clone, Default)]
pub struct SimDisk(Rc<RefCell<Directory>>);

#[derive(Default)]
struct Directory {
    files: BTreeMap<u32, SimFile>,
    /// Created and not synced.
    fresh: BTreeSet<u32>,
    /// Removed and not synced.
    removed: BTreeMap<u32, SimFile>,
    fuse: Fuse,
}

/// Counts down to the moment at which everything fails.
#[derive(Clone, Default)]
pub struct Fuse(Rc<RefCell<Option<u64>>>);

/// An open file.
#[derive(Clone)]
pub struct SimFile {
    content: Rc<RefCell<Content>>,
    fuse: Fuse,
}

#[derive(Default)]
struct Content {
    cached: Vec<u8>,
    synced: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl Fuse {
    /// Everything fails after so many calls.
    pub fn light(&self, calls: u64) {
        *self.0.borrow_mut() = Some(calls);
    }

    /// Nothing fails any more.
    pub fn put_out(&self) {
        *self.0.borrow_mut() = None;
    }

    /// Counts a call.
    pub fn burn(&self) -> Result<(), MediumError> {
        match self.0.borrow_mut().as_mut() {
            None => Ok(()),
            Some(0) => Err(MediumError::Io),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

impl SimDisk {
    /// An empty disk; disks with one fuse fail together.
    pub fn new(fuse: &Fuse) -> SimDisk {
        SimDisk(Rc::new(RefCell::new(Directory { fuse: fuse.clone(), ..Directory::default() })))
    }

    /// The power fails. Returns how many sectors lost what was written to them.
    pub fn cut_power(&self, dice: &mut Dice) -> u64 {
        let mut directory = self.0.borrow_mut();
        for number in std::mem::take(&mut directory.fresh) {
            if dice.coin() {
                directory.files.remove(&number);
            }
        }
        for (number, file) in std::mem::take(&mut directory.removed) {
            if dice.coin() {
                directory.files.entry(number).or_insert(file);
            }
        }
        directory.files.values().map(|file| file.content.borrow_mut().cut_power(dice)).sum()
    }
}

impl Medium for SimDisk {
    type File = SimFile;

    fn list(&self) -> Result<Vec<u32>, MediumError> {
        let directory = self.0.borrow();
        directory.fuse.burn()?;
        Ok(directory.files.keys().copied().collect())
    }

    fn create(&self, number: u32) -> Result<SimFile, MediumError> {
        let mut directory = self.0.borrow_mut();
        directory.fuse.burn()?;
        if directory.files.contains_key(&number) {
            return Err(MediumError::Io);
        }
        let file = SimFile { content: Rc::default(), fuse: directory.fuse.clone() };
        directory.files.insert(number, file.clone());
        directory.fresh.insert(number);
        Ok(file)
    }

    fn open(&self, number: u32) -> Result<SimFile, MediumError> {
        let directory = self.0.borrow();
        directory.fuse.burn()?;
        directory.files.get(&number).cloned().ok_or(MediumError::Io)
    }

    fn remove(&self, number: u32) -> Result<(), MediumError> {
        let mut directory = self.0.borrow_mut();
        directory.fuse.burn()?;
        let file = directory.files.remove(&number).ok_or(MediumError::Io)?;
        if !directory.fresh.remove(&number) {
            directory.removed.insert(number, file);
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), MediumError> {
        let mut directory = self.0.borrow_mut();
        directory.fuse.burn()?;
        directory.fresh.clear();
        directory.removed.clear();
        Ok(())
    }
}

impl File for SimFile {
    fn len(&self) -> Result<u64, MediumError> {
        self.fuse.burn()?;
        Ok(self.content.borrow().cached.len() as u64)
    }

    fn read(&self, offset: u64, len: usize) -> Result<Bytes, MediumError> {
        self.fuse.burn()?;
        let content = self.content.borrow();
        let from = (offset as usize).min(content.cached.len());
        let to = (from + len).min(content.cached.len());
        Ok(Bytes::copy_from_slice(&content.cached[from..to]))
    }

    fn write(&self, offset: u64, pieces: &[Bytes]) -> Result<(), MediumError> {
        let mut at = offset as usize;
        for piece in pieces {
            // Each piece may be the last that gets through.
            self.fuse.burn()?;
            self.content.borrow_mut().write(at, piece);
            at += piece.len();
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), MediumError> {
        self.fuse.burn()?;
        self.content.borrow_mut().sync();
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> Result<(), MediumError> {
        self.fuse.burn()?;
        let mut content = self.content.borrow_mut();
        let from = (offset as usize).min(content.cached.len());
        let to = (from + len as usize).min(content.cached.len());
        content.cached[from..to].fill(0);
        content.touch(from, to);
        Ok(())
    }

    fn truncate(&self, len: u64) -> Result<(), MediumError> {
        self.fuse.burn()?;
        let mut content = self.content.borrow_mut();
        let old = content.cached.len();
        content.cached.resize(len as usize, 0);
        content.touch((len as usize).min(old), old.max(len as usize));
        Ok(())
    }
}

impl Content {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.cached.len() < end {
            let old = self.cached.len();
            self.cached.resize(end, 0);
            self.touch(old, end);
        }
        self.cached[at..end].copy_from_slice(bytes);
        self.touch(at, end);
    }

    fn touch(&mut self, from: usize, to: usize) {
        self.dirty.extend(from / SECTOR..to.div_ceil(SECTOR));
    }

    fn sync(&mut self) {
        self.synced.resize(self.cached.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let from = (sector * SECTOR).min(self.cached.len());
            let to = (from + SECTOR).min(self.cached.len());
            self.synced[from..to].copy_from_slice(&self.cached[from..to]);
        }
    }

    fn cut_power(&mut self, dice: &mut Dice) -> u64 {
        let (short, long) =
            (self.cached.len().min(self.synced.len()), self.cached.len().max(self.synced.len()));
        let len = match dice.below(3) {
            0 => self.synced.len(),
            1 => self.cached.len(),
            _ => dice.within(short as u64, long as u64) as usize,
        };
        self.synced.resize(len, 0);
        let mut lost = 0;
        for sector in std::mem::take(&mut self.dirty) {
            let from = (sector * SECTOR).min(len);
            let to = (from + SECTOR).min(len);
            match dice.below(8) {
                0..=3 => {
                    let end = to.min(self.cached.len());
                    if from < end {
                        self.synced[from..end].copy_from_slice(&self.cached[from..end]);
                    }
                }
                4 => {
                    lost += 1;
                    for byte in &mut self.synced[from..to] {
                        *byte = dice.below(256) as u8;
                    }
                }
                _ => lost += 1,
            }
        }
        self.cached = self.synced.clone();
        lost
    }
}
