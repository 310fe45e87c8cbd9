//! The transport as it is, tasks and sockets included, in madsim's network: latency, loss, partitions also
//! in one direction only, kills and restarts, and a proxy that does harm. Run by `ci/madsim`.
//!
//! A seed decides everything; each one runs twice and must go the same way twice. What fails prints its
//! seed: `VELLUM_TEST_MADSIM=SEED..SEED+1 ci/madsim`.
#![cfg(madsim)]

mod world;

use madsim::net::NetSim;
use madsim::runtime::{Handle, NodeHandle, Runtime};
use madsim::task::NodeId;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;
use vellum_core::peer::Canary;
use world::actors::{Stage, client, server};
use world::dice::Dice;
use world::judge::Judge;
use world::proxy::{Evil, proxy};

/// Seeds of one run of `ci/test`.
const SEEDS: Range<u64> = 0..60;
/// Seeds within which a planted bug is found.
const CANARY_SEEDS: u64 = 40;

#[test]
fn messages_arrive_once_and_in_order_or_are_reported() {
    let mut seen = std::collections::BTreeMap::new();
    let seeds = seeds();
    let enough = seeds.end - seeds.start >= 40;
    for seed in seeds {
        let (first, second) = (watched(seed), watched(seed));
        assert_eq!(
            first.hash(),
            second.hash(),
            "seed {seed} is not deterministic; first difference: {:?}",
            first.lines().iter().zip(second.lines()).find(|(a, b)| a != b)
        );
        for (what, count) in first.seen {
            *seen.entry(what).or_insert(0) += count;
        }
    }
    println!("{seen:?}");
    for what in ["resumed", "away", "gap", "lost", "ended", "refused", "died"] {
        assert!(!enough || seen.get(what).is_some_and(|count| *count > 0), "{what} did not happen");
    }
}

/// Each planted bug is found, so a run without findings says something.
#[test]
fn planted_bugs_are_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let found = Canary::ALL.map(|(name, canary)| {
        let fails = |seed: &u64| run(*seed, Some(canary)).is_err() && run(*seed, None).is_ok();
        (name, (0..CANARY_SEEDS).find(fails))
    });
    let _ = std::panic::take_hook();
    for (name, seed) in found {
        println!(
            "{name}: {}",
            seed.map_or("MISSED".into(), |seed| format!("found by seed {seed}"))
        );
    }
    assert!(found.iter().all(|(_, seed)| seed.is_some()), "{found:?}");
}

fn seeds() -> Range<u64> {
    let Ok(range) = std::env::var("VELLUM_TEST_MADSIM") else { return SEEDS };
    let (begin, end) = range.split_once("..").expect("VELLUM_TEST_MADSIM=BEGIN..END");
    begin.parse().expect("a seed")..end.parse().expect("a seed")
}

fn watched(seed: u64) -> Judge {
    run(seed, None).unwrap_or_else(|_| {
        panic!("seed {seed} failed; again: VELLUM_TEST_MADSIM={seed}..{} ci/madsim", seed + 1)
    })
}

/// On a thread of its own: so hash maps of the standard library begin with the same keys.
fn run(seed: u64, canary: Option<Canary>) -> std::thread::Result<Judge> {
    let world = move || {
        let mut runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
        runtime.set_time_limit(Duration::from_secs(300));
        runtime.block_on(play(seed, canary))
    };
    std::thread::spawn(world).join()
}

/// The processes and what may be done to them.
struct Play {
    stage: Stage,
    dice: Dice,
    server: NodeHandle,
    clients: Vec<NodeHandle>,
    /// Between them, in half of the runs.
    proxy: Option<NodeHandle>,
    evil: Evil,
}

async fn play(seed: u64, canary: Option<Canary>) -> Judge {
    let mut play = Play::new(seed, canary);
    play.safety().await;
    play.heal();
    // New messages with the network well again, then quiet until what was left behind has expired.
    sleep(Duration::from_secs(3)).await;
    play.stage.finish();
    sleep(Duration::from_secs(12)).await;
    play.stage.judge(|judge| {
        if std::env::var_os("VELLUM_TEST_TRACE").is_some() {
            judge.lines().iter().for_each(|line| println!("{line}"));
        }
        judge.all_is_settled();
        std::mem::take(judge)
    })
}

impl Play {
    fn new(seed: u64, canary: Option<Canary>) -> Play {
        let mut dice = Dice::new(seed);
        let stage = Stage::new(Judge::with_lines(), dice.split(), canary);
        let (proxied, count) = (dice.one_in(2), 1 + dice.below(3));
        let evil = Arc::new(AtomicBool::new(true));
        let at = stage.clone();
        let server = node(1, move || server(at.clone(), address(1), |_| {}));
        let proxy = proxied.then(|| {
            let (dice, evil) = (dice.split(), evil.clone());
            node(2, move || proxy(address(2), || address(1), dice.clone(), evil.clone(), |_| {}))
        });
        let goal = address(if proxied { 2 } else { 1 });
        let clients = (0..count)
            .map(|n| {
                let stage = stage.clone();
                node(10 + n as u8, move || client(stage.clone(), goal))
            })
            .collect();
        Play { stage, dice, server, clients, proxy, evil }
    }

    /// Things go wrong for some seconds.
    async fn safety(&mut self) {
        let worst = [0.0, 0.01, 0.1][self.dice.below(3) as usize];
        let slow = Duration::from_millis([10, 100, 700][self.dice.below(3) as usize]);
        NetSim::current().update_config(|config| {
            config.packet_loss_rate = worst;
            config.send_latency = Duration::from_millis(1)..slow;
        });
        for _ in 0..4 + self.dice.below(10) {
            sleep(Duration::from_millis(self.dice.below(1500))).await;
            let (server, client) = (self.server.id(), self.some_client());
            match self.dice.below(6) {
                0 => self.partition(true).await,
                1 | 2 => self.partition(false).await,
                3 => self.restart(server).await,
                4 => self.restart(client).await,
                _ => self.pause().await,
            }
        }
    }

    /// The link between a client and whom it talks to is down, in both directions or in one.
    async fn partition(&mut self, both: bool) {
        let client = self.some_client();
        let other = self.proxy.as_ref().unwrap_or(&self.server).id();
        let (from, to) = if self.dice.one_in(2) { (client, other) } else { (other, client) };
        let net = NetSim::current();
        net.clog_link(from, to);
        if both {
            net.clog_link(to, from);
        }
        // Now and then longer than a session lives without a connection.
        let long = if self.dice.one_in(5) { 8000 } else { 2500 };
        sleep(Duration::from_millis(self.dice.below(long))).await;
        net.unclog_link(from, to);
        net.unclog_link(to, from);
    }

    async fn restart(&mut self, node: NodeId) {
        Handle::current().kill(node);
        sleep(Duration::from_millis(self.dice.below(800))).await;
        Handle::current().restart(node);
    }

    /// Every process stops for a while except those that do not: a zombie's packets come late.
    async fn pause(&mut self) {
        let node = if self.dice.one_in(2) { self.server.id() } else { self.some_client() };
        Handle::current().pause(node);
        sleep(Duration::from_millis(self.dice.below(6000))).await;
        Handle::current().resume(node);
    }

    fn some_client(&mut self) -> NodeId {
        self.clients[self.dice.below(self.clients.len() as u64) as usize].id()
    }

    fn heal(&self) {
        self.evil.store(false, Ordering::Relaxed);
        NetSim::current().update_config(|config| {
            config.packet_loss_rate = 0.0;
            config.send_latency = Duration::from_millis(1)..Duration::from_millis(5);
        });
    }
}

/// A node whose process starts anew with every restart.
fn node<F>(number: u8, process: impl Fn() -> F + Send + Sync + 'static) -> NodeHandle
where
    F: Future<Output = ()> + Send + 'static,
{
    Handle::current().create_node().ip(address(number).ip()).init(process).build()
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)), 700)
}
