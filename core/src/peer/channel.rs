//! Both directions of one pair, whatever connection carries them.

use super::{Canary, Config, SendError, Violation};
use crate::limits::{PEER_MESSAGE_MAX, PEER_WINDOW_BYTES, PEER_WINDOW_MESSAGES};
use alloc::collections::VecDeque;
use bytes::Bytes;

/// What was sent and is not acknowledged, what was received and is not taken.
#[derive(Debug)]
pub(super) struct Channel {
    /// The sequence of the first message of `kept`; all before were acknowledged or abandoned.
    base: u64,
    /// Messages from `base` on.
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    /// The last message that this connection was given.
    transmitted: u64,
    /// The last message that arrived.
    received: u64,
    /// The last message that the owner is done with.
    taken: u64,
    /// What of it the peer was told on this connection.
    told: u64,
    /// Lengths of the messages that arrived and were not taken, with their sequences.
    held: VecDeque<(u64, usize)>,
    held_bytes: usize,
    deliver_all: bool,
    forget_resend: bool,
    early_ack: bool,
}

/// What to do with a message.
pub(super) enum Verdict {
    Deliver,
    Duplicate,
}

/// What is to be transmitted next.
pub(super) enum Next {
    Message(u64, Bytes),
    Skip(u64),
}

impl Channel {
    pub(super) fn new(config: &Config) -> Channel {
        Channel {
            base: 1,
            kept: VecDeque::new(),
            kept_bytes: 0,
            transmitted: 0,
            received: 0,
            taken: 0,
            told: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            deliver_all: config.has(Canary::Duplicates),
            forget_resend: config.has(Canary::ForgottenResend),
            early_ack: config.has(Canary::EarlyAck),
        }
    }

    /// Keeps a message until it is acknowledged; its sequence.
    pub(super) fn send(&mut self, payload: Bytes) -> Result<u64, SendError> {
        if payload.len() > PEER_MESSAGE_MAX {
            return Err(SendError::TooLong);
        }
        let bytes = self.kept_bytes + payload.len();
        if self.kept.len() >= PEER_WINDOW_MESSAGES || bytes > PEER_WINDOW_BYTES {
            return Err(SendError::Full);
        }
        self.kept_bytes = bytes;
        self.kept.push_back(payload);
        Ok(self.last())
    }

    /// The last message that was handed in.
    fn last(&self) -> u64 {
        self.base + self.kept.len() as u64 - 1
    }

    /// Forgets what is unacknowledged; the messages that were, if any.
    pub(super) fn abandon(&mut self) -> Option<(u64, u64)> {
        let lost = (self.base, self.last());
        self.base = lost.1 + 1;
        self.kept.clear();
        self.kept_bytes = 0;
        (lost.0 <= lost.1).then_some(lost)
    }

    /// The peer has taken everything up to `acked`; whether that is news.
    pub(super) fn acknowledged(&mut self, acked: u64) -> Result<bool, Violation> {
        if acked > self.last() {
            return Err(Violation);
        }
        let news = acked >= self.base;
        while self.base <= acked {
            let payload = self.kept.pop_front().expect("it is not beyond the last");
            self.kept_bytes -= payload.len();
            self.base += 1;
        }
        Ok(news)
    }

    /// A connection begins: what the peer did not take is to be transmitted on it.
    pub(super) fn resume(&mut self, acked: u64) -> Result<bool, Violation> {
        let news = self.acknowledged(acked)?;
        self.transmitted = if self.forget_resend { self.last() } else { acked };
        self.told = self.acked();
        Ok(news)
    }

    /// What to transmit next.
    pub(super) fn next(&mut self) -> Option<Next> {
        if self.transmitted + 1 < self.base {
            self.transmitted = self.base - 1;
            return Some(Next::Skip(self.base));
        }
        let at = (self.transmitted + 1 - self.base) as usize;
        let payload = self.kept.get(at)?.clone();
        self.transmitted += 1;
        Some(Next::Message(self.transmitted, payload))
    }

    /// A message has arrived.
    pub(super) fn arrived(&mut self, sequence: u64, len: usize) -> Result<Verdict, Violation> {
        if !self.deliver_all {
            if sequence <= self.received {
                return Ok(Verdict::Duplicate);
            }
            if sequence != self.received + 1 {
                return Err(Violation);
            }
        }
        let bytes = self.held_bytes + len;
        if self.held.len() >= PEER_WINDOW_MESSAGES || bytes > PEER_WINDOW_BYTES {
            return Err(Violation);
        }
        self.held_bytes = bytes;
        self.held.push_back((sequence, len));
        self.received = sequence;
        Ok(Verdict::Deliver)
    }

    /// The peer goes on at `next`; the messages that will never arrive, if any.
    pub(super) fn skipped(&mut self, next: u64) -> Result<Option<(u64, u64)>, Violation> {
        let gap = (self.received + 1, next.checked_sub(1).ok_or(Violation)?);
        if gap.0 > gap.1 {
            return Ok(None);
        }
        self.received = gap.1;
        if self.held.is_empty() {
            self.taken = gap.1;
        }
        Ok(Some(gap))
    }

    /// The owner is done with everything up to `sequence`.
    ///
    /// # Panics
    /// When it never got that.
    pub(super) fn taken(&mut self, sequence: u64) {
        assert!(sequence <= self.received, "a message is taken that was not delivered");
        while self.held.front().is_some_and(|(held, _)| *held <= sequence) {
            self.held_bytes -= self.held.pop_front().map_or(0, |(_, len)| len);
        }
        // A gap behind the last message is taken with it.
        let done = if self.held.is_empty() { self.received } else { sequence };
        self.taken = self.taken.max(done);
    }

    /// What the peer is told to have been taken.
    pub(super) fn acked(&self) -> u64 {
        if self.early_ack { self.received } else { self.taken }
    }

    /// Notes that a packet tells so.
    pub(super) fn tell(&mut self) -> u64 {
        self.told = self.acked();
        self.told
    }

    /// Whether the peer does not know yet what was taken.
    pub(super) fn owes(&self) -> bool {
        self.told < self.acked()
    }
}
