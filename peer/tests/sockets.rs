//! The transport on real sockets over the loopback: clients, a proxy that does harm, restarts.
#![cfg(not(madsim))]

mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use world::actors::{Stage, client, server};
use world::dice::Dice;
use world::judge::Judge;
use world::proxy::proxy;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

#[test]
fn messages_survive_cuts_flipped_bits_and_restarts() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let stage = runtime.expect("a runtime").block_on(play(7));
    stage.judge(|judge| {
        judge.all_is_settled();
        println!("{:?}", judge.seen);
        let (sent, acked) = judge.sent_and_acked();
        assert!(acked > 100 && acked <= sent, "{acked} of {sent}");
        for what in ["resumed", "away", "died", "ended"] {
            assert!(judge.seen.contains_key(what), "{what} did not happen");
        }
    });
}

async fn play(seed: u64) -> Stage {
    let mut dice = Dice::new(seed);
    let stage = Stage::new(Judge::default(), dice.split(), None);
    let (upstream, address) = (Slot::default(), Slot::default());
    let evil = Arc::new(AtomicBool::new(true));
    let mut echoes = start_server(&stage, &upstream).await;
    let behind = upstream.clone();
    let proxied = proxy(ANY, move || behind.get(), dice.split(), evil.clone(), address.setter());
    let proxied = tokio::spawn(proxied);
    let address = address.filled().await;
    let start_client = || tokio::spawn(client(stage.clone(), address));
    let mut clients: Vec<JoinHandle<()>> = (0..3).map(|_| start_client()).collect();

    for round in 0..6 {
        sleep(Duration::from_millis(300 + dice.below(300))).await;
        if round % 2 == 0 {
            end(&mut clients[dice.below(3) as usize], start_client()).await;
        } else {
            echoes.abort();
            let _ = (&mut echoes).await;
            echoes = start_server(&stage, &upstream).await;
        }
    }
    evil.store(false, Ordering::Relaxed);
    sleep(Duration::from_millis(500)).await;
    stage.finish();
    // A session that was left behind is kept for some seconds; on a busy machine all of it takes longer.
    for _ in 0..120 {
        sleep(Duration::from_millis(500)).await;
        if stage.judge(|judge| judge.unsettled().is_none()) {
            break;
        }
    }
    let result = stage.clone();
    for task in clients.iter().chain([&echoes, &proxied]) {
        assert!(!task.is_finished(), "a process has panicked");
    }
    result
}

/// Ends a process, and puts another in its place.
async fn end(task: &mut JoinHandle<()>, next: JoinHandle<()>) {
    let old = std::mem::replace(task, next);
    old.abort();
    let ended = old.await;
    assert!(ended.is_err_and(|error| error.is_cancelled()), "a process has panicked");
}

async fn start_server(stage: &Stage, upstream: &Slot) -> JoinHandle<()> {
    upstream.0.lock().expect("no panic").take();
    let task = tokio::spawn(server(stage.clone(), ANY, upstream.setter()));
    upstream.filled().await;
    task
}

/// An address that is known later.
#[derive(Clone, Default)]
struct Slot(Arc<Mutex<Option<SocketAddr>>>);

impl Slot {
    fn setter(&self) -> impl FnOnce(SocketAddr) + use<> {
        let slot = self.0.clone();
        move |address| *slot.lock().expect("no panic") = Some(address)
    }

    fn get(&self) -> SocketAddr {
        self.0.lock().expect("no panic").unwrap_or(ANY)
    }

    async fn filled(&self) -> SocketAddr {
        loop {
            if let Some(address) = *self.0.lock().expect("no panic") {
                return address;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
}
