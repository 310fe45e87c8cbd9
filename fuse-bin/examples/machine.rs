//! What the machine and its stores cost for each operation, without a kernel: nanoseconds on one thread.
//!
//! usage: cargo run --release -p vellum --example machine [COUNT [ROW]]
//!
//! Made for profilers: `perf record`, `valgrind --tool=callgrind`.

use bytes::Bytes;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;
use vellum::host::{Host, Respond, Stores};
use vellum_core::client::{Client, ClientConfig};
use vellum_core::id::{Handle, Ino, RequestId};
use vellum_core::port::control::{Control, FormatOptions};
use vellum_core::port::kernel::{Caller, OpenFlags, Operation, Reply, Request, WriteFlags};
use vellum_drivers::volume::{fresh_hash_key, fresh_session};
use vellum_drivers::{LocalVolume, OpenMode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut args = std::env::args().skip(1);
    let count: u64 = args.next().map_or(20_000, |a| a.parse().expect("COUNT is a number"));
    let only = args.next();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let world = World::new(&dir.path().join("volume"));
    println!("{:<28}{:>10}", "operation", "ns");
    for (name, row) in ROWS {
        if only.as_deref().is_none_or(|only| name.contains(only)) {
            row(&world, count.min(1000));
            let begin = Instant::now();
            row(&world, count);
            let each = begin.elapsed().as_nanos() / u128::from(count);
            println!("{name:<28}{each:>10}");
        }
    }
}

type Row = fn(&World, u64);

const ROWS: &[(&str, Row)] = &[
    ("getattr /", |w, n| (0..n).for_each(|_| w.getattr(Ino::ROOT))),
    ("lookup, absent", |w, n| (0..n).for_each(|i| w.absent(&format!("absent{i}")))),
    ("create, release, unlink", |w, n| (0..n).for_each(|i| w.create_and_remove(i))),
    ("rename", |w, n| w.renames(n)),
    ("write 4 KiB", |w, n| w.writes(n)),
    ("read 4 KiB of a small file", |w, n| w.reads(n)),
];

/// A mounted machine and a way to wait for its answers.
struct World {
    host: Arc<Host<Slot>>,
    /// The id of the next request.
    asked: AtomicU64,
}

thread_local! {
    static ANSWER: RefCell<Option<Reply>> = const { RefCell::new(None) };
}

/// Where an answer goes: to this thread if it was given at once, else through the channel.
struct Slot(mpsc::Sender<Reply>, std::thread::ThreadId);

impl Respond for Slot {
    fn respond(self, reply: Reply) -> Vec<Operation> {
        if std::thread::current().id() == self.1 {
            ANSWER.with(|slot| *slot.borrow_mut() = Some(reply));
        } else {
            let _ = self.0.send(reply);
        }
        Vec::new()
    }
}

impl World {
    fn new(volume: &std::path::Path) -> World {
        let local = LocalVolume::open(volume, OpenMode::CreateIfEmpty).expect("a volume");
        let session = fresh_session();
        let stores = Stores::local(&local.kv, &local.pages);
        let client = Client::new(ClientConfig::sole(session, 1));
        let host = Host::start(client, stores).expect("threads");
        let options = FormatOptions {
            volume: local.id,
            hash_key: fresh_hash_key(),
            hash_bits: 60,
            uid: 0,
            gid: 0,
            mode: 0o755,
            limit: Default::default(),
        };
        host.ask(Control::Format(options)).recv().expect("formatted");
        host.ask(Control::Mount).recv().expect("mounted");
        World { host, asked: AtomicU64::new(2) }
    }

    fn ask(&self, op: Operation) -> Reply {
        let (send, receive) = mpsc::channel();
        let caller = Caller { uid: 0, gid: 0, pid: 1 };
        let id = RequestId(self.asked.fetch_add(2, Ordering::Relaxed));
        self.host.request(id, Request { caller, op }, Slot(send, std::thread::current().id()));
        let here = ANSWER.with(|slot| slot.borrow_mut().take());
        here.unwrap_or_else(|| receive.recv().expect("an answer"))
    }

    fn getattr(&self, ino: Ino) {
        assert!(matches!(self.ask(Operation::GetAttr { ino, handle: None }), Reply::Attr { .. }));
    }

    fn absent(&self, name: &str) {
        let op = Operation::Lookup { parent: Ino::ROOT, name: bytes(name) };
        assert!(matches!(self.ask(op), Reply::Entry(entry) if entry.attr.is_none()));
    }

    fn create(&self, name: &str) -> (Ino, Handle) {
        let op = Operation::Create {
            parent: Ino::ROOT,
            name: bytes(name),
            mode: 0o644,
            umask: 0,
            flags: OpenFlags(0o102),
        };
        match self.ask(op) {
            Reply::Created { entry, opened } => (entry.attr.expect("new").ino, opened.handle),
            other => panic!("{other:?}"),
        }
    }

    fn release(&self, ino: Ino, handle: Handle) {
        assert!(matches!(self.ask(Operation::Release { ino, handle }), Reply::Done));
    }

    fn create_and_remove(&self, n: u64) {
        let name = format!("file{n}");
        let (ino, handle) = self.create(&name);
        self.release(ino, handle);
        self.host.tell(Operation::Forget { nodes: vec![(ino, 1)] });
        let op = Operation::Unlink { parent: Ino::ROOT, name: bytes(&name) };
        assert!(matches!(self.ask(op), Reply::Done));
    }

    fn renames(&self, count: u64) {
        let (ino, handle) = self.create("a");
        self.release(ino, handle);
        for n in 0..count {
            let (from, to) = if n % 2 == 0 { ("a", "b") } else { ("b", "a") };
            let op = Operation::Rename {
                parent: Ino::ROOT,
                name: bytes(from),
                new_parent: Ino::ROOT,
                new_name: bytes(to),
                flags: 0,
            };
            assert!(matches!(self.ask(op), Reply::Done));
        }
    }

    fn writes(&self, count: u64) {
        let (ino, handle) = self.create("written");
        let data = Bytes::from(vec![7; 4096]);
        for n in 0..count {
            let op = Operation::Write {
                ino,
                handle,
                offset: n % 4096 * 4096,
                data: data.clone(),
                flags: WriteFlags::default(),
            };
            assert!(matches!(self.ask(op), Reply::Written(4096)));
        }
        self.release(ino, handle);
    }

    fn reads(&self, count: u64) {
        let (ino, handle) = self.create("small");
        let data = Bytes::from(vec![7; 4000]);
        let flags = WriteFlags::default();
        self.ask(Operation::Write { ino, handle, offset: 0, data, flags });
        self.ask(Operation::Fsync { ino, handle, datasync: false });
        for _ in 0..count {
            let op = Operation::Read { ino, handle, offset: 0, len: 4096 };
            assert!(matches!(self.ask(op), Reply::Data(_)));
        }
        self.release(ino, handle);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.host.ask(Control::Unmount).recv();
        self.host.stop();
    }
}

fn bytes(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}
