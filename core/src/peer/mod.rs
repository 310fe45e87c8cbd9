//! Messages between processes: each arrives exactly once and in order, or both sides learn that it may
//! not have.
//!
//! Two sessions (128 random bits each, new with every start of a process) make a *pair*. Within a pair
//! every sender counts its messages from 1 and keeps each until the other side has *taken* it, which is
//! said after the receiver's owner is done with it. Connections come and go; after each greeting both
//! sides know what the other one took, and what was not is transmitted again. A process that starts anew
//! has a new session: what its predecessor did not take is reported as lost, never sent to the successor.
//! A session that stays away too long ends at the acceptor, and is told so when it comes back.
//!
//! Owns: sequences, what is unacknowledged, greeting, keep-alive, retry of connections, expiry.
//! Never does: I/O; encoding and checksums, which are the host's to call ([`crate::wire::packet`]).
//!
//! Invariants: a message is delivered at most once and only after all before it were delivered or
//! reported as a gap; an acknowledged one was taken; one that is neither acknowledged nor lost is kept;
//! what a peer may make this side remember is bounded by the limits of `limits.rs`.
//! Tests: `tests.rs` here, and over simulated and real sockets in `peer/tests`.

mod acceptor;
mod channel;
mod connector;
mod link;
#[cfg(test)]
mod tests;

pub use acceptor::Acceptor;
pub use connector::Connector;

use crate::id::{SessionId, VolumeId};
use crate::wire::packet::{Packet, Refusal};
use bytes::Bytes;
use core::time::Duration;

/// A connection of one machine. A connector names it, counting up; for an acceptor its host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What a machine asks its host to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Connect to the peer; `handle_connected` or `handle_closed` follows.
    Connect(ConnectionId),
    /// Send a packet. What cannot be sent is forgotten; the connection is reported as closed.
    Transmit(ConnectionId, Packet),
    /// Send what was to be sent, and close; nothing follows.
    Close(ConnectionId),
    /// Tell the owner.
    Event(Event),
}

/// What the owner of a machine learns. `session` is the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is a connection; messages can be sent from now on.
    Opened {
        /// The peer.
        session: SessionId,
        /// Whether the pair was known before: sequences go on.
        resumed: bool,
    },
    /// The connection is gone. Messages wait for the next one.
    Away {
        /// The peer.
        session: SessionId,
    },
    /// A message. The owner calls `handle_taken` when it is done with it.
    Received {
        /// Who sent it.
        session: SessionId,
        /// Its number.
        sequence: u64,
        /// What it says.
        payload: Bytes,
    },
    /// Messages that the peer gave up.
    Gap {
        /// Who gave them up.
        session: SessionId,
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// Everything up to here was taken, but for what was reported as lost.
    Acknowledged {
        /// By whom.
        session: SessionId,
        /// The last message that was.
        sequence: u64,
    },
    /// Messages of this side that nobody will acknowledge. The peer may have taken some of them.
    Lost {
        /// Who did not take them.
        session: SessionId,
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// The pair is no more: the peer started anew, or stayed away too long. If the peer never knew of the
    /// pair, its session may open one once more, from the beginning.
    Ended {
        /// The peer.
        session: SessionId,
    },
    /// The peer refuses this session. After [`Refusal::Fenced`], [`Refusal::Version`] and
    /// [`Refusal::Volume`] a connector does nothing more.
    Refused(Refusal),
}

/// Who a machine is and how patient.
#[derive(Clone, Debug)]
pub struct Config {
    /// The volume.
    pub volume: VolumeId,
    /// This process: 128 random bits, not zero.
    pub session: SessionId,
    /// For the spread of retries.
    pub seed: u64,
    /// See [`Timing`].
    pub timing: Timing,
    canary: Option<Canary>,
}

/// How long things take at most.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Something is said at least this often.
    pub keep_alive: Duration,
    /// A connection that is silent for so long, or does not come about, is given up.
    pub silence_max: Duration,
    /// A session without a connection for so long ends.
    pub expiry: Duration,
    /// Wait before the first retry of a connection; doubled each time.
    pub retry_min: Duration,
    /// Longest wait.
    pub retry_max: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            keep_alive: Duration::from_secs(1),
            silence_max: Duration::from_secs(5),
            expiry: Duration::from_secs(30),
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_secs(3),
        }
    }
}

impl Config {
    /// With the usual timing.
    pub fn new(volume: VolumeId, session: SessionId, seed: u64) -> Config {
        assert!(session.0 != 0, "a session is not zero");
        Config { volume, session, seed, timing: Timing::default(), canary: None }
    }

    /// The same with a planted bug.
    #[cfg(feature = "canary")]
    pub fn planted(mut self, canary: Canary) -> Config {
        self.canary = Some(canary);
        self
    }

    fn has(&self, canary: Canary) -> bool {
        cfg!(feature = "canary") && self.canary == Some(canary)
    }
}

/// A known bug of this room; compiled in only with the feature `canary`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "canary"), allow(dead_code))]
pub enum Canary {
    /// A message is delivered whatever its sequence, also from a connection that was replaced.
    Duplicates,
    /// After a new connection only new messages are transmitted.
    ForgottenResend,
    /// A message is acknowledged when it arrives, not when it was taken.
    EarlyAck,
    /// Nothing is said of messages to a peer that is gone.
    SilentLoss,
    /// A session that ended is let in again.
    Revival,
}

impl Canary {
    /// All of them, with names.
    pub const ALL: [(&'static str, Canary); 5] = [
        ("duplicates", Canary::Duplicates),
        ("forgotten-resend", Canary::ForgottenResend),
        ("early-ack", Canary::EarlyAck),
        ("silent-loss", Canary::SilentLoss),
        ("revival", Canary::Revival),
    ];
}

/// Why a message is not taken for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// There is no such pair, or not yet.
    NoPair,
    /// As much is unacknowledged as may be; wait for [`Event::Acknowledged`], or abandon.
    Full,
    /// Above the limit of one message.
    TooLong,
}

/// A peer that breaks the rules; its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Violation;
