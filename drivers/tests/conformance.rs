//! The real stores and the simulated ones keep the ports' contracts: one suite for all.

#[path = "conformance/simulated.rs"]
mod simulated;

use tempfile::TempDir;
use vellum_core::id::VolumeId;
use vellum_drivers::{DiskPages, EmbeddedKv, LocalVolume, OpenMode, conformance};

#[test]
fn embedded_kv_keeps_the_contract_of_the_metadata_port() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedKv::open(dir.path()).unwrap();
    conformance::meta::check(&store);
    conformance::meta::check_threads(&store);
}

#[test]
fn disk_pages_keep_the_contract_of_the_page_port() {
    let dir = TempDir::new().unwrap();
    let pages = DiskPages::open(dir.path(), VolumeId(1)).unwrap();
    conformance::pages::check(&pages);
    conformance::pages::check_threads(&pages);
    // Many small files instead of one.
    let dir = TempDir::new().unwrap();
    let pages = DiskPages::open_marked(dir.path(), VolumeId(1), None, 64 << 10).unwrap();
    conformance::pages::check(&pages);
    conformance::pages::check_threads(&pages);
}

#[test]
fn a_volume_keeps_both_contracts() {
    let dir = TempDir::new().unwrap();
    let volume = LocalVolume::open_with(dir.path(), OpenMode::CreateIfEmpty, 1 << 20).unwrap();
    conformance::pages::check(&*volume.pages);
    conformance::meta::check(&*volume.kv);
    conformance::pages::check_threads(&*volume.pages);
    conformance::meta::check_threads(&*volume.kv);
}
