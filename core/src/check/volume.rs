//! The volume record, the volume's counters, and keys that belong to nothing.

use super::inode::{check_groups, next_group};
use super::repair::Fix;
use super::scan::{Scan, Store};
use super::{Check, rule};
use crate::error::FsResult;
use crate::meta::key;
use crate::meta::record::{Pair, VolumeRecord, decode_u64};
use crate::port::meta_kv::{Key, KeyRange};
use alloc::format;
use alloc::string::String;

/// The record decodes.
pub(super) async fn check_record(store: &Store<'_>, check: &mut Check) -> FsResult<()> {
    let record = store.value(key::volume()).await?;
    if record.as_ref().is_none_or(|value| VolumeRecord::decode(value).is_err()) {
        let text = format!("the volume record is {record:?}");
        check.problems.add(rule::VOLUME_RECORD, text);
    }
    Ok(())
}

/// The counters are what the inodes add up to.
pub(super) async fn check_counters(store: &Store<'_>, check: &mut Check) -> FsResult<()> {
    let usage = store.value(key::usage()).await?;
    let counted = usage.as_ref().map_or(Ok(Pair::default()), |value| Pair::decode(value));
    let found = Pair { hi: check.inodes.cores as i64, lo: check.inodes.bytes };
    let good = match counted {
        Ok(counted) => {
            counted.hi == found.hi && (counted.lo == found.lo || check.inodes.bytes_unknown)
        }
        Err(_) => false,
    };
    if !good {
        let text = format!(
            "the volume counts {counted:?}, its inodes are {} with {} bytes",
            found.hi, found.lo
        );
        let fix = Fix::put(key::usage(), found.encode());
        check.problems.add_with(
            rule::VOLUME_USAGE,
            text,
            fix.filter(|_| !check.inodes.bytes_unknown),
        );
    }
    match store.value(key::groups()).await?.map_or(Ok(1), |value| decode_u64(&value)) {
        Ok(next) if next > 0 => check_groups(check, next),
        _ => {
            let text = String::from("the next inode group is none");
            check.problems.add_with(rule::INODE_GROUP, text, next_group(check));
        }
    }
    Ok(())
}

/// First bytes of keys that have a scan of their own.
const FAMILIES: &[u8] = b"GINPUV";

/// Keys outside of all families, and those of the families that nothing else reads.
pub(super) async fn check_families(store: &Store<'_>, check: &mut Check) -> FsResult<()> {
    let mut from = Key::new(&[0]);
    for family in FAMILIES {
        let whole = KeyRange::prefix(Key::new(&[*family]));
        check_between(store, check, KeyRange { begin: from, end: whole.begin }).await?;
        from = whole.end;
    }
    check_between(store, check, KeyRange { begin: from, end: Key::new(&[0xff]) }).await
}

async fn check_between(store: &Store<'_>, check: &mut Check, range: KeyRange) -> FsResult<()> {
    let mut scan = Scan::new(range);
    while let Some(page) = store.page(&mut scan).await? {
        for (key, _) in page.iter().filter(|(key, _)| !known(key)) {
            check.problems.add(rule::UNKNOWN_KEY, format!("key {key:?}"));
        }
    }
    Ok(())
}

fn known(found: &Key) -> bool {
    [key::volume(), key::usage(), key::limit(), key::groups()].contains(found)
        || key::is_session(found)
}
