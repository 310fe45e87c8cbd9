//! Back links: from an inode with several names to each of them.

use super::scan::{Scan, Store};
use super::{Check, Fix, rule};
use crate::error::FsResult;
use crate::meta::key;
use crate::meta::record::Dentry;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Reads all back links, and the directory entries that they point to.
pub(super) async fn scan(store: &Store<'_>, check: &mut Check) -> FsResult<()> {
    let mut scan = Scan::new(key::all_back_links());
    while let Some(page) = store.page(&mut scan).await? {
        let mut links = Vec::with_capacity(page.len());
        for (key, _) in page {
            match key::parse_back_link(&key) {
                Some(link) => links.push(link),
                None => check.problems.add(rule::UNKNOWN_KEY, format!("back link {key:?}")),
            }
        }
        if links.is_empty() {
            continue;
        }
        let places: Vec<_> =
            links.iter().map(|(_, dir, cookie)| key::dentry(*dir, *cookie)).collect();
        let entries = store.values(&places).await?;
        for ((ino, dir, cookie), entry) in links.into_iter().zip(entries) {
            let named = entry.and_then(|value| Dentry::decode(&value).ok()).map(|d| d.ino);
            let inode = check.inodes.find_mut(ino);
            let found = match inode {
                Some(inode) if !inode.readable => continue,
                Some(inode) if named == Some(ino) && inode.nlink > 1 => {
                    inode.back_links += 1;
                    continue;
                }
                Some(inode) if inode.nlink <= 1 => format!("the inode has {} names", inode.nlink),
                Some(_) => format!("there is {named:?}"),
                None => String::from("no such inode"),
            };
            let text =
                format!("inode {ino}: back link to directory {dir}, cookie {cookie:#x}: {found}");
            let fix = Fix::Clear([key::back_link(ino, dir, cookie)].into());
            check.problems.add_with(rule::BACK_LINK, text, Some(fix));
        }
    }
    Ok(())
}
