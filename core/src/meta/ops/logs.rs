//! The write logs of all files: page by page.

use crate::data::write_log::{self, LogExtent};
use crate::error::{FsError, FsResult};
use crate::id::Ino;
use crate::meta::key::{self, tag};
use crate::meta::txn::{Txn, list, rows};
use crate::port::meta_kv::Key;
use alloc::vec::Vec;

/// Rows that one page looks at.
const PAGE_ROWS: u32 = 512;

/// A pack, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedPack {
    /// Whose.
    pub ino: Ino,
    /// Of which region.
    pub region: u64,
    /// What it says.
    pub extents: Vec<LogExtent>,
}

/// Some packs, and where to go on; `None` at the end.
#[derive(Clone, Debug, Default)]
pub struct LogPage {
    /// In the order of their keys.
    pub packs: Vec<LoggedPack>,
    /// What comes next begins here.
    pub next: Option<Key>,
}

/// The packs from a key on. What does not decode is left out: a check says so.
pub async fn logs(txn: &mut Txn<'_>, from: Option<Key>) -> FsResult<LogPage> {
    let mut range = key::all_inodes();
    range.begin = from.unwrap_or(range.begin);
    let [found] = txn.read([rows(range, PAGE_ROWS).snapshot()]).await?;
    let found = list(found);
    let mut page = LogPage::default();
    if found.len() >= PAGE_ROWS as usize {
        page.next = found.last().map(|(key, _)| key.successor());
    }
    for (key, value) in found {
        let (ino, tag, rest) = key::parse_inode(&key).ok_or(FsError::Damaged)?;
        if tag == tag::LOG
            && let Some((_, region)) = key::parse_log(rest)
            && let Ok(extents) = write_log::decode(region, &value)
        {
            page.packs.push(LoggedPack { ino, region, extents });
        }
    }
    Ok(page)
}
