//! The processes of a test: clients that ask, a server that echoes. The same on any network.

use super::dice::Dice;
use super::judge::Judge;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use vellum_core::id::{SessionId, VolumeId};
use vellum_core::peer::{Canary, Config, Event};
use vellum_peer::echo::{Echo, echo};
use vellum_peer::{Peer, dial, listen};

/// What every process of a test knows. Survives them all.
#[derive(Clone)]
pub(crate) struct Stage(Arc<Mutex<Inner>>);

struct Inner {
    judge: Judge,
    dice: Dice,
    begin: Instant,
    canary: Option<Canary>,
    /// Clients say no more new things.
    over: bool,
}

impl Stage {
    /// Called inside of the runtime whose time it is to note.
    pub(crate) fn new(judge: Judge, dice: Dice, canary: Option<Canary>) -> Stage {
        Stage(Arc::new(Mutex::new(Inner {
            judge,
            dice,
            begin: Instant::now(),
            canary,
            over: false,
        })))
    }

    /// Clients say no more new things.
    pub(crate) fn finish(&self) {
        self.lock().over = true;
    }

    /// The judge, when all is done.
    pub(crate) fn judge<R>(&self, ask: impl FnOnce(&mut Judge) -> R) -> R {
        ask(&mut self.lock().judge)
    }

    /// Dice of its own for a process.
    pub(crate) fn dice(&self) -> Dice {
        self.lock().dice.split()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no rule was broken before")
    }

    fn config(&self) -> Config {
        let mut inner = self.lock();
        let session =
            SessionId(u128::from(inner.dice.next()) << 64 | u128::from(inner.dice.next()));
        let mut config = Config::new(VolumeId(1), session, inner.dice.next());
        config.timing.keep_alive = Duration::from_millis(200);
        config.timing.silence_max = Duration::from_secs(1);
        config.timing.expiry = Duration::from_secs(4);
        config.timing.retry_min = Duration::from_millis(20);
        config.timing.retry_max = Duration::from_millis(400);
        match inner.canary {
            Some(canary) => config.planted(canary),
            None => config,
        }
    }

    fn event(&self, me: SessionId, event: &Event) {
        let mut inner = self.lock();
        let at = inner.begin.elapsed().as_nanos() as u64;
        inner.judge.note(at, (me, event));
        inner.judge.event(me, event);
    }
}

/// Tells the judge when a process is gone, however it went.
struct Life(Stage, SessionId);

impl Drop for Life {
    fn drop(&mut self) {
        if let Ok(mut inner) = self.0.0.lock() {
            inner.judge.died(self.1);
        }
    }
}

/// A server that echoes until it is killed.
pub(crate) async fn server(stage: Stage, address: SocketAddr, bound: impl FnOnce(SocketAddr)) {
    let config = stage.config();
    let mut dice = stage.dice();
    let me = config.session;
    let (address, peer) = listen(config, address).await.expect("the address is free");
    let _life = Life(stage.clone(), me);
    bound(address);
    let mut echoes = Echo::new(peer);
    while let Some(event) = echoes.event().await {
        stage.event(me, &event);
        if dice.one_in(8) {
            // Whoever arrives and is not taken is not acknowledged; a kill may come in here.
            sleep(Duration::from_millis(dice.below(40))).await;
        }
        if let Event::Received { session, sequence, payload } = &event {
            stage.judge(|judge| {
                judge.sends(me, *session, echo(*sequence, payload));
                judge.taken(me, *session, *sequence);
            });
        }
        for (session, sent) in echoes.handle(event).await {
            if sent.is_ok() {
                stage.judge(|judge| judge.accepted(me, session));
            }
        }
    }
}

/// A client that asks, and counts echoes, until it is killed.
pub(crate) async fn client(stage: Stage, address: SocketAddr) {
    let config = stage.config();
    let dice = stage.dice();
    let me = config.session;
    let _life = Life(stage.clone(), me);
    let peer = dial(config, address);
    Client { stage, dice, me, peer, other: None, asked: 0, echoed: BTreeSet::new() }.run().await;
}

struct Client {
    stage: Stage,
    dice: Dice,
    me: SessionId,
    peer: Peer,
    /// Whom it is connected to.
    other: Option<SessionId>,
    asked: u64,
    echoed: BTreeSet<(SessionId, u64)>,
}

impl Client {
    async fn run(mut self) {
        loop {
            let pause = Duration::from_micros(self.dice.below(60_000));
            tokio::select! {
                biased;
                event = self.peer.event() => match event {
                    Some(event) => self.learn(event).await,
                    None => return,
                },
                () = sleep(pause) => self.ask().await,
            }
        }
    }

    async fn ask(&mut self) {
        let (Some(other), false) = (self.other, self.stage.lock().over) else { return };
        if self.dice.one_in(400) {
            self.peer.abandon(other).await;
        }
        for _ in 0..=self.dice.below(4) {
            let payload = self.payload();
            let expected = self.stage.judge(|judge| judge.sends(self.me, other, payload.clone()));
            match self.peer.send(other, payload).await {
                Ok(sequence) => {
                    assert_eq!(sequence, expected, "sequences have no holes");
                    self.stage.judge(|judge| judge.accepted(self.me, other));
                }
                Err(_) => self.stage.judge(|judge| judge.retract(self.me, other)),
            }
        }
    }

    /// Now and then it takes many segments of TCP.
    fn payload(&mut self) -> Bytes {
        self.asked += 1;
        let len = if self.dice.one_in(20) { self.dice.below(60_000) } else { self.dice.below(200) };
        let mut payload = self.asked.to_le_bytes().to_vec();
        payload.resize(8 + len as usize, self.asked as u8);
        payload.into()
    }

    async fn learn(&mut self, event: Event) {
        self.stage.event(self.me, &event);
        match event {
            Event::Opened { session, .. } => self.other = Some(session),
            Event::Received { session, sequence, payload } => {
                let asked =
                    u64::from_le_bytes(payload[..8].try_into().expect("an echo has a sequence"));
                assert!(self.echoed.insert((session, asked)), "message {asked} was echoed twice");
                if self.dice.one_in(10) {
                    sleep(Duration::from_millis(self.dice.below(10))).await;
                }
                self.stage.judge(|judge| judge.taken(self.me, session, sequence));
                self.peer.taken(session, sequence).await;
            }
            _ => {}
        }
    }
}
