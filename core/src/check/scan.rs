//! Reading the key space page by page.

use crate::error::{FsError, FsResult};
use crate::meta::key;
use crate::meta::txn::{Volume, one, rows, transact, value};
use crate::port::Point;
use crate::port::meta_kv::{Key, KeyRange, Value, Values, Version};
use crate::task::Cx;
use alloc::vec::Vec;

/// Rows of a page. A row of the write log has up to 24 KiB.
const PAGE_ROWS: u32 = 256;

/// The store under check.
pub(super) struct Store<'a> {
    pub(super) cx: &'a Cx,
    pub(super) volume: &'a Volume,
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

impl Store<'_> {
    /// The next rows of a scan; `None` at its end. Each page is a transaction of its own: what has
    /// left the store's window goes on at the last key.
    pub(super) async fn page(&self, scan: &mut Scan) -> FsResult<Option<Vec<(Key, Value)>>> {
        let Some(range) = scan.rest.take() else { return Ok(None) };
        let (page, _) = transact!(self.cx, self.volume, |txn| {
            let [page] = txn.read([rows(range.clone(), PAGE_ROWS).snapshot().short()]).await?;
            Ok(page)
        });
        let Values::Rows { rows, more } = page? else { return Err(FsError::Damaged) };
        let last = rows.last().map(|(key, _)| key.successor());
        scan.rest = last.filter(|_| more).map(|begin| KeyRange { begin, end: range.end });
        Ok(Some(rows))
    }

    /// The values of some keys, read in one round.
    pub(super) async fn values(&self, keys: &[Key]) -> FsResult<Vec<Option<Value>>> {
        let (values, _) = transact!(self.cx, self.volume, |txn| {
            let wants = keys.iter().map(|key| one(key.clone()).snapshot()).collect();
            txn.read_all(wants).await
        });
        Ok(values?.into_iter().map(value).collect())
    }

    /// The store's version now.
    pub(super) async fn version(&self) -> FsResult<Version> {
        let (read, point) = transact!(self.cx, self.volume, |txn| {
            txn.read([one(key::volume()).snapshot()]).await
        });
        match (read?, point) {
            (_, Point::Snapshot(version)) => Ok(version),
            _ => Err(FsError::Damaged),
        }
    }

    /// The value of one key.
    pub(super) async fn value(&self, key: Key) -> FsResult<Option<Value>> {
        Ok(self.values(&[key]).await?.pop().flatten())
    }
}
