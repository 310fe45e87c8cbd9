//! A service for tests: every message comes back with its sequence in front.

use crate::Peer;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use vellum_core::id::SessionId;
use vellum_core::peer::{Event, SendError};

/// Answers what a [`Peer`] receives. A message is taken once its echo is on its way.
pub struct Echo {
    peer: Peer,
    /// What waits until its session has room for an echo. Bounded by the windows of the sessions.
    backlog: VecDeque<(SessionId, u64, Bytes)>,
}

impl Echo {
    /// Nothing is answered before [`Echo::handle`] is called.
    pub fn new(peer: Peer) -> Echo {
        Echo { peer, backlog: VecDeque::new() }
    }

    /// What happens next, to be handed to [`Echo::handle`]; `None` when the machine is gone.
    pub async fn event(&mut self) -> Option<Event> {
        self.peer.event().await
    }

    /// Answers messages, and those that waited when there is room again. For each answer the session and
    /// the sequence it got; an answer to a session that has ended is dropped.
    pub async fn handle(&mut self, event: Event) -> Vec<(SessionId, Result<u64, SendError>)> {
        match event {
            Event::Received { session, sequence, payload } => {
                self.backlog.push_back((session, sequence, payload));
            }
            Event::Acknowledged { .. } | Event::Ended { .. } => {}
            _ => return Vec::new(),
        }
        let (mut answers, mut full) = (Vec::new(), Vec::new());
        for (session, sequence, payload) in std::mem::take(&mut self.backlog) {
            if !full.contains(&session) {
                let sent = self.peer.send(session, echo(sequence, &payload)).await;
                if sent != Err(SendError::Full) {
                    self.peer.taken(session, sequence).await;
                    answers.push((session, sent));
                    continue;
                }
                full.push(session);
            }
            self.backlog.push_back((session, sequence, payload));
        }
        answers
    }
}

/// The echo of a message.
pub fn echo(sequence: u64, payload: &[u8]) -> Bytes {
    let mut echo = BytesMut::with_capacity(8 + payload.len());
    echo.put_u64_le(sequence);
    echo.put_slice(payload);
    echo.freeze()
}
