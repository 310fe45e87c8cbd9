//! The real stores keep the ports' contracts.

use tempfile::TempDir;
use vellum_core::id::VolumeId;
use vellum_drivers::{DiskPages, EmbeddedKv, LocalVolume, OpenMode, conformance};

#[test]
fn embedded_kv_keeps_the_contract_of_the_metadata_port() {
    let dir = TempDir::new().unwrap();
    conformance::meta::check(&EmbeddedKv::open(dir.path()).unwrap());
}

#[test]
fn disk_pages_keep_the_contract_of_the_page_port() {
    let dir = TempDir::new().unwrap();
    conformance::pages::check(&DiskPages::open(dir.path(), VolumeId(1)).unwrap());
    // Many small files instead of one.
    let dir = TempDir::new().unwrap();
    let pages = DiskPages::open_marked(dir.path(), VolumeId(1), None, 64 << 10).unwrap();
    conformance::pages::check(&pages);
}

#[test]
fn a_volume_keeps_both_contracts() {
    let dir = TempDir::new().unwrap();
    let volume = LocalVolume::open_with(dir.path(), OpenMode::CreateIfEmpty, 1 << 20).unwrap();
    conformance::pages::check(&*volume.pages);
    conformance::meta::check(&*volume.kv);
}
