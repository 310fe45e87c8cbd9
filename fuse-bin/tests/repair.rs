//! `vellum fsck --repair` from the outside, on a volume whose metadata was damaged on purpose.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;
use vellum_core::id::Ino;
use vellum_core::meta::key::{self, tag};
use vellum_core::meta::record::Pair;
use vellum_core::port::meta_kv::{CommitRequest, Mutation};
use vellum_drivers::{LocalVolume, OpenMode};

/// Runs the program; its exit code and what it printed.
fn vellum(args: &[&str], volume: &Path) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vellum"));
    let output = command.args(args).arg(volume).output().expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("an exit code"), String::from_utf8_lossy(&said).into_owned())
}

// [S-FSCK-2]
#[test]
fn damage_exits_with_8_its_repair_with_10_and_then_with_0() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let volume = dir.path().join("volume");
    assert_eq!(vellum(&["format"], &volume).0, 0);
    let counter = |hi, lo| Pair { hi, lo }.encode().to_vec().into();
    let damage = vec![
        Mutation::Set { key: key::usage(), value: counter(77, -5) },
        Mutation::Set { key: key::inode(Ino::ROOT, tag::CHILDREN), value: counter(1, 1) },
    ];
    let local = LocalVolume::open(&volume, OpenMode::MustExist).expect("open");
    local
        .kv
        .commit(CommitRequest { mutations: damage, ..CommitRequest::default() })
        .expect("commit");
    local.close().expect("close");
    drop(local);

    let (code, said) = vellum(&["fsck"], &volume);
    assert_eq!(code, 8, "{said}");
    let (code, said) = vellum(&["fsck", "--repair"], &volume);
    assert_eq!(code, 10, "{said}");
    for part in ["repaired volume-usage", "repaired dir-children", "clean, 2 repaired"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(vellum(&["fsck"], &volume).0, 0);
    let (code, said) = vellum(&["fsck", "--repair", "--json"], &volume);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(r#""repaired":[]"#) && said.contains(r#""clean":true"#), "{said}");
}
