//! A row of the table: one kind of work, how much of it, and what a result means.

use crate::meter::{Latencies, Sample, measure};
use crate::rows::Material;
use crate::target::Target;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

/// How much work a row does.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Scale {
    /// Files, directories or transactions of one row, over all threads.
    pub(crate) files: usize,
    /// Operations that never leave the kernel where caches are true.
    pub(crate) cached: usize,
    /// Operations that are made durable one by one.
    pub(crate) synced: usize,
    /// Bytes of the file that is read and written, in MiB.
    pub(crate) mib: usize,
    /// Random reads or writes.
    pub(crate) random: usize,
    /// Files of the tree that is cloned, unpacked and removed.
    pub(crate) tree: usize,
}

impl Scale {
    /// For numbers.
    pub(crate) const FULL: Scale = Scale {
        files: 8_000,
        cached: 200_000,
        synced: 4_000,
        mib: 1024,
        random: 16_384,
        tree: 3_000,
    };
    /// For a look.
    pub(crate) const QUICK: Scale =
        Scale { files: 400, cached: 4_000, synced: 100, mib: 32, random: 512, tree: 200 };
}

/// What a result is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Operations in a second.
    PerSecond,
    /// MiB in a second.
    MibPerSecond,
    /// Seconds for the whole; less is better.
    Seconds,
}

impl Unit {
    /// The number to print.
    pub(crate) fn value(self, sample: &Sample) -> f64 {
        match self {
            Unit::PerSecond | Unit::MibPerSecond => sample.amount / sample.elapsed.as_secs_f64(),
            Unit::Seconds => sample.elapsed.as_secs_f64(),
        }
    }

    /// How many times as fast `ours` is as `theirs`.
    pub(crate) fn speedup(self, ours: f64, theirs: f64) -> f64 {
        if self == Unit::Seconds { theirs / ours } else { ours / theirs }
    }

    /// Name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::PerSecond => "operations/s",
            Unit::MibPerSecond => "MiB/s",
            Unit::Seconds => "s",
        }
    }
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) threads: usize,
    pub(crate) unit: Unit,
    /// What the work asks to be durable, and therefore what may be compared.
    pub(crate) durability: &'static str,
    pub(crate) work: fn(&mut Run<'_>) -> Result<Sample>,
}

impl Row {
    /// Name and threads, as printed and as matched by `--only`.
    pub(crate) fn title(&self) -> String {
        if self.threads == 1 {
            self.name.to_owned()
        } else {
            format!("{} x{}", self.name, self.threads)
        }
    }

    /// Does the work once in a fresh directory, which is removed afterwards.
    pub(crate) fn run(
        &self,
        target: &mut Target,
        scale: Scale,
        material: &Material,
    ) -> Result<Sample> {
        let dir = target.work().join("row");
        // A row that failed may not have been able to tidy up.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).with_context(|| format!("{}", dir.display()))?;
        let mut run = Run { target, threads: self.threads, scale, material, dir: dir.clone() };
        let sample = (self.work)(&mut run);
        let removed = fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()));
        let sample = sample?;
        removed?;
        Ok(sample)
    }
}

/// One execution of a row's work.
pub(crate) struct Run<'a> {
    target: &'a mut Target,
    pub(crate) threads: usize,
    pub(crate) scale: Scale,
    pub(crate) material: &'a Material,
    dir: PathBuf,
}

impl Run<'_> {
    fn own(&self, thread: usize) -> PathBuf {
        self.dir.join(format!("t{thread}"))
    }

    /// Prepares, unmeasured: `work` runs once per thread in a new directory of its own.
    pub(crate) fn prepare(&self, work: impl Fn(&Path) -> Result<()> + Sync) -> Result<()> {
        (0..self.threads).try_for_each(|n| fs::create_dir(self.own(n)))?;
        self.prepare_again(work)
    }

    /// Prepares further in the same directories.
    pub(crate) fn prepare_again(&self, work: impl Fn(&Path) -> Result<()> + Sync) -> Result<()> {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads)
                .map(|n| {
                    let (own, work) = (self.own(n), &work);
                    scope.spawn(move || work(&own))
                })
                .collect();
            workers.into_iter().try_for_each(|w| w.join().expect("a worker does not panic"))
        })
    }

    /// Makes every cache cold.
    pub(crate) fn cool(&mut self) -> Result<()> {
        self.target.cool()
    }

    /// Measures `work`, which runs once per thread and is told its directory.
    pub(crate) fn measure(
        &self,
        amount: usize,
        work: impl Fn(&Path, &mut Latencies) -> Result<()> + Sync,
    ) -> Result<Sample> {
        let own: Vec<_> = (0..self.threads).map(|n| self.own(n)).collect();
        let run = |n: usize, latencies: &mut Latencies| work(&own[n], latencies);
        measure(self.threads, amount as f64, self.target.daemon(), run)
    }
}
