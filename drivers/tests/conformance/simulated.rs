//! The stores of the simulator: a fake that behaves otherwise than the real ones proves nothing.

use bytes::Bytes;
use std::cell::RefCell;
use vellum_core::id::{SegmentId, VolumeId};
use vellum_core::port::meta_kv::{Commit, CommitRequest, KvError, KvReply, ReadRound, Version};
use vellum_core::port::page_store::{PageError, PageReply, PageRequest, SegmentDraft, Space};
use vellum_drivers::conformance::{self, MetaStore, PageStore};
use vellum_sim::disk::Ills;
use vellum_sim::kv::{Durability, Lie, Paging, SimKv};
use vellum_sim::local::LocalStore;
use vellum_sim::pages::SimPages;

/// The simulated cluster, or the simulated embedded store, with a clock that moves at each call.
struct Kv {
    store: RefCell<(SimKv, u64)>,
    paging: Paging,
}

impl Kv {
    fn new(durability: Durability, rows_max: u32) -> Kv {
        Kv { store: RefCell::new((SimKv::new(durability), 0)), paging: Paging { rows_max } }
    }
}

impl MetaStore for Kv {
    fn read(&self, round: &ReadRound) -> Result<KvReply, KvError> {
        let (kv, now) = &mut *self.store.borrow_mut();
        *now += 1_000;
        let version = round.at.unwrap_or_else(|| kv.grant(*now));
        let values = kv.read(*now, version, round, self.paging)?;
        Ok(KvReply::Values { version, values })
    }
    fn commit(&self, request: CommitRequest) -> Result<Commit, KvError> {
        let (kv, now) = &mut *self.store.borrow_mut();
        *now += 1_000;
        kv.commit(*now, &request, now.is_multiple_of(3_000))
    }
    fn sync(&self, _: Version) -> Result<Version, KvError> {
        Ok(self.store.borrow_mut().0.sync())
    }
}

struct Pages(RefCell<SimPages>);

/// The stores of one machine over simulated disks.
struct Local(RefCell<LocalStore>);

impl MetaStore for Local {
    fn read(&self, round: &ReadRound) -> Result<KvReply, KvError> {
        self.0.borrow().read(round)
    }
    fn commit(&self, request: CommitRequest) -> Result<Commit, KvError> {
        self.0.borrow_mut().commit(request)
    }
    fn sync(&self, up_to: Version) -> Result<Version, KvError> {
        self.0.borrow_mut().sync(up_to)
    }
}

/// A store that is asked by requests.
trait Served {
    fn serve(&self, request: &PageRequest) -> Result<PageReply, PageError>;
    fn sync_all(&self);
}

impl Served for Pages {
    fn serve(&self, request: &PageRequest) -> Result<PageReply, PageError> {
        self.0.borrow_mut().serve(request, Commit::default())
    }
    fn sync_all(&self) {
        self.0.borrow_mut().sync();
    }
}

impl Served for Local {
    fn serve(&self, request: &PageRequest) -> Result<PageReply, PageError> {
        self.0.borrow().serve(request)
    }
    fn sync_all(&self) {
        let mut store = self.0.borrow_mut();
        // Page bytes become durable with a commit.
        let commit = store.commit(CommitRequest::default()).expect("an empty commit");
        store.sync(commit.version).expect("a sync");
    }
}

/// The page side of a store.
struct Side<S>(S);

impl<S: Served> PageStore for Side<S> {
    fn append(&self, draft: SegmentDraft) -> Result<u64, PageError> {
        match self.0.serve(&PageRequest::Append(draft))? {
            PageReply::Appended { physical } => Ok(physical),
            other => panic!("{other:?}"),
        }
    }
    fn read(&self, segment: SegmentId, offset: u32, len: u32) -> Result<Bytes, PageError> {
        match self.0.serve(&PageRequest::Read { segment, offset, len })? {
            PageReply::Data(bytes) => Ok(bytes),
            other => panic!("{other:?}"),
        }
    }
    fn verify(&self, segment: SegmentId) -> Result<u32, PageError> {
        match self.0.serve(&PageRequest::Verify { segment })? {
            PageReply::Verified { len } => Ok(len),
            other => panic!("{other:?}"),
        }
    }
    fn delete(&self, segments: &[SegmentId]) -> Result<(), PageError> {
        match self.0.serve(&PageRequest::Delete { segments: segments.to_vec() })? {
            PageReply::Deleted => Ok(()),
            other => panic!("{other:?}"),
        }
    }
    fn list(&self, after: Option<SegmentId>, limit: u32) -> Result<Vec<SegmentId>, PageError> {
        match self.0.serve(&PageRequest::List { after, limit })? {
            PageReply::Listed(ids) => Ok(ids),
            other => panic!("{other:?}"),
        }
    }
    fn space(&self) -> Result<Space, PageError> {
        match self.0.serve(&PageRequest::Space)? {
            PageReply::Space(space) => Ok(space),
            other => panic!("{other:?}"),
        }
    }
    fn sync(&self) -> Result<(), PageError> {
        self.0.sync_all();
        Ok(())
    }
}

fn local() -> Local {
    Local(RefCell::new(LocalStore::new(VolumeId(1), 1 << 40, Ills::default())))
}

#[test]
fn the_simulated_cluster_keeps_the_contract_of_the_metadata_port() {
    conformance::meta::check(&Kv::new(Durability::AtOnce, u32::MAX));
}

#[test]
fn the_simulated_embedded_store_keeps_the_contract_of_the_metadata_port() {
    conformance::meta::check(&Kv::new(Durability::AtSync, u32::MAX));
}

#[test]
fn the_stores_of_one_machine_on_simulated_disks_keep_both_contracts() {
    conformance::meta::check(&local());
    conformance::pages::check(&Side(local()));
}

#[test]
fn simulated_pages_keep_the_contract_of_the_page_port() {
    for durable_at_once in [false, true] {
        let pages = Pages(RefCell::new(SimPages::new(durable_at_once, 1 << 40)));
        conformance::pages::check(&Side(pages));
    }
}

/// A store that breaks its word is found out.
fn lying(lie: Lie) {
    let kv = Kv::new(Durability::AtSync, u32::MAX);
    kv.store.borrow_mut().0.lie(lie);
    conformance::meta::check(&kv);
}

#[test]
#[should_panic(expected = "against")]
fn a_store_without_conflicts_breaks_the_contract() {
    lying(Lie::NoConflicts);
}

#[test]
#[should_panic(expected = "assertion")]
fn a_store_that_reads_at_no_version_breaks_the_contract() {
    lying(Lie::NewestReads);
}
