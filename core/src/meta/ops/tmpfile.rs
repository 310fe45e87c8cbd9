//! tmpfile: a file without a name, which waits for reclaim from its birth; `link` may give it one.

use super::create::{Create, born};
use super::volume::check_inodes;
use super::{condemn, live_dir_core};
use crate::error::FsResult;
use crate::meta::attrs::Attrs;
use crate::meta::key::{self, tag};
use crate::meta::record::{Pair, flag};
use crate::meta::txn::{Txn, one, value};

/// Creates a file that belongs to a directory as far as inheritance goes; `new.name` means nothing.
/// `nameable`: a link may give it a name.
///
/// # Errors
/// NotFound in a removed directory, NotDirectory. Source: open(2) with O_TMPFILE.
pub async fn tmpfile(txn: &mut Txn<'_>, new: &Create, nameable: bool) -> FsResult<Attrs> {
    let [dir] = txn.read([one(key::inode(new.dir, tag::CORE))]).await?;
    let dir = live_dir_core(value(dir))?;
    check_inodes(txn).await?;
    let mut attrs = born(txn, new, &dir, 0).await?;
    attrs.core.nlink = 0;
    attrs.core.put(flag::NAMEABLE, nameable);
    txn.set(key::inode(new.ino, tag::CORE), attrs.core.encode());
    condemn(txn, new.ino);
    txn.charge(Pair { hi: 1, lo: 0 });
    Ok(attrs)
}
