//! The task that drives one machine.

use crate::carrier::{Carrier, Input};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant as TokioInstant, sleep_until};
use vellum_core::id::SessionId;
use vellum_core::peer::{Acceptor, ConnectionId, Connector, Effect, Event, SendError};
use vellum_core::time::Instant;
use vellum_core::wire::packet::Packet;

/// What the owner asks of the machine.
pub(crate) enum Command {
    /// Send a message to a session.
    Send(SessionId, Bytes, oneshot::Sender<Result<u64, SendError>>),
    /// It is done with a session's messages up to this one.
    Taken(SessionId, u64),
    /// Give up what a session has not acknowledged.
    Abandon(SessionId),
}

/// Time as the machine knows it: since the start of its task.
pub(crate) struct Clock(TokioInstant);

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock(TokioInstant::now())
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::default().after(self.0.elapsed())
    }

    async fn reaches(&self, at: Option<Instant>) {
        match at {
            Some(at) => sleep_until(self.0 + Duration::from_nanos(at.0)).await,
            None => std::future::pending().await,
        }
    }
}

/// Both machines have the same verbs.
pub(crate) trait Machine: Send + 'static {
    fn send(&mut self, now: Instant, to: SessionId, payload: Bytes) -> Result<u64, SendError>;
    fn abandon(&mut self, now: Instant, session: SessionId);
    fn handle_taken(&mut self, session: SessionId, sequence: u64);
    fn handle_connected(&mut self, now: Instant, connection: ConnectionId);
    fn handle_closed(&mut self, now: Instant, connection: ConnectionId);
    fn handle_packet(&mut self, now: Instant, connection: ConnectionId, packet: Packet);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_effect(&mut self, now: Instant) -> Option<Effect>;
    fn poll_timeout(&self) -> Option<Instant>;
}

macro_rules! machine {
    ($($machine:ty),*) => { $(
        impl Machine for $machine {
            fn send(&mut self, now: Instant, to: SessionId, payload: Bytes) -> Result<u64, SendError> {
                self.send(now, to, payload)
            }
            fn abandon(&mut self, now: Instant, session: SessionId) {
                self.abandon(now, session);
            }
            fn handle_taken(&mut self, session: SessionId, sequence: u64) {
                self.handle_taken(session, sequence);
            }
            fn handle_connected(&mut self, now: Instant, connection: ConnectionId) {
                self.handle_connected(now, connection);
            }
            fn handle_closed(&mut self, now: Instant, connection: ConnectionId) {
                self.handle_closed(now, connection);
            }
            fn handle_packet(&mut self, now: Instant, connection: ConnectionId, packet: Packet) {
                self.handle_packet(now, connection, packet);
            }
            fn handle_timeout(&mut self, now: Instant) {
                self.handle_timeout(now);
            }
            fn poll_effect(&mut self, now: Instant) -> Option<Effect> {
                self.poll_effect(now)
            }
            fn poll_timeout(&self) -> Option<Instant> {
                self.poll_timeout()
            }
        }
    )* };
}

machine!(Connector, Acceptor);

/// A machine, its connections and its owner.
pub(crate) struct Driver<M> {
    pub(crate) machine: M,
    pub(crate) clock: Clock,
    /// Whom a connector connects to.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) carriers: BTreeMap<ConnectionId, Carrier>,
    /// The last connection that was accepted.
    pub(crate) accepted: ConnectionId,
    /// For the tasks of connections.
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
}

impl<M: Machine> Driver<M> {
    /// Runs until the owner is gone.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut inputs: mpsc::Receiver<Input>,
    ) {
        loop {
            self.perform();
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                Some(input) = inputs.recv() => self.hear(input),
                () = self.clock.reaches(self.machine.poll_timeout()) => {
                    self.machine.handle_timeout(self.clock.now());
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Send(session, payload, answer) => {
                let _ = answer.send(self.machine.send(now, session, payload));
            }
            Command::Taken(session, sequence) => self.machine.handle_taken(session, sequence),
            Command::Abandon(session) => self.machine.abandon(now, session),
        }
    }

    fn hear(&mut self, input: Input) {
        let now = self.clock.now();
        match input {
            Input::Connected(id, stream) => {
                self.carry(id, stream);
                self.machine.handle_connected(now, id);
            }
            Input::Accepted(stream) => {
                self.accepted.0 += 1;
                self.carry(self.accepted, stream);
                self.machine.handle_connected(now, self.accepted);
            }
            Input::Packet(id, packet) => self.machine.handle_packet(now, id, packet),
            Input::Closed(id) => {
                // After a close of our own the machine has forgotten it.
                self.carriers.remove(&id);
                self.machine.handle_closed(now, id);
            }
        }
    }

    fn perform(&mut self) {
        while let Some(effect) = self.machine.poll_effect(self.clock.now()) {
            match effect {
                Effect::Connect(id) => self.connect(id),
                Effect::Transmit(id, packet) => {
                    if let Some(carrier) = self.carriers.get(&id) {
                        carrier.send(packet);
                    }
                }
                Effect::Close(id) => drop(self.carriers.remove(&id)),
                // An owner that does not listen drops the whole.
                Effect::Event(event) => drop(self.events.send(event)),
            }
        }
    }

    fn carry(&mut self, id: ConnectionId, stream: TcpStream) {
        let carrier = Carrier::start(id, stream, self.inputs.clone());
        self.carriers.insert(id, carrier);
    }

    fn connect(&self, id: ConnectionId) {
        let Some(address) = self.address else { return };
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            let input = match TcpStream::connect(address).await {
                Ok(stream) => Input::Connected(id, stream),
                Err(_) => Input::Closed(id),
            };
            let _ = inputs.send(input).await;
        });
    }
}
