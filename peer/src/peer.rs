//! What the owner of a machine holds.

use crate::carrier::Input;
use crate::drive::{Clock, Command, Driver, Machine};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use vellum_core::id::SessionId;
use vellum_core::peer::{Acceptor, Config, ConnectionId, Connector, Event, SendError};

/// Inputs and commands that wait for the machine; who brings more waits.
const QUEUE: usize = 64;
/// After a connection could not be accepted: the usual cause, too many descriptors, does not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A machine at work. Dropped, it ends, with every connection.
pub struct Peer {
    commands: mpsc::Sender<Command>,
    events: mpsc::UnboundedReceiver<Event>,
    _tasks: Tasks,
}

/// Tasks that end with their owner.
#[derive(Default)]
struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// Connects to the peer at an address, and again whenever the connection is lost.
pub fn dial(config: Config, address: SocketAddr) -> Peer {
    let clock = Clock::start();
    let machine = Connector::new(config, clock.now());
    let (inputs, heard) = mpsc::channel(QUEUE);
    start(machine, clock, Some(address), inputs, heard, Tasks::default())
}

/// Lets peers connect at an address; with port 0 the system chooses one. The address, and the machine.
///
/// # Errors
/// When the address cannot be bound.
pub async fn listen(config: Config, address: SocketAddr) -> io::Result<(SocketAddr, Peer)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let (inputs, heard) = mpsc::channel(QUEUE);
    let accepting = tokio::spawn(accept(listener, inputs.clone()));
    let clock = Clock::start();
    let tasks = Tasks(vec![accepting]);
    Ok((address, start(Acceptor::new(config), clock, None, inputs, heard, tasks)))
}

async fn accept(listener: TcpListener, inputs: mpsc::Sender<Input>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if inputs.send(Input::Accepted(stream)).await.is_err() {
                    return;
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

fn start(
    machine: impl Machine,
    clock: Clock,
    address: Option<SocketAddr>,
    inputs: mpsc::Sender<Input>,
    heard: mpsc::Receiver<Input>,
    mut tasks: Tasks,
) -> Peer {
    let (commands, obeyed) = mpsc::channel(QUEUE);
    // No bound of its own: a session has a window, and the number of sessions is bounded.
    let (events_in, events) = mpsc::unbounded_channel();
    let driver = Driver {
        machine,
        clock,
        address,
        carriers: BTreeMap::new(),
        accepted: ConnectionId(0),
        inputs,
        events: events_in,
    };
    tasks.0.push(tokio::spawn(driver.run(obeyed, heard)));
    Peer { commands, events, _tasks: tasks }
}

impl Peer {
    /// What happens next; `None` when the machine is gone.
    pub async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Sends a message to a session; its sequence.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, session: SessionId, payload: Bytes) -> Result<u64, SendError> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Send(session, payload, answer);
        self.commands.send(command).await.map_err(|_| SendError::NoPair)?;
        answered.await.map_err(|_| SendError::NoPair)?
    }

    /// A session's messages up to `sequence` have been dealt with.
    pub async fn taken(&self, session: SessionId, sequence: u64) {
        let _ = self.commands.send(Command::Taken(session, sequence)).await;
    }

    /// Gives up what a session has not acknowledged.
    pub async fn abandon(&self, session: SessionId) {
        let _ = self.commands.send(Command::Abandon(session)).await;
    }
}
