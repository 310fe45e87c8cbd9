//! What honest peers never do to each other, and bounds. Schedules of honest ones: `peer/tests/machines.rs`.

use super::*;
use crate::limits::{PEER_GREETING_MAX, PEER_MESSAGE_MAX, PEER_WINDOW_MESSAGES};
use crate::time::Instant;
use crate::wire::packet::{Hello, VERSIONS};
use alloc::vec::Vec;

const VOLUME: VolumeId = VolumeId(1);
const HERE: SessionId = SessionId(10);
const THERE: SessionId = SessionId(20);
const ONE: ConnectionId = ConnectionId(1);
const T0: Instant = Instant(0);

fn acceptor() -> Acceptor {
    Acceptor::new(Config::new(VOLUME, HERE, 0))
}

fn hello() -> Hello {
    Hello { versions: VERSIONS, volume: VOLUME, session: THERE, peer: None, epoch: 1, acked: 0 }
}

fn greet(acceptor: &mut Acceptor, connection: ConnectionId, hello: Hello) -> Vec<Effect> {
    acceptor.handle_connected(T0, connection);
    acceptor.handle_packet(T0, connection, Packet::Hello(hello));
    effects(acceptor)
}

fn effects(acceptor: &mut Acceptor) -> Vec<Effect> {
    core::iter::from_fn(|| acceptor.poll_effect(T0)).collect()
}

fn message(sequence: u64) -> Packet {
    Packet::Message { sequence, acked: 0, payload: Bytes::from_static(b"x") }
}

#[test]
fn a_stranger_is_refused_by_reason() {
    let mut full = acceptor();
    for n in 1..=crate::limits::PEER_SESSIONS_MAX as u128 {
        greet(&mut full, ConnectionId(n as u64), Hello { session: SessionId(1000 + n), ..hello() });
    }
    let cases = [
        (acceptor(), Hello { volume: VolumeId(2), ..hello() }, Refusal::Volume),
        (acceptor(), Hello { versions: (7, 9), ..hello() }, Refusal::Version),
        (acceptor(), Hello { peer: Some(HERE), ..hello() }, Refusal::Fenced),
        (full, hello(), Refusal::Full),
    ];
    for (mut acceptor, hello, reason) in cases {
        let new = ConnectionId(1 << 40);
        assert_eq!(
            greet(&mut acceptor, new, hello),
            [Effect::Transmit(new, Packet::Refuse(reason)), Effect::Close(new)]
        );
    }
}

#[test]
fn an_older_connection_never_replaces_a_newer_one() {
    let mut acceptor = acceptor();
    greet(&mut acceptor, ONE, Hello { epoch: 5, ..hello() });
    let two = ConnectionId(2);
    assert_eq!(
        greet(&mut acceptor, two, Hello { epoch: 5, ..hello() }),
        [Effect::Transmit(two, Packet::Refuse(Refusal::Stale)), Effect::Close(two)]
    );
    let three = ConnectionId(3);
    let replaced = greet(&mut acceptor, three, Hello { epoch: 6, ..hello() });
    assert!(replaced.contains(&Effect::Close(ONE)), "{replaced:?}");
    acceptor.handle_packet(T0, ONE, message(1));
    assert_eq!(effects(&mut acceptor), [], "a replaced connection carries nothing");
}

#[test]
fn a_session_that_was_elsewhere_does_not_come_back() {
    let mut acceptor = acceptor();
    greet(&mut acceptor, ONE, hello());
    acceptor.handle_packet(T0, ONE, message(1));
    effects(&mut acceptor);
    let two = ConnectionId(2);
    let answer =
        greet(&mut acceptor, two, Hello { peer: Some(SessionId(99)), epoch: 2, ..hello() });
    assert_eq!(answer[0], Effect::Transmit(two, Packet::Refuse(Refusal::Fenced)));
}

#[test]
fn who_breaks_a_rule_loses_the_connection_and_nothing_else() {
    let breaches = [
        message(2),
        Packet::Alive { acked: 1 },
        Packet::Hello(hello()),
        Packet::Welcome { version: 1, session: THERE, acked: 0 },
        Packet::Refuse(Refusal::Full),
        Packet::Skip { next: 0, acked: 0 },
    ];
    for breach in breaches {
        let mut acceptor = acceptor();
        greet(&mut acceptor, ONE, hello());
        acceptor.handle_packet(T0, ONE, breach.clone());
        let close = [Effect::Close(ONE), Effect::Event(Event::Away { session: THERE })];
        assert_eq!(effects(&mut acceptor), close, "{breach:?}");
        let again =
            greet(&mut acceptor, ConnectionId(2), Hello { peer: Some(HERE), epoch: 2, ..hello() });
        assert!(
            again.contains(&Effect::Event(Event::Opened { session: THERE, resumed: true })),
            "{again:?}"
        );
    }
}

#[test]
fn a_flood_is_cut_off_at_the_window() {
    let mut acceptor = acceptor();
    greet(&mut acceptor, ONE, hello());
    for n in 1..=PEER_WINDOW_MESSAGES as u64 {
        acceptor.handle_packet(T0, ONE, message(n));
    }
    assert!(
        effects(&mut acceptor).iter().all(|e| matches!(e, Effect::Event(Event::Received { .. })))
    );
    acceptor.handle_packet(T0, ONE, message(PEER_WINDOW_MESSAGES as u64 + 1));
    assert_eq!(effects(&mut acceptor)[0], Effect::Close(ONE));
}

#[test]
fn connections_that_say_nothing_are_few_and_short() {
    let mut acceptor = acceptor();
    for n in 0..PEER_GREETING_MAX as u64 {
        acceptor.handle_connected(T0, ConnectionId(n));
    }
    assert_eq!(effects(&mut acceptor), []);
    let surplus = ConnectionId(1 << 40);
    acceptor.handle_connected(T0, surplus);
    assert_eq!(effects(&mut acceptor), [Effect::Close(surplus)]);
    acceptor.handle_timeout(T0.after(Timing::default().silence_max));
    assert_eq!(effects(&mut acceptor).len(), PEER_GREETING_MAX);
}

#[test]
fn the_window_bounds_what_waits_for_an_absent_peer() {
    let mut acceptor = acceptor();
    greet(&mut acceptor, ONE, hello());
    acceptor.handle_closed(T0, ONE);
    let mut send = |len| acceptor.send(T0, THERE, Bytes::from(alloc::vec![0; len]));
    assert_eq!(send(PEER_MESSAGE_MAX + 1), Err(SendError::TooLong));
    for n in 1..=PEER_WINDOW_MESSAGES as u64 {
        assert_eq!(send(1), Ok(n));
    }
    assert_eq!(send(0), Err(SendError::Full));
    assert_eq!(acceptor.send(T0, SessionId(4), Bytes::new()), Err(SendError::NoPair));
    acceptor.abandon(T0, THERE);
    let lost = Event::Lost { session: THERE, first: 1, last: PEER_WINDOW_MESSAGES as u64 };
    assert!(effects(&mut acceptor).contains(&Effect::Event(lost)));
    assert_eq!(
        acceptor.send(T0, THERE, Bytes::new()),
        Ok(PEER_WINDOW_MESSAGES as u64 + 1),
        "what was given up makes room, and sequences go on"
    );
}

#[test]
fn several_messages_are_acknowledged_by_one_packet() {
    let mut acceptor = acceptor();
    greet(&mut acceptor, ONE, hello());
    for n in 1..=5 {
        acceptor.handle_packet(T0, ONE, message(n));
    }
    effects(&mut acceptor);
    (1..=5).for_each(|n| acceptor.handle_taken(THERE, n));
    assert_eq!(effects(&mut acceptor), [Effect::Transmit(ONE, Packet::Alive { acked: 5 })]);
    acceptor.handle_packet(T0, ONE, message(6));
    effects(&mut acceptor);
    acceptor.handle_taken(THERE, 6);
    acceptor.send(T0, THERE, Bytes::new()).expect("there is room");
    let answer = Packet::Message { sequence: 1, acked: 6, payload: Bytes::new() };
    assert_eq!(effects(&mut acceptor), [Effect::Transmit(ONE, answer)], "an answer carries it");
}
