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
//!
//! [`Ills`] strike single calls: a sync that fails leaves some sectors unwritten and, as kernels do, takes
//! all of them for clean; a disk that is full refuses writes that make a file longer, perhaps after a part.
//! [`SimDisk::rot`] and [`SimDisk::misdirect`] damage what is on the platter.

use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vellum_core::local::medium::{File, Medium, MediumError};

use crate::dice::{Dice, Stream};

const SECTOR: usize = 512;
const PAGE: usize = 4096;

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
    ills: Ills,
}

/// What goes wrong with single calls. Clones share it.
#[derive(Clone)]
pub struct Ills(Rc<RefCell<Illness>>);

struct Illness {
    dice: Dice,
    /// Chance in 10,000 of a failed sync, of a disk that is full for a while, and of a failed read.
    rates: [u32; 3],
    active: bool,
    /// Writes that still find the disk full.
    full: u64,
    counts: [u64; 3],
}

impl Ills {
    /// With chances in 10,000: a sync fails; the disk is full for some calls from a write on; a read fails.
    pub fn new(dice: Dice, sync: u32, full: u32, read: u32) -> Ills {
        let rates = [sync, full, read];
        Ills(Rc::new(RefCell::new(Illness { dice, rates, active: false, full: 0, counts: [0; 3] })))
    }

    /// Whether anything may go wrong now.
    pub fn activate(&self, active: bool) {
        let mut ills = self.0.borrow_mut();
        ills.active = active;
        if !active {
            ills.full = 0;
        }
    }

    /// How many syncs failed, how many writes found the disk full, and how many reads failed.
    pub fn counts(&self) -> [u64; 3] {
        self.0.borrow().counts
    }

    /// The dice of a sync that fails.
    fn sync_fails(&self) -> Option<Dice> {
        let mut ills = self.0.borrow_mut();
        let rate = ills.rates[0];
        if !ills.active || !ills.dice.chance(rate) {
            return None;
        }
        ills.counts[0] += 1;
        Some(ills.dice.fork())
    }

    fn read_fails(&self) -> bool {
        let mut ills = self.0.borrow_mut();
        let rate = ills.rates[2];
        let fails = ills.active && ills.dice.chance(rate);
        ills.counts[2] += u64::from(fails);
        fails
    }

    /// Whether the disk is full; a number between 0 and `len` that still fits.
    pub(crate) fn full(&self, len: u64) -> Option<u64> {
        let mut ills = self.0.borrow_mut();
        if !ills.active {
            return None;
        }
        let rate = ills.rates[1];
        if ills.full == 0 && ills.dice.chance(rate) {
            ills.full = 1 + ills.dice.below(20);
        }
        ills.full = ills.full.checked_sub(1)?;
        ills.counts[1] += 1;
        Some(ills.dice.within(0, len))
    }
}

impl Default for Ills {
    fn default() -> Ills {
        Ills::new(Dice::new(0, Stream::Disk), 0, 0, 0)
    }
}

/// Counts down to the moment at which everything fails.
#[derive(Clone, Default)]
pub struct Fuse(Rc<RefCell<Option<u64>>>);

/// An open file.
#[derive(Clone)]
pub struct SimFile {
    content: Rc<RefCell<Content>>,
    fuse: Fuse,
    ills: Ills,
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
    pub fn new(fuse: &Fuse, ills: &Ills) -> SimDisk {
        let (fuse, ills) = (fuse.clone(), ills.clone());
        SimDisk(Rc::new(RefCell::new(Directory { fuse, ills, ..Directory::default() })))
    }

    /// A byte of some file changes, on the platter and in the cache. `None` where there is none.
    pub fn rot(&self, dice: &mut Dice) -> Option<u32> {
        let (number, file) = self.some_file(dice)?;
        let mut content = file.content.borrow_mut();
        let at = dice.index(content.cached.len());
        let bit = 1 << dice.below(8);
        content.cached[at] ^= bit;
        let len = content.cached.len();
        content.synced.resize(len, 0);
        content.synced[at] = content.cached[at];
        Some(number)
    }

    /// Bits of one byte change, on the platter and in the cache; `at` counts through all files. False behind
    /// the last byte.
    pub fn flip(&self, at: u64, bits: u8) -> bool {
        let directory = self.0.borrow();
        let mut at = at;
        for file in directory.files.values() {
            let mut content = file.content.borrow_mut();
            let len = content.cached.len();
            if let Some(byte) = usize::try_from(at).ok().filter(|at| *at < len) {
                content.cached[byte] ^= bits;
                content.synced.resize(len, 0);
                content.synced[byte] = content.cached[byte];
                return true;
            }
            at -= len as u64;
        }
        false
    }

    /// A page that was written comes to lie where another one belongs, and is missing where it should be.
    pub fn misdirect(&self, dice: &mut Dice) -> Option<u32> {
        let (number, file) = self.some_file(dice)?;
        let mut content = file.content.borrow_mut();
        let pages = content.cached.len() / PAGE;
        let (from, to) = (dice.index(pages.max(1)) * PAGE, dice.index(pages.max(1)) * PAGE);
        let len = PAGE.min(content.cached.len());
        let page = content.cached[from..from + len].to_vec();
        content.cached[to..to + len].copy_from_slice(&page);
        content.cached[from..from + len].fill(0);
        content.synced = content.cached.clone();
        Some(number)
    }

    /// A page was said to be written, and what was there before is still there: zeros.
    pub fn lose_page(&self, dice: &mut Dice) -> Option<u32> {
        let (number, file) = self.some_file(dice)?;
        let mut content = file.content.borrow_mut();
        let at = dice.index(content.cached.len().div_ceil(PAGE)) * PAGE;
        let end = (at + PAGE).min(content.cached.len());
        content.cached[at..end].fill(0);
        content.synced = content.cached.clone();
        Some(number)
    }

    fn some_file(&self, dice: &mut Dice) -> Option<(u32, SimFile)> {
        let directory = self.0.borrow();
        let files: Vec<_> = directory.files.iter().filter(|(_, f)| f.bytes() > 0).collect();
        if files.is_empty() {
            return None;
        }
        let (number, file) = files[dice.index(files.len())];
        Some((*number, file.clone()))
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
        let (fuse, ills) = (directory.fuse.clone(), directory.ills.clone());
        let file = SimFile { content: Rc::default(), fuse, ills };
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
        if self.ills.read_fails() {
            return Err(MediumError::Io);
        }
        let content = self.content.borrow();
        let from = (offset as usize).min(content.cached.len());
        let to = (from + len).min(content.cached.len());
        Ok(Bytes::copy_from_slice(&content.cached[from..to]))
    }

    fn write(&self, offset: u64, pieces: &[Bytes]) -> Result<(), MediumError> {
        let mut at = offset as usize;
        let end = offset + pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let longer = end.saturating_sub(self.bytes());
        let room = if longer == 0 { None } else { self.ills.full(end - offset) };
        for piece in pieces {
            // Each piece may be the last that gets through.
            self.fuse.burn()?;
            if let Some(room) = room {
                let fits = (offset + room).saturating_sub(at as u64).min(piece.len() as u64);
                self.content.borrow_mut().write(at, &piece[..fits as usize]);
                if fits < piece.len() as u64 {
                    return Err(MediumError::NoSpace);
                }
                at += piece.len();
                continue;
            }
            self.content.borrow_mut().write(at, piece);
            at += piece.len();
        }
        if room.is_some() { Err(MediumError::NoSpace) } else { Ok(()) }
    }

    fn sync(&self) -> Result<(), MediumError> {
        self.fuse.burn()?;
        if let Some(mut dice) = self.ills.sync_fails() {
            self.content.borrow_mut().fail_sync(&mut dice);
            return Err(MediumError::Io);
        }
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

impl SimFile {
    fn bytes(&self) -> u64 {
        self.content.borrow().cached.len() as u64
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

    /// Some of the dirty sectors get through. The cache takes the others for clean: no later sync writes
    /// them.
    fn fail_sync(&mut self, dice: &mut Dice) {
        self.synced.resize(self.cached.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let from = (sector * SECTOR).min(self.cached.len());
            let to = (from + SECTOR).min(self.cached.len());
            if dice.coin() {
                self.synced[from..to].copy_from_slice(&self.cached[from..to]);
            }
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
