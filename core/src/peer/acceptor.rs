//! The side that is connected to: many sessions, each over one connection at a time.

use super::link::{Effects, Link};
use super::{Canary, Config, ConnectionId, Effect, SendError};
use crate::id::SessionId;
use crate::limits::{PEER_GREETING_MAX, PEER_SESSIONS_MAX};
use crate::time::Instant;
use crate::wire::packet::{Hello, Packet, Refusal, VERSIONS};
use alloc::collections::{BTreeMap, BTreeSet};
use bytes::Bytes;
use core::time::Duration;

/// How often connections and sessions are looked at.
const TICK: Duration = Duration::from_millis(250);

/// The machine of the side that is connected to.
#[derive(Debug)]
pub struct Acceptor {
    config: Config,
    /// Connections that have said nothing yet, and until when they may.
    greeting: BTreeMap<ConnectionId, Instant>,
    sessions: BTreeMap<SessionId, Session>,
    /// Whose a connection is. After [`Canary::Duplicates`] also that of a replaced one.
    owners: BTreeMap<ConnectionId, SessionId>,
    /// Sessions that may not know yet what was taken.
    unsettled: BTreeSet<SessionId>,
    /// When to look at all of them.
    tick: Option<Instant>,
    effects: Effects,
}

#[derive(Debug)]
struct Session {
    link: Link,
    /// Of the last connection.
    epoch: u64,
    /// Since when it has none.
    away: Option<Instant>,
}

impl Acceptor {
    /// A machine without sessions.
    pub fn new(config: Config) -> Acceptor {
        Acceptor {
            config,
            greeting: BTreeMap::new(),
            sessions: BTreeMap::new(),
            owners: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            tick: None,
            effects: Effects::new(),
        }
    }

    /// Sends a message to a session, now or when it is back; its sequence.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(
        &mut self,
        now: Instant,
        session: SessionId,
        payload: Bytes,
    ) -> Result<u64, SendError> {
        let session = self.sessions.get_mut(&session).ok_or(SendError::NoPair)?;
        session.link.send(now, payload, &mut self.effects)
    }

    /// Gives up every message to a session that is unacknowledged: [`super::Event::Lost`] here,
    /// [`super::Event::Gap`] there.
    pub fn abandon(&mut self, now: Instant, session: SessionId) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.link.abandon(now, &mut self.effects);
        }
    }

    /// The owner is done with a session's messages up to `sequence`.
    pub fn handle_taken(&mut self, session: SessionId, sequence: u64) {
        if let Some(known) = self.sessions.get_mut(&session) {
            known.link.taken(sequence);
            self.unsettled.insert(session);
        }
    }

    /// Somebody has connected. The host never gives a number twice.
    pub fn handle_connected(&mut self, now: Instant, connection: ConnectionId) {
        if self.greeting.len() >= PEER_GREETING_MAX {
            self.effects.push_back(Effect::Close(connection));
            return;
        }
        self.greeting.insert(connection, now.after(self.config.timing.silence_max));
        self.tick.get_or_insert(now.after(TICK));
    }

    /// A connection was closed by the peer, or broke.
    pub fn handle_closed(&mut self, now: Instant, connection: ConnectionId) {
        self.greeting.remove(&connection);
        self.let_go(now, connection);
    }

    /// A packet has arrived.
    pub fn handle_packet(&mut self, now: Instant, connection: ConnectionId, packet: Packet) {
        if self.greeting.remove(&connection).is_some() {
            match packet {
                Packet::Hello(hello) => self.greet(now, connection, hello),
                _ => self.effects.push_back(Effect::Close(connection)),
            }
            return;
        }
        // A connection that was closed or replaced still delivers what was on its way.
        let Some(owner) = self.owners.get(&connection) else { return };
        let session = self.sessions.get_mut(owner).expect("an owner is a session");
        self.unsettled.insert(*owner);
        if session.link.handle_packet(now, packet, &mut self.effects).is_err() {
            self.effects.push_back(Effect::Close(connection));
            self.let_go(now, connection);
        }
    }

    /// The time named by [`Acceptor::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.tick.is_none_or(|tick| now < tick) {
            return;
        }
        self.give_up_strangers(now);
        self.keep_connections(now);
        self.expire(now);
        let idle = self.greeting.is_empty() && self.sessions.is_empty();
        self.tick = (!idle).then(|| now.after(TICK));
    }

    /// What to do next.
    pub fn poll_effect(&mut self, now: Instant) -> Option<Effect> {
        while self.effects.is_empty()
            && let Some(session) = self.unsettled.pop_first()
        {
            if let Some(session) = self.sessions.get_mut(&session) {
                session.link.settle(now, &mut self.effects);
            }
        }
        self.effects.pop_front()
    }

    /// When to call [`Acceptor::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.tick
    }

    fn greet(&mut self, now: Instant, connection: ConnectionId, hello: Hello) {
        if let Err(refusal) = self.admit(&hello) {
            self.effects.push_back(Effect::Transmit(connection, Packet::Refuse(refusal)));
            self.effects.push_back(Effect::Close(connection));
            return;
        }
        let known = self.sessions.contains_key(&hello.session);
        let session = self.sessions.entry(hello.session).or_insert_with(|| Session {
            link: Link::new(&self.config, hello.session),
            epoch: 0,
            away: None,
        });
        session.epoch = hello.epoch;
        session.away = None;
        let replaced = session.link.connection;
        session.link.away(&mut self.effects);
        let welcome = Packet::Welcome {
            version: VERSIONS.1.min(hello.versions.1),
            session: self.config.session,
            acked: session.link.acked(),
        };
        self.effects.push_back(Effect::Transmit(connection, welcome));
        // What the peer took of another acceptor says nothing of this one's messages.
        let ours = hello.peer == Some(self.config.session);
        let acked = if ours { hello.acked } else { 0 };
        let opened = session.link.open(now, connection, acked, known, &mut self.effects);
        self.owners.insert(connection, hello.session);
        if let Some(replaced) = replaced.filter(|_| !self.config.has(Canary::Duplicates)) {
            self.owners.remove(&replaced);
            self.effects.push_back(Effect::Close(replaced));
        }
        if opened.is_err() {
            self.effects.push_back(Effect::Close(connection));
            self.owners.remove(&connection);
            self.sessions.entry(hello.session).and_modify(|session| session.away = Some(now));
        }
        self.tick.get_or_insert(now.after(TICK));
    }

    fn admit(&self, hello: &Hello) -> Result<(), Refusal> {
        if hello.volume != self.config.volume {
            return Err(Refusal::Volume);
        }
        if hello.versions.1 < VERSIONS.0 || hello.versions.0 > VERSIONS.1 {
            return Err(Refusal::Version);
        }
        let returns = hello.peer == Some(self.config.session);
        match self.sessions.get(&hello.session) {
            Some(known) if hello.epoch <= known.epoch => Err(Refusal::Stale),
            // It was with another acceptor since, and has given this pair up.
            Some(known) if !returns && known.link.is_used() => Err(Refusal::Fenced),
            Some(_) => Ok(()),
            // It was known, and is not: it has ended, and what it relied on may be gone.
            None if returns && !self.config.has(Canary::Revival) => Err(Refusal::Fenced),
            None if self.sessions.len() >= PEER_SESSIONS_MAX => Err(Refusal::Full),
            None => Ok(()),
        }
    }

    /// The connection carries nothing any more.
    fn let_go(&mut self, now: Instant, connection: ConnectionId) {
        let Some(owner) = self.owners.remove(&connection) else { return };
        let session = self.sessions.get_mut(&owner).expect("an owner is a session");
        if session.link.connection == Some(connection) {
            session.link.away(&mut self.effects);
            session.away = Some(now);
        }
    }

    fn give_up_strangers(&mut self, now: Instant) {
        let late = self.greeting.extract_if(.., |_, until| now >= *until);
        self.effects.extend(late.map(|(connection, _)| Effect::Close(connection)));
    }

    fn keep_connections(&mut self, now: Instant) {
        for session in self.sessions.values_mut() {
            let Some(connection) = session.link.connection else { continue };
            if !session.link.keep(now, &self.config.timing, &mut self.effects) {
                self.effects.push_back(Effect::Close(connection));
                self.owners.remove(&connection);
                session.link.away(&mut self.effects);
                session.away = Some(now);
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        let expiry = self.config.timing.expiry;
        let over = |session: &Session| session.away.is_some_and(|away| now >= away.after(expiry));
        let ended = self.sessions.extract_if(.., |_, session| over(session));
        for (id, session) in ended {
            self.owners.retain(|_, owner| *owner != id);
            session.link.end(&mut self.effects);
        }
    }
}
