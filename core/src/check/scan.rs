//! Reading the key space page by page, as it was at one moment for as long as the store keeps it.

use crate::error::{FsError, FsResult};
use crate::meta::key;
use crate::meta::txn::{Volume, Want, left_the_window, one, rows, transact, value};
use crate::port::Point;
use crate::port::control::CheckProgress;
use crate::port::meta_kv::{Key, KeyRange, Value, Values, Version};
use crate::task::{Ask, Cx};
use alloc::vec;
use alloc::vec::Vec;
use atomic_refcell::AtomicRefCell;

/// Rows of a page. A row of the write log has up to 24 KiB.
const PAGE_ROWS: u32 = 256;

/// The store under check.
pub(super) struct Store<'a> {
    pub(super) cx: &'a Cx,
    pub(super) volume: &'a Volume,
    reading: AtomicRefCell<Reading>,
}

/// What is being read.
#[derive(Default)]
struct Reading {
    /// The moment at which everything is read; none before the first read.
    at: Option<Version>,
    /// That moment had left the store's window, and a later one took its place.
    moved: bool,
    stage: &'static str,
    done: u64,
}

/// A range on the way.
pub(super) struct Scan {
    rest: Option<KeyRange>,
}

impl Scan {
    pub(super) fn new(range: KeyRange) -> Scan {
        Scan { rest: Some(range) }
    }
}

impl<'a> Store<'a> {
    pub(super) fn new(cx: &'a Cx, volume: &'a Volume) -> Store<'a> {
        Store { cx, volume, reading: AtomicRefCell::default() }
    }

    /// The next rows of a scan; `None` at its end. What has left the store's window goes on at the
    /// last key, at a later moment.
    pub(super) async fn page(&self, scan: &mut Scan) -> FsResult<Option<Vec<(Key, Value)>>> {
        let Some(range) = scan.rest.take() else { return Ok(None) };
        let wants = vec![rows(range.clone(), PAGE_ROWS).snapshot().short()];
        let Some(Values::Rows { rows, more }) = self.round(wants).await?.pop() else {
            return Err(FsError::Damaged);
        };
        let last = rows.last().map(|(key, _)| key.successor());
        scan.rest = last.filter(|_| more).map(|begin| KeyRange { begin, end: range.end });
        self.advance(rows.len() as u64).await;
        Ok(Some(rows))
    }

    /// The values of some keys, read in one round.
    pub(super) async fn values(&self, keys: &[Key]) -> FsResult<Vec<Option<Value>>> {
        Ok(self.round(self.wants(keys)).await?.into_iter().map(value).collect())
    }

    /// The value of one key.
    pub(super) async fn value(&self, key: Key) -> FsResult<Option<Value>> {
        Ok(self.values(&[key]).await?.pop().flatten())
    }

    /// The values of some keys now, whatever they were at the moment of the check.
    pub(super) async fn values_now(&self, keys: &[Key]) -> FsResult<Vec<Option<Value>>> {
        let (_, values) = self.round_at(None, &self.wants(keys)).await?.ok_or(FsError::Damaged)?;
        Ok(values.into_iter().map(value).collect())
    }

    fn wants(&self, keys: &[Key]) -> Vec<Want> {
        keys.iter().map(|key| one(key.clone()).snapshot()).collect()
    }

    /// The moment that is read; the store's version now before the first read.
    pub(super) async fn version(&self) -> FsResult<Version> {
        self.value(key::volume()).await?;
        self.reading.borrow().at.ok_or(FsError::Damaged)
    }

    /// The moment that was read last.
    pub(super) fn moment(&self) -> Version {
        self.reading.borrow().at.unwrap_or_default()
    }

    /// The newest version of the store: the same as before if nothing was written meanwhile.
    pub(super) async fn version_now(&self) -> FsResult<Version> {
        let read = self.round_at(None, &self.wants(&[key::volume()])).await?;
        Ok(read.ok_or(FsError::Damaged)?.0)
    }

    /// Whether everything so far was read at one moment.
    pub(super) fn is_exact(&self) -> bool {
        !self.reading.borrow().moved
    }

    /// Reads all of it at the moment of the check.
    async fn round(&self, wants: Vec<Want>) -> FsResult<Vec<Values>> {
        let at = self.reading.borrow().at;
        if let Some((version, values)) = self.round_at(at, &wants).await? {
            self.reading.borrow_mut().at = Some(version);
            return Ok(values);
        }
        let (version, values) = self.round_at(None, &wants).await?.ok_or(FsError::Damaged)?;
        let mut reading = self.reading.borrow_mut();
        reading.moved = true;
        reading.at = Some(version);
        Ok(values)
    }

    /// Reads at a version, or now. `None` if that version cannot be read any more.
    async fn round_at(
        &self,
        at: Option<Version>,
        wants: &[Want],
    ) -> FsResult<Option<(Version, Vec<Values>)>> {
        let (values, point) = transact!(self.cx, self.volume, |txn| {
            if let Some(at) = at {
                txn.pin(at);
            }
            match txn.read_all(wants.to_vec()).await {
                Ok(values) => Ok(Some(values)),
                Err(error) if at.is_some() && left_the_window(&error) => Ok(None),
                Err(error) => Err(error),
            }
        });
        match (values?, point) {
            (Some(values), Point::Snapshot(version)) => Ok(Some((version, values))),
            (None, _) => Ok(None),
            _ => Err(FsError::Damaged),
        }
    }

    /// What comes next, for whoever watches.
    pub(super) async fn stage(&self, stage: &'static str) {
        {
            let mut reading = self.reading.borrow_mut();
            (reading.stage, reading.done) = (stage, 0);
        }
        self.advance(0).await;
    }

    /// So much of the stage was done.
    pub(super) async fn advance(&self, done: u64) {
        let progress = {
            let mut reading = self.reading.borrow_mut();
            reading.done += done;
            CheckProgress { stage: reading.stage, done: reading.done }
        };
        self.cx.ask(Ask::Progress(progress)).await;
    }
}
