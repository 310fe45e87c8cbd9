use super::Acl;
use crate::error::FsError;
use alloc::vec::Vec;

/// (tag, permissions, id)
type Row = (u16, u16, u32);

const NONE: u32 = u32::MAX;

fn bytes(rows: &[Row]) -> Vec<u8> {
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in rows {
        out.extend(tag.to_le_bytes());
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}

fn acl(rows: &[Row]) -> Acl {
    Acl::decode(&bytes(rows)).expect("valid").expect("entries")
}

const MINIMAL: [Row; 3] = [(1, 6, NONE), (4, 4, NONE), (32, 0, NONE)];
const NAMED: [Row; 6] =
    [(1, 7, NONE), (2, 6, 1000), (4, 5, NONE), (8, 1, 5), (16, 6, NONE), (32, 4, NONE)];

#[test]
fn the_kernels_form_reads_back() {
    for rows in [&MINIMAL[..], &NAMED] {
        assert_eq!(acl(rows).encode(), bytes(rows));
    }
    // Ids of unnamed entries mean nothing and are written as the kernel writes them.
    let odd = [(1, 6, 7), (4, 4, 7), (32, 0, 7)];
    assert_eq!(acl(&odd).encode(), bytes(&MINIMAL));
    assert_eq!(Acl::decode(&bytes(&[])), Ok(None));
}

#[test]
fn what_is_no_acl_is_refused() {
    let bad: [&[Row]; 10] = [
        &[(1, 6, NONE), (4, 4, NONE)],
        &[(4, 4, NONE), (1, 6, NONE), (32, 0, NONE)],
        &[(1, 6, NONE), (1, 6, NONE), (4, 4, NONE), (32, 0, NONE)],
        &[(1, 8, NONE), (4, 4, NONE), (32, 0, NONE)],
        &[(1, 6, NONE), (2, 6, 9), (4, 4, NONE), (32, 0, NONE)],
        &[(1, 6, NONE), (2, 6, NONE), (4, 4, NONE), (16, 7, NONE), (32, 0, NONE)],
        &[(1, 6, NONE), (4, 4, NONE), (8, 4, 1), (32, 0, NONE)],
        &[(1, 6, NONE), (4, 4, NONE), (16, 7, NONE), (16, 7, NONE), (32, 0, NONE)],
        &[(1, 6, NONE), (4, 4, NONE), (32, 0, NONE), (32, 0, NONE)],
        &[(1, 6, NONE), (4, 4, NONE), (64, 0, NONE)],
    ];
    for rows in bad {
        assert_eq!(Acl::decode(&bytes(rows)), Err(FsError::Invalid), "{rows:?}");
    }
    let mut cut = bytes(&MINIMAL);
    cut.pop();
    assert_eq!(Acl::decode(&cut), Err(FsError::Invalid));
    assert_eq!(Acl::decode(&[2, 0]), Err(FsError::Invalid));
    let mut newer = bytes(&MINIMAL);
    newer[0] = 3;
    assert_eq!(Acl::decode(&newer), Err(FsError::NotSupported));
}

#[test]
fn the_mask_is_the_groups_class() {
    assert_eq!((acl(&MINIMAL).mode(), acl(&MINIMAL).is_minimal()), (0o640, true));
    assert_eq!((acl(&NAMED).mode(), acl(&NAMED).is_minimal()), (0o764, false));
    let mut changed = acl(&NAMED);
    changed.set_mode(0o100_421);
    assert_eq!(changed.mode(), 0o421);
    let rows = [(1, 4, NONE), (2, 6, 1000), (4, 5, NONE), (8, 1, 5), (16, 2, NONE), (32, 1, NONE)];
    assert_eq!(changed.encode(), bytes(&rows));
}

#[test]
fn nobody_inherits_more_than_the_mode_allows() {
    let mut inherited = acl(&NAMED);
    assert_eq!(inherited.inherit(0o102_750), 0o102_740);
    let rows = [(1, 7, NONE), (2, 6, 1000), (4, 5, NONE), (8, 1, 5), (16, 4, NONE), (32, 0, NONE)];
    assert_eq!(inherited.encode(), bytes(&rows));
    let mut inherited = acl(&MINIMAL);
    assert_eq!(inherited.inherit(0o100_777), 0o100_640);
}
