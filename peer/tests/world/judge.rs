//! Sees everything that owners do and learn, and knows what may be.
//!
//! The rules: a message arrives at most once, in order, with its own content; between those that arrived
//! there are only messages that were given up; what is acknowledged was taken; what is lost was not
//! acknowledged; a pair that has ended says nothing more; and in the end, when the network is well again,
//! every message was acknowledged or reported as lost, and every one that was not given up has arrived.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hasher;
use vellum_core::id::SessionId;
use vellum_core::peer::Event;

/// From whom, to whom.
type Pair = (SessionId, SessionId);

/// The judge. A broken rule is a panic.
#[derive(Default)]
pub(crate) struct Judge {
    pairs: BTreeMap<Pair, History>,
    dead: BTreeSet<SessionId>,
    /// Pairs of which the first has learned that they have ended.
    ended: BTreeSet<Pair>,
    trace: std::hash::DefaultHasher,
    lines: Option<Vec<String>>,
    /// What happened how often.
    pub(crate) seen: BTreeMap<&'static str, u64>,
}

/// One direction of one pair.
#[derive(Default)]
struct History {
    sent: Vec<Bytes>,
    /// So many of them the transport has taken on.
    accepted: u64,
    /// The sender knows what became of everything up to here.
    settled: u64,
    lost: BTreeSet<u64>,
    acked: u64,
    /// The last message that arrived or was reported as a gap.
    arrived: u64,
    gaps: BTreeSet<u64>,
    taken: u64,
}

impl Judge {
    /// One that also keeps the lines of the trace.
    pub(crate) fn with_lines() -> Judge {
        Judge { lines: Some(Vec::new()), ..Judge::default() }
    }

    /// Notes something, for the comparison of two runs.
    pub(crate) fn note(&mut self, at: u64, what: impl Debug) {
        let line = format!("{at} {what:?}");
        self.trace.write(line.as_bytes());
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }

    /// What two runs of one seed have in common.
    pub(crate) fn hash(&self) -> u64 {
        self.trace.finish()
    }

    /// The lines of the trace.
    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or(&[])
    }

    /// `from` is about to send this; the sequence that it must get. Then [`Judge::accepted`] follows, or
    /// [`Judge::retract`].
    pub(crate) fn sends(&mut self, from: SessionId, to: SessionId, payload: Bytes) -> u64 {
        let sent = &mut self.pairs.entry((from, to)).or_default().sent;
        sent.push(payload);
        sent.len() as u64
    }

    /// The last message announced by [`Judge::sends`] was not accepted.
    pub(crate) fn retract(&mut self, from: SessionId, to: SessionId) {
        self.pairs.get_mut(&(from, to)).expect("it was announced").sent.pop();
    }

    /// The next message announced by [`Judge::sends`] is on its way.
    pub(crate) fn accepted(&mut self, from: SessionId, to: SessionId) {
        self.pairs.get_mut(&(from, to)).expect("it was announced").accepted += 1;
    }

    /// `me` is done with the messages of `from` up to `sequence`.
    pub(crate) fn taken(&mut self, me: SessionId, from: SessionId, sequence: u64) {
        let pair = self.pairs.entry((from, me)).or_default();
        assert_eq!(sequence, sequence.max(pair.taken + 1), "taken in order");
        pair.taken = sequence;
    }

    /// A process is no more.
    pub(crate) fn died(&mut self, session: SessionId) {
        self.dead.insert(session);
        *self.seen.entry("died").or_default() += 1;
    }

    /// `me` learns something.
    pub(crate) fn event(&mut self, me: SessionId, event: &Event) {
        *self.seen.entry(name(event)).or_default() += 1;
        match event {
            Event::Received { session, sequence, payload } => {
                self.alive(me, *session);
                let pair = self.pairs.get_mut(&(*session, me)).expect("somebody sent it");
                assert_eq!(
                    *sequence,
                    pair.arrived + 1,
                    "{session} -> {me}: twice, or out of order"
                );
                let sent = pair.sent.get(*sequence as usize - 1).expect("it was sent");
                assert_eq!(payload, sent, "{session} -> {me}: message {sequence} has other bytes");
                pair.arrived = *sequence;
            }
            Event::Gap { session, first, last } => {
                self.alive(me, *session);
                let pair = self.pairs.get_mut(&(*session, me)).expect("somebody sent it");
                assert_eq!(*first, pair.arrived + 1, "a gap begins where messages end");
                assert!(first <= last && *last <= pair.sent.len() as u64, "a gap of nothing");
                pair.gaps.extend(*first..=*last);
                pair.arrived = *last;
            }
            Event::Acknowledged { session, sequence } => {
                self.alive(me, *session);
                let pair = self.pairs.get_mut(&(me, *session)).expect("something was sent");
                assert!(*sequence > pair.settled, "an acknowledgement of nothing new");
                let gap_behind = (pair.taken + 1..=*sequence).all(|n| pair.gaps.contains(&n));
                assert!(
                    pair.taken >= *sequence || gap_behind,
                    "{me} -> {session}: {sequence} is acknowledged, {} was taken",
                    pair.taken
                );
                pair.settled = *sequence;
                pair.acked = *sequence;
            }
            Event::Lost { session, first, last } => {
                self.alive(me, *session);
                let pair = self.pairs.get_mut(&(me, *session)).expect("something was sent");
                assert_eq!(*first, pair.settled + 1, "what is lost begins behind what is settled");
                // New ones may have been sent since.
                assert!(first <= last && *last <= pair.sent.len() as u64, "it was sent");
                pair.lost.extend(*first..=*last);
                pair.settled = *last;
            }
            Event::Ended { session } => {
                self.alive(me, *session);
                self.ended.insert((me, *session));
                let pair = self.pairs.get(&(me, *session));
                assert!(
                    pair.is_none_or(|pair| pair.settled == pair.accepted),
                    "{me} -> {session}: nobody knows what became of it"
                );
            }
            Event::Opened { session, resumed: false } => {
                self.begins_anew(me, *session);
                self.alive(me, *session);
            }
            Event::Opened { session, .. } | Event::Away { session } => self.alive(me, *session),
            Event::Refused(_) => {}
        }
    }

    /// The network has been well for long enough: nothing hangs.
    pub(crate) fn all_is_settled(&self) {
        assert_eq!(self.unsettled(), None);
    }

    /// What still hangs, if anything.
    pub(crate) fn unsettled(&self) -> Option<String> {
        self.pairs.iter().find_map(|((from, to), pair)| {
            if !self.dead.contains(from) && pair.settled != pair.accepted {
                return Some(format!(
                    "{from} -> {to}: nobody knows what became of {}",
                    pair.accepted
                ));
            }
            let ended = self.ended.contains(&(*from, *to)) || self.ended.contains(&(*to, *from));
            if ended || self.dead.contains(from) || self.dead.contains(to) {
                return None;
            }
            let missing = pair.arrived + 1..=pair.accepted;
            if !missing.clone().all(|n| pair.lost.contains(&n)) {
                return Some(format!("{from} -> {to}: {missing:?} have not arrived"));
            }
            let given_up = pair.gaps.is_subset(&pair.lost);
            (!given_up).then(|| format!("{from} -> {to}: a gap nobody gave up"))
        })
    }

    /// Messages that were sent, and those that were acknowledged.
    pub(crate) fn sent_and_acked(&self) -> (u64, u64) {
        let acked = |pair: &History| pair.settled.min(pair.acked);
        self.pairs
            .values()
            .fold((0, 0), |(sent, done), pair| (sent + pair.accepted, done + acked(pair)))
    }

    fn alive(&self, me: SessionId, other: SessionId) {
        assert!(!self.dead.contains(&me), "{me} is dead");
        assert!(!self.ended.contains(&(me, other)), "{me}: the pair with {other} has ended");
    }

    /// A pair may begin anew after it has ended for `me` if the other side never knew of it.
    fn begins_anew(&mut self, me: SessionId, other: SessionId) {
        if self.ended.remove(&(me, other)) {
            let heard = self.pairs.remove(&(me, other)).is_some_and(|pair| pair.arrived > 0);
            let asked = self.pairs.get(&(other, me)).is_some_and(|pair| !pair.sent.is_empty());
            assert!(!heard && !asked, "{me}: the pair with {other} has ended, and both knew of it");
        }
    }
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Opened { resumed: true, .. } => "resumed",
        Event::Opened { resumed: false, .. } => "opened",
        Event::Away { .. } => "away",
        Event::Received { .. } => "received",
        Event::Gap { .. } => "gap",
        Event::Acknowledged { .. } => "acknowledged",
        Event::Lost { .. } => "lost",
        Event::Ended { .. } => "ended",
        Event::Refused(_) => "refused",
    }
}
