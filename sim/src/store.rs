//! The stores of a run, whichever they are.

use vellum_core::id::VolumeId;
use vellum_core::port::meta_kv::{Commit, CommitRequest, KvError, KvReply, ReadRound, Version};
use vellum_core::port::page_store::{PageError, PageReply, PageRequest};

use crate::dice::Dice;
use crate::disk::Ills;
use crate::faults::{Fault, Options, Store};
use crate::kv::{Durability, Lie, Paging, SimKv};
use crate::local::LocalStore;
use crate::pages::SimPages;

/// A metadata store and a page store.
pub enum Stores {
    /// Simulated ones.
    Simple {
        /// The metadata store.
        kv: SimKv,
        /// The page store.
        pages: SimPages,
    },
    /// The real code over simulated disks.
    Local(Box<LocalStore>),
}

/// What a crash did.
pub struct Crash {
    /// The last commit that was kept.
    pub cut: Commit,
    /// Commits, segments or sectors that were lost or torn.
    pub lost: u64,
}

impl Stores {
    /// Empty stores for a volume.
    pub fn new(options: &Options, volume: VolumeId, ills: Dice) -> Stores {
        let simple = |durability, at_once| Stores::Simple {
            kv: SimKv::new(durability),
            pages: SimPages::new(at_once, options.capacity),
        };
        match options.store {
            Store::Cluster => simple(Durability::AtOnce, true),
            Store::Embedded => simple(Durability::AtSync, false),
            Store::Local => {
                let (sync, full) = (options.rate(Fault::DiskSync), options.rate(Fault::DiskFull));
                let ills = Ills::new(ills, sync, full, options.rate(Fault::DiskRead));
                Stores::Local(Box::new(LocalStore::new(volume, options.capacity, ills)))
            }
        }
    }

    /// The metadata store lies from now on, if it can.
    pub fn lie(&mut self, lie: Lie) {
        if let Stores::Simple { kv, .. } = self {
            kv.lie(lie);
        }
    }

    /// The newest commit.
    pub fn last(&self) -> Commit {
        match self {
            Stores::Simple { kv, .. } => kv.last(),
            Stores::Local(local) => local.last(),
        }
    }

    /// Performs a round of reads.
    ///
    /// # Errors
    /// As the port says; likewise below.
    pub fn read(
        &mut self,
        time: u64,
        round: &ReadRound,
        paging: Paging,
    ) -> Result<KvReply, KvError> {
        match self {
            Stores::Simple { kv, .. } => {
                let version = round.at.unwrap_or_else(|| kv.grant(time));
                let values = kv.read(time, version, round, paging)?;
                Ok(KvReply::Values { version, values })
            }
            Stores::Local(local) => local.read(round),
        }
    }

    /// Applies a write set.
    pub fn commit(
        &mut self,
        time: u64,
        request: &CommitRequest,
        share_version: bool,
    ) -> Result<Commit, KvError> {
        match self {
            Stores::Simple { kv, .. } => kv.commit(time, request, share_version),
            Stores::Local(local) => local.commit(request.clone()),
        }
    }

    /// Makes commits durable.
    pub fn sync(&mut self, up_to: Version) -> Result<Version, KvError> {
        match self {
            Stores::Simple { kv, pages } => {
                let version = kv.sync();
                pages.sync();
                Ok(version)
            }
            Stores::Local(local) => local.sync(up_to),
        }
    }

    /// Performs a request to the page store.
    pub fn page(&mut self, request: &PageRequest) -> Result<PageReply, PageError> {
        match self {
            Stores::Simple { kv, pages } => pages.serve(request, kv.last()),
            Stores::Local(local) => local.serve(request),
        }
    }

    /// The process ends, and on one machine perhaps the power, too.
    pub fn crash(&mut self, dice: &mut Dice) -> Crash {
        match self {
            Stores::Simple { kv, pages } => {
                let at_risk = kv.unsynced();
                let cut = match dice.below(4) {
                    _ if at_risk.is_empty() => kv.last(),
                    0 => kv.durable(),
                    1 => kv.last(),
                    _ => at_risk[dice.index(at_risk.len())],
                };
                let lost = at_risk.iter().filter(|c| **c > cut).count() as u64;
                let torn = pages.crash(cut, dice);
                kv.crash(cut);
                Crash { cut, lost: lost + torn }
            }
            Stores::Local(local) => {
                let power = dice.chance(7_000);
                let (cut, lost) = local.crash(power, dice);
                Crash { cut, lost }
            }
        }
    }

    /// Commits that a crash may lose.
    pub fn at_risk(&self) -> usize {
        match self {
            Stores::Simple { kv, .. } => kv.unsynced().len(),
            Stores::Local(_) => 0,
        }
    }

    /// [`Stores::crash`] that loses so many of the commits that are not durable.
    pub fn crash_exactly(&mut self, lost: usize, dice: &mut Dice) -> Commit {
        match self {
            Stores::Simple { kv, pages } => {
                let at_risk = kv.unsynced();
                let cut = match at_risk.len().checked_sub(lost) {
                    _ if lost == 0 => kv.last(),
                    Some(kept) if kept > 0 => at_risk[kept - 1],
                    _ => kv.durable(),
                };
                pages.crash(cut, dice);
                kv.crash(cut);
                cut
            }
            Stores::Local(local) => local.crash(true, dice).0,
        }
    }

    /// Whether single calls on the disk may fail now.
    pub fn ail(&self, active: bool) {
        if let Stores::Local(local) = self {
            local.ills().activate(active);
        }
    }

    /// How often single calls failed: syncs, writes to a full disk, reads.
    pub fn ills(&self) -> [u64; 3] {
        match self {
            Stores::Simple { .. } => [0; 3],
            Stores::Local(local) => local.ills().counts(),
        }
    }

    /// Damages a page file of the real stores; says which.
    pub fn rot(&mut self, dice: &mut Dice) -> Option<u32> {
        match self {
            Stores::Simple { .. } => None,
            Stores::Local(local) => local.rot(dice),
        }
    }

    /// Whether that happened.
    pub fn rotten(&self) -> bool {
        matches!(self, Stores::Local(local) if local.rotten())
    }

    /// Whether the store takes nothing any more until the process starts anew.
    pub fn failed(&self) -> bool {
        match self {
            Stores::Simple { .. } => false,
            Stores::Local(local) => local.failed(),
        }
    }

    /// The cluster recovers.
    pub fn recover(&mut self, time: u64) {
        if let Stores::Simple { kv, .. } = self {
            kv.recover(time);
        }
    }

    /// There is room again.
    pub fn grow(&mut self) {
        match self {
            Stores::Simple { pages, .. } => pages.grow(),
            Stores::Local(local) => local.grow(),
        }
    }

    /// What happened to the stores that must never happen.
    pub fn violations(&self) -> &[String] {
        match self {
            Stores::Simple { pages, .. } => pages.violations(),
            Stores::Local(local) => local.violations(),
        }
    }
}
