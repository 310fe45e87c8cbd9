//! The path of an inode, for people who read reports.

use crate::error::FsResult;
use crate::id::Ino;
use crate::meta::key::{self, tag};
use crate::meta::record::{Core, Dentry};
use crate::meta::txn::{Txn, one, value};
use alloc::string::String;
use alloc::vec::Vec;

/// Deepest path that is told.
const DEPTH_MAX: usize = 1024;

/// One path from the root; `None` when it has no name, or lies too deep.
pub async fn path(txn: &mut Txn<'_>, ino: Ino) -> FsResult<Option<String>> {
    let mut names = Vec::new();
    let mut at = ino;
    while at != Ino::ROOT {
        let [core] = txn.read([one(key::inode(at, tag::CORE)).snapshot()]).await?;
        let Some(core) = value(core) else { return Ok(None) };
        let core = Core::decode(&core)?;
        let [dentry] = txn.read([one(key::dentry(core.home, core.home_cookie)).snapshot()]).await?;
        let Some(dentry) = value(dentry) else { return Ok(None) };
        let dentry = Dentry::decode(&dentry)?;
        if dentry.ino != at || names.len() >= DEPTH_MAX {
            return Ok(None);
        }
        names.push(String::from_utf8_lossy(&dentry.name).into_owned());
        at = core.home;
    }
    names.reverse();
    Ok(Some(names.join("/")))
}
