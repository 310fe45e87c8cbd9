//! The side that connects: one peer at a time, over one connection after the other.

use super::link::{Effects, Link};
use super::{Config, ConnectionId, Effect, Event, SendError};
use crate::id::SessionId;
use crate::time::Instant;
use crate::wire::packet::{Hello, Packet, Refusal, VERSIONS};
use bytes::Bytes;
use core::time::Duration;

/// The machine of the side that connects.
#[derive(Debug)]
pub struct Connector {
    config: Config,
    state: State,
    /// The pair with the peer that was greeted last.
    link: Option<Link>,
    /// The last connection; its number is the epoch.
    last: ConnectionId,
    /// Wait before the next connection.
    retry: Duration,
    /// State of the generator that spreads retries.
    spread: u64,
    effects: Effects,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No connection; the next one when this time comes.
    Waiting { until: Instant },
    /// The host connects. Given up when this time comes.
    Connecting { until: Instant },
    /// Hello was said. Given up when this time comes.
    Greeting { until: Instant },
    /// The link carries it.
    Open,
    /// Nothing happens any more.
    Ended,
}

impl Connector {
    /// A machine that connects at once.
    pub fn new(config: Config, now: Instant) -> Connector {
        let retry = config.timing.retry_min;
        let spread = config.seed | 1;
        let mut connector = Connector {
            config,
            state: State::Waiting { until: now },
            link: None,
            last: ConnectionId(0),
            retry,
            spread,
            effects: Effects::new(),
        };
        connector.handle_timeout(now);
        connector
    }

    /// Sends a message to the peer, now or when there is a connection; its sequence. A message is for one
    /// session: there is no pair with a peer that was replaced.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(
        &mut self,
        now: Instant,
        session: SessionId,
        payload: Bytes,
    ) -> Result<u64, SendError> {
        let link = self.link.as_mut().filter(|link| link.remote == session);
        link.ok_or(SendError::NoPair)?.send(now, payload, &mut self.effects)
    }

    /// Gives up every message that is unacknowledged: [`Event::Lost`] here, [`Event::Gap`] there.
    pub fn abandon(&mut self, now: Instant, session: SessionId) {
        if let Some(link) = self.link.as_mut().filter(|link| link.remote == session) {
            link.abandon(now, &mut self.effects);
        }
    }

    /// The owner is done with the peer's messages up to `sequence`.
    pub fn handle_taken(&mut self, session: SessionId, sequence: u64) {
        if let Some(link) = self.link.as_mut().filter(|link| link.remote == session) {
            link.taken(sequence);
        }
    }

    /// [`Effect::Connect`] was performed.
    pub fn handle_connected(&mut self, now: Instant, connection: ConnectionId) {
        if connection != self.last || !matches!(self.state, State::Connecting { .. }) {
            return;
        }
        let hello = Hello {
            versions: VERSIONS,
            volume: self.config.volume,
            session: self.config.session,
            peer: self.link.as_ref().map(|link| link.remote),
            epoch: connection.0,
            acked: self.link.as_ref().map_or(0, Link::acked),
        };
        self.state = State::Greeting { until: now.after(self.config.timing.silence_max) };
        self.effects.push_back(Effect::Transmit(connection, Packet::Hello(hello)));
    }

    /// A connection could not be made, was closed by the peer, or broke.
    pub fn handle_closed(&mut self, now: Instant, connection: ConnectionId) {
        if connection == self.last {
            self.disconnected(now);
        }
    }

    /// A packet has arrived.
    pub fn handle_packet(&mut self, now: Instant, connection: ConnectionId, packet: Packet) {
        if connection != self.last {
            return;
        }
        let legal = match (self.state, packet) {
            (State::Greeting { .. }, Packet::Welcome { version, session, acked }) => {
                self.welcomed(now, version, session, acked)
            }
            (State::Greeting { .. }, Packet::Refuse(refusal)) => {
                self.refused(now, refusal);
                true
            }
            (State::Open, packet) => {
                let link = self.link.as_mut().expect("an open connection has a link");
                link.handle_packet(now, packet, &mut self.effects).is_ok()
            }
            // What arrives of a connection that was given up.
            (State::Waiting { .. } | State::Ended, _) => true,
            (State::Connecting { .. } | State::Greeting { .. }, _) => false,
        };
        if !legal {
            self.hang_up(now);
        }
    }

    /// The time named by [`Connector::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Waiting { until } if now >= until => {
                self.last.0 += 1;
                let until = now.after(self.config.timing.silence_max);
                self.state = State::Connecting { until };
                self.effects.push_back(Effect::Connect(self.last));
            }
            State::Connecting { until } | State::Greeting { until } if now >= until => {
                self.hang_up(now);
            }
            State::Open => {
                let link = self.link.as_mut().expect("an open connection has a link");
                if !link.keep(now, &self.config.timing, &mut self.effects) {
                    self.hang_up(now);
                }
            }
            _ => {}
        }
    }

    /// What to do next.
    pub fn poll_effect(&mut self, now: Instant) -> Option<Effect> {
        if self.effects.is_empty()
            && let (State::Open, Some(link)) = (self.state, &mut self.link)
        {
            link.settle(now, &mut self.effects);
        }
        self.effects.pop_front()
    }

    /// When to call [`Connector::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } | State::Connecting { until } | State::Greeting { until } => {
                Some(until)
            }
            State::Open => self.link.as_ref().map(|link| link.keep_at(&self.config.timing)),
            State::Ended => None,
        }
    }

    /// The peer is there; false when it makes no sense.
    fn welcomed(&mut self, now: Instant, version: u16, session: SessionId, acked: u64) -> bool {
        if version < VERSIONS.0 || version > VERSIONS.1 || session.0 == 0 {
            return false;
        }
        let known = self.link.take_if(|link| link.remote != session);
        if let Some(gone) = known {
            gone.end(&mut self.effects);
        }
        let resumed = self.link.is_some();
        let link = self.link.get_or_insert_with(|| Link::new(&self.config, session));
        if link.open(now, self.last, acked, resumed, &mut self.effects).is_err() {
            return false;
        }
        self.retry = self.config.timing.retry_min;
        self.state = State::Open;
        true
    }

    fn refused(&mut self, now: Instant, refusal: Refusal) {
        self.effects.push_back(Effect::Event(Event::Refused(refusal)));
        self.hang_up(now);
        if matches!(refusal, Refusal::Fenced | Refusal::Version | Refusal::Volume) {
            self.state = State::Ended;
            if let Some(link) = self.link.take() {
                link.end(&mut self.effects);
            }
        }
    }

    /// Gives the connection up.
    fn hang_up(&mut self, now: Instant) {
        self.effects.push_back(Effect::Close(self.last));
        self.disconnected(now);
    }

    fn disconnected(&mut self, now: Instant) {
        if matches!(self.state, State::Waiting { .. } | State::Ended) {
            return;
        }
        if let Some(link) = &mut self.link {
            link.away(&mut self.effects);
        }
        // From a half to all of it, so that those who lost a peer together do not return together.
        let most = self.retry.as_nanos() as u64;
        let wait = most / 2 + self.spread() % (most / 2).max(1);
        self.state = State::Waiting { until: now.after(Duration::from_nanos(wait)) };
        self.retry = (self.retry * 2).min(self.config.timing.retry_max);
    }

    /// xorshift64: enough for a spread.
    fn spread(&mut self) -> u64 {
        self.spread ^= self.spread << 13;
        self.spread ^= self.spread >> 7;
        self.spread ^= self.spread << 17;
        self.spread
    }
}
