//! A pair and the connection that carries it.

use super::channel::{Channel, Next, Verdict};
use super::{Canary, Config, ConnectionId, Effect, Event, SendError, Timing, Violation};
use crate::id::SessionId;
use crate::time::Instant;
use crate::wire::packet::Packet;
use alloc::collections::VecDeque;
use bytes::Bytes;

/// Where a machine puts what it wants done.
pub(super) type Effects = VecDeque<Effect>;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) remote: SessionId,
    pub(super) connection: Option<ConnectionId>,
    channel: Channel,
    /// When the peer was heard last.
    heard: Instant,
    /// When something was said to it last.
    spoke: Instant,
    used: bool,
    silent_loss: bool,
}

impl Link {
    pub(super) fn new(config: &Config, remote: SessionId) -> Link {
        Link {
            remote,
            connection: None,
            channel: Channel::new(config),
            heard: Instant::default(),
            spoke: Instant::default(),
            used: false,
            silent_loss: config.has(Canary::SilentLoss),
        }
    }

    /// A connection has been greeted, and the peer has taken everything up to `acked`.
    pub(super) fn open(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        acked: u64,
        resumed: bool,
        effects: &mut Effects,
    ) -> Result<(), Violation> {
        let news = self.channel.resume(acked)?;
        self.connection = Some(connection);
        (self.heard, self.spoke) = (now, now);
        let session = self.remote;
        effects.push_back(Effect::Event(Event::Opened { session, resumed }));
        self.report(news, acked, effects);
        self.pump(now, effects);
        Ok(())
    }

    /// The connection is gone.
    pub(super) fn away(&mut self, effects: &mut Effects) {
        if self.connection.take().is_some() {
            effects.push_back(Effect::Event(Event::Away { session: self.remote }));
        }
    }

    /// The pair is no more.
    pub(super) fn end(mut self, effects: &mut Effects) {
        self.lose(effects);
        effects.push_back(Effect::Event(Event::Ended { session: self.remote }));
    }

    pub(super) fn send(
        &mut self,
        now: Instant,
        payload: Bytes,
        effects: &mut Effects,
    ) -> Result<u64, SendError> {
        let sequence = self.channel.send(payload)?;
        self.pump(now, effects);
        Ok(sequence)
    }

    /// Gives up what is unacknowledged; the peer is told that there is a gap.
    pub(super) fn abandon(&mut self, now: Instant, effects: &mut Effects) {
        self.lose(effects);
        self.pump(now, effects);
    }

    pub(super) fn taken(&mut self, sequence: u64) {
        self.channel.taken(sequence);
    }

    /// What the greeting says of the peer's messages.
    pub(super) fn acked(&self) -> u64 {
        self.channel.acked()
    }

    /// Whether the peer has shown that it knows of this pair.
    pub(super) fn is_used(&self) -> bool {
        self.used
    }

    /// A packet of an open connection has arrived.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        packet: Packet,
        effects: &mut Effects,
    ) -> Result<(), Violation> {
        self.heard = now;
        self.used = true;
        let session = self.remote;
        let acked = match packet {
            Packet::Message { sequence, acked, payload } => {
                if let Verdict::Deliver = self.channel.arrived(sequence, payload.len())? {
                    effects.push_back(Effect::Event(Event::Received {
                        session,
                        sequence,
                        payload,
                    }));
                }
                acked
            }
            Packet::Skip { next, acked } => {
                if let Some((first, last)) = self.channel.skipped(next)? {
                    effects.push_back(Effect::Event(Event::Gap { session, first, last }));
                }
                acked
            }
            Packet::Alive { acked } => acked,
            Packet::Hello(_) | Packet::Welcome { .. } | Packet::Refuse(_) => return Err(Violation),
        };
        let news = self.channel.acknowledged(acked)?;
        self.report(news, acked, effects);
        Ok(())
    }

    /// Says what was taken, unless a message has said it already.
    pub(super) fn settle(&mut self, now: Instant, effects: &mut Effects) {
        if self.channel.owes() {
            self.say_alive(now, effects);
        }
    }

    /// Keeps the connection alive; false when it is dead.
    pub(super) fn keep(&mut self, now: Instant, timing: &Timing, effects: &mut Effects) -> bool {
        if now >= self.heard.after(timing.silence_max) {
            return false;
        }
        if now >= self.spoke.after(timing.keep_alive) {
            self.say_alive(now, effects);
        }
        true
    }

    /// When [`Link::keep`] has something to do.
    pub(super) fn keep_at(&self, timing: &Timing) -> Instant {
        self.heard.after(timing.silence_max).min(self.spoke.after(timing.keep_alive))
    }

    fn say_alive(&mut self, now: Instant, effects: &mut Effects) {
        if let Some(connection) = self.connection {
            self.spoke = now;
            let acked = self.channel.tell();
            effects.push_back(Effect::Transmit(connection, Packet::Alive { acked }));
        }
    }

    /// Transmits what was not yet.
    fn pump(&mut self, now: Instant, effects: &mut Effects) {
        let Some(connection) = self.connection else { return };
        while let Some(next) = self.channel.next() {
            self.spoke = now;
            let acked = self.channel.tell();
            let packet = match next {
                Next::Message(sequence, payload) => Packet::Message { sequence, acked, payload },
                Next::Skip(next) => Packet::Skip { next, acked },
            };
            effects.push_back(Effect::Transmit(connection, packet));
        }
    }

    fn lose(&mut self, effects: &mut Effects) {
        let lost = self.channel.abandon();
        if let Some((first, last)) = lost.filter(|_| !self.silent_loss) {
            let session = self.remote;
            effects.push_back(Effect::Event(Event::Lost { session, first, last }));
        }
    }

    fn report(&self, news: bool, sequence: u64, effects: &mut Effects) {
        if news {
            let session = self.remote;
            effects.push_back(Effect::Event(Event::Acknowledged { session, sequence }));
        }
    }
}
