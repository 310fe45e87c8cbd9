//! Both machines against each other, without sockets: any schedule of packets, breaks and restarts.

mod world;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use vellum_core::id::{SessionId, VolumeId};
use vellum_core::peer::{
    Acceptor, Canary, Config, ConnectionId, Connector, Effect, Event, SendError,
};
use vellum_core::time::Instant;
use vellum_core::wire::packet::Packet;
use world::judge::Judge;

const VOLUME: VolumeId = VolumeId(7);

/// One thing that happens. Indexes are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    /// The client sends so many messages.
    Ask(u8),
    /// The server sends so many.
    Tell(u8),
    /// So many packets of some connection arrive at the server, or at the client.
    ToServer(usize, u8),
    ToClient(usize, u8),
    /// A connection that was asked for comes about, or does not.
    Connect(bool),
    /// Somebody notices that a connection is gone. The other side may not, for long.
    BreakAtClient(usize),
    BreakAtServer(usize),
    /// The owners are done with so many messages.
    TakeAtClient(u8),
    TakeAtServer(u8),
    /// They give up what is unacknowledged.
    AbandonAtClient,
    AbandonAtServer,
    /// So many milliseconds pass.
    Wait(u16),
    /// A process dies, and another takes its place.
    RestartClient,
    RestartServer,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1u8..5).prop_map(Step::Ask),
        8 => (1u8..5).prop_map(Step::Tell),
        24 => (any::<usize>(), 1u8..9).prop_map(|(n, k)| Step::ToServer(n, k)),
        24 => (any::<usize>(), 1u8..9).prop_map(|(n, k)| Step::ToClient(n, k)),
        16 => prop::bool::weighted(0.9).prop_map(Step::Connect),
        3 => any::<usize>().prop_map(Step::BreakAtClient),
        2 => any::<usize>().prop_map(Step::BreakAtServer),
        12 => (1u8..9).prop_map(Step::TakeAtClient),
        12 => (1u8..9).prop_map(Step::TakeAtServer),
        1 => Just(Step::AbandonAtClient),
        1 => Just(Step::AbandonAtServer),
        8 => (1u16..400).prop_map(Step::Wait),
        1 => Just(Step::Wait(6000)),
        1 => Just(Step::RestartClient),
        1 => Just(Step::RestartServer),
    ]
}

/// Two processes and the connections between them.
struct World {
    now: Instant,
    client: Connector,
    client_id: SessionId,
    server: Acceptor,
    server_id: SessionId,
    wires: BTreeMap<ConnectionId, Wire>,
    /// Connections that the client has asked for, by its own numbers.
    asked: VecDeque<ConnectionId>,
    /// What owners were given and are not done with.
    at_client: VecDeque<(SessionId, u64)>,
    at_server: VecDeque<(SessionId, u64)>,
    /// Whom the client is connected to.
    peer: Option<SessionId>,
    started: u64,
    sent: u64,
    canary: Option<Canary>,
    judge: Judge,
}

/// A connection as the server numbers it.
#[derive(Default)]
struct Wire {
    /// The client's number, while the client has not closed it.
    client: Option<ConnectionId>,
    server: bool,
    to_server: VecDeque<Packet>,
    to_client: VecDeque<Packet>,
}

impl World {
    fn new(canary: Option<Canary>) -> World {
        let (client_id, server_id) = (SessionId(1), SessionId(2));
        let mut world = World {
            now: Instant(0),
            client: Connector::new(config(client_id, canary), Instant(0)),
            client_id,
            server: Acceptor::new(config(server_id, canary)),
            server_id,
            wires: BTreeMap::new(),
            asked: VecDeque::new(),
            at_client: VecDeque::new(),
            at_server: VecDeque::new(),
            peer: None,
            started: 2,
            sent: 0,
            canary,
            judge: Judge::default(),
        };
        world.settle();
        world
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Ask(count) => self.ask(count),
            Step::Tell(count) => self.tell(count),
            Step::ToServer(wire, count) => self.arrive_at_server(wire, count),
            Step::ToClient(wire, count) => self.arrive_at_client(wire, count),
            Step::Connect(well) => self.connect(well),
            Step::BreakAtClient(wire) => self.break_at_client(wire),
            Step::BreakAtServer(wire) => self.break_at_server(wire),
            Step::TakeAtClient(count) => self.take_at_client(count),
            Step::TakeAtServer(count) => self.take_at_server(count),
            Step::AbandonAtClient => {
                if let Some(peer) = self.peer {
                    self.client.abandon(self.now, peer);
                }
            }
            Step::AbandonAtServer => self.server.abandon(self.now, self.client_id),
            Step::Wait(ms) => self.wait(Duration::from_millis(ms.into())),
            Step::RestartClient => self.restart_client(),
            Step::RestartServer => self.restart_server(),
        }
        self.settle();
    }

    fn ask(&mut self, count: u8) {
        let Some(peer) = self.peer else { return };
        for _ in 0..count {
            let payload = self.payload();
            let expected = self.judge.sends(self.client_id, peer, payload.clone());
            let sent = self.client.send(self.now, peer, payload);
            self.judged(sent, expected, self.client_id, peer);
        }
    }

    fn tell(&mut self, count: u8) {
        for _ in 0..count {
            let payload = self.payload();
            let expected = self.judge.sends(self.server_id, self.client_id, payload.clone());
            let sent = self.server.send(self.now, self.client_id, payload);
            self.judged(sent, expected, self.server_id, self.client_id);
        }
    }

    fn judged(
        &mut self,
        sent: Result<u64, SendError>,
        expected: u64,
        from: SessionId,
        to: SessionId,
    ) {
        match sent {
            Ok(sequence) => {
                assert_eq!(sequence, expected);
                self.judge.accepted(from, to);
            }
            Err(_) => self.judge.retract(from, to),
        }
        self.settle();
    }

    fn payload(&mut self) -> Bytes {
        self.sent += 1;
        Bytes::copy_from_slice(&self.sent.to_le_bytes())
    }

    fn wire(&self, n: usize) -> Option<ConnectionId> {
        // What happens to old ones matters less.
        let recent = self.wires.len().min(3);
        self.wires.keys().rev().nth(n.checked_rem(recent)?).copied()
    }

    fn arrive_at_server(&mut self, n: usize, count: u8) {
        let Some(id) = self.wire(n) else { return };
        for _ in 0..count {
            let wire = self.wires.get_mut(&id).expect("it is one of them");
            match wire.to_server.pop_front() {
                Some(packet) if wire.server => self.server.handle_packet(self.now, id, packet),
                Some(_) => {}
                None if wire.server && wire.client.is_none() => {
                    wire.server = false;
                    self.server.handle_closed(self.now, id);
                }
                None => {}
            }
            self.settle();
        }
    }

    fn arrive_at_client(&mut self, n: usize, count: u8) {
        let Some(id) = self.wire(n) else { return };
        for _ in 0..count {
            let wire = self.wires.get_mut(&id).expect("it is one of them");
            match (wire.to_client.pop_front(), wire.client) {
                (Some(packet), Some(client)) => {
                    self.client.handle_packet(self.now, client, packet);
                }
                (None, Some(client)) if !wire.server => {
                    wire.client = None;
                    self.client.handle_closed(self.now, client);
                }
                _ => {}
            }
            self.settle();
        }
    }

    fn connect(&mut self, well: bool) {
        let Some(client) = self.asked.pop_front() else { return };
        if !well {
            self.client.handle_closed(self.now, client);
            return;
        }
        let id = ConnectionId(self.wires.keys().next_back().map_or(1, |last| last.0 + 1));
        self.wires.insert(id, Wire { client: Some(client), server: true, ..Wire::default() });
        self.server.handle_connected(self.now, id);
        self.client.handle_connected(self.now, client);
    }

    fn break_at_client(&mut self, n: usize) {
        let Some(id) = self.wire(n) else { return };
        if let Some(client) = self.wires.get_mut(&id).and_then(|wire| wire.client.take()) {
            self.client.handle_closed(self.now, client);
        }
    }

    fn break_at_server(&mut self, n: usize) {
        let Some(id) = self.wire(n) else { return };
        if std::mem::take(&mut self.wires.get_mut(&id).expect("it is one of them").server) {
            self.server.handle_closed(self.now, id);
        }
    }

    fn take_at_client(&mut self, count: u8) {
        for _ in 0..count {
            let Some((from, sequence)) = self.at_client.pop_front() else { return };
            self.judge.taken(self.client_id, from, sequence);
            self.client.handle_taken(from, sequence);
        }
    }

    fn take_at_server(&mut self, count: u8) {
        for _ in 0..count {
            let Some((from, sequence)) = self.at_server.pop_front() else { return };
            self.judge.taken(self.server_id, from, sequence);
            self.server.handle_taken(from, sequence);
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now.after(time);
        loop {
            let timeouts = [self.client.poll_timeout(), self.server.poll_timeout()];
            let next = timeouts.into_iter().flatten().min().filter(|next| *next < until);
            self.now = self.now.max(next.unwrap_or(until));
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.settle();
            if next.is_none() {
                return;
            }
        }
    }

    fn restart_client(&mut self) {
        self.judge.died(self.client_id);
        self.client_id = self.new_session();
        self.client = Connector::new(config(self.client_id, self.canary), self.now);
        self.asked.clear();
        self.at_client.clear();
        self.peer = None;
        self.wires.values_mut().for_each(|wire| wire.client = None);
    }

    fn restart_server(&mut self) {
        self.judge.died(self.server_id);
        self.server_id = self.new_session();
        self.server = Acceptor::new(config(self.server_id, self.canary));
        self.at_server.clear();
        self.wires.values_mut().for_each(|wire| wire.server = false);
    }

    fn new_session(&mut self) -> SessionId {
        self.started += 1;
        SessionId(self.started.into())
    }

    /// Performs what the machines ask for.
    fn settle(&mut self) {
        while let Some(effect) = self.client.poll_effect(self.now) {
            let of = |client| move |wire: &&mut Wire| wire.client == Some(client);
            match effect {
                Effect::Connect(client) => self.asked.push_back(client),
                Effect::Transmit(client, packet) => {
                    if let Some(wire) = self.wires.values_mut().find(of(client)) {
                        wire.to_server.push_back(packet);
                    }
                }
                Effect::Close(client) => {
                    self.asked.retain(|asked| *asked != client);
                    self.wires
                        .values_mut()
                        .find(of(client))
                        .into_iter()
                        .for_each(|w| w.client = None);
                }
                Effect::Event(event) => self.client_learns(&event),
            }
        }
        while let Some(effect) = self.server.poll_effect(self.now) {
            match effect {
                Effect::Connect(_) => unreachable!("an acceptor does not connect"),
                Effect::Transmit(id, packet) => {
                    if let Some(wire) = self.wires.get_mut(&id).filter(|wire| wire.server) {
                        wire.to_client.push_back(packet);
                    }
                }
                Effect::Close(id) => self.wires.entry(id).or_default().server = false,
                Effect::Event(event) => self.server_learns(&event),
            }
        }
    }

    fn client_learns(&mut self, event: &Event) {
        self.judge.event(self.client_id, event);
        match event {
            Event::Opened { session, .. } => self.peer = Some(*session),
            Event::Received { session, sequence, .. } => {
                self.at_client.push_back((*session, *sequence))
            }
            Event::Ended { session } => self.at_client.retain(|(from, _)| from != session),
            _ => {}
        }
    }

    fn server_learns(&mut self, event: &Event) {
        self.judge.event(self.server_id, event);
        match event {
            Event::Received { session, sequence, .. } => {
                self.at_server.push_back((*session, *sequence))
            }
            Event::Ended { session } => self.at_server.retain(|(from, _)| from != session),
            _ => {}
        }
    }

    /// Nothing breaks any more, everything is delivered, owners are quick.
    fn heal(&mut self) {
        for _ in 0..300 {
            for n in 0..self.wires.len() {
                self.arrive_at_server(n, 200);
                self.arrive_at_client(n, 200);
            }
            self.connect(true);
            self.settle();
            self.take_at_client(200);
            self.take_at_server(200);
            self.settle();
            self.wait(Duration::from_millis(200));
        }
        self.judge.all_is_settled();
    }
}

fn config(session: SessionId, canary: Option<Canary>) -> Config {
    let mut config = Config::new(VOLUME, session, session.0 as u64);
    config.timing.keep_alive = Duration::from_millis(300);
    config.timing.silence_max = Duration::from_millis(1500);
    config.timing.expiry = Duration::from_secs(5);
    match canary {
        Some(canary) => config.planted(canary),
        None => config,
    }
}

fn check(steps: &[Step], canary: Option<Canary>) -> Judge {
    let mut world = World::new(canary);
    steps.iter().for_each(|step| world.run(step));
    world.heal();
    world.judge
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_arrive_once_and_in_order_or_are_reported(steps in prop::collection::vec(step(), 1..250)) {
        check(&steps, None);
    }
}

/// The schedules above are worth something: each planted bug is found by some of them.
#[test]
fn planted_bugs_are_found() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = Canary::ALL.map(|(name, canary)| (name, first_failure(canary)));
    std::panic::set_hook(hook);
    for (name, schedule) in found {
        println!("{name}: {schedule:?}");
        assert!(schedule.is_some(), "{name} was not found");
    }
}

/// The number of the first schedule that shows it.
fn first_failure(canary: Canary) -> Option<u64> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let schedules = prop::collection::vec(step(), 200..250);
    (1..=400).find(|_| {
        let steps = schedules.new_tree(&mut runner).expect("a schedule").current();
        catch_unwind(AssertUnwindSafe(|| check(&steps, Some(canary)))).is_err()
    })
}

/// What rarely happens does happen in these schedules.
#[test]
fn schedules_reach_what_they_are_for() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let schedules = prop::collection::vec(step(), 200..250);
    let mut seen = BTreeMap::new();
    for _ in 0..100 {
        let steps = schedules.new_tree(&mut runner).expect("a schedule").current();
        for (what, count) in check(&steps, None).seen {
            *seen.entry(what).or_insert(0) += count;
        }
    }
    println!("{seen:?}");
    for what in ["resumed", "gap", "lost", "ended", "refused", "acknowledged", "received", "died"] {
        assert!(seen.get(what).is_some_and(|count| *count > 10), "{what}: {seen:?}");
    }
}
