//! One connection: a task that turns bytes into packets and packets into bytes.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use vellum_core::peer::ConnectionId;
use vellum_core::wire::packet::{Decoder, Packet};

/// What was to be sent on a connection that is closed may take so long.
const LINGER: Duration = Duration::from_secs(1);

/// What happens outside of the machine.
pub(crate) enum Input {
    /// This side has connected.
    Connected(ConnectionId, TcpStream),
    /// The other side has.
    Accepted(TcpStream),
    /// A packet has arrived.
    Packet(ConnectionId, Packet),
    /// The connection was not made, or is gone, or carries what is no packet.
    Closed(ConnectionId),
}

/// The sending end. Dropped, the connection is closed when what was given to it is sent.
pub(crate) struct Carrier {
    packets: mpsc::UnboundedSender<Packet>,
    _open: oneshot::Sender<()>,
}

impl Carrier {
    /// Starts the task of a connection.
    pub(crate) fn start(
        id: ConnectionId,
        stream: TcpStream,
        inputs: mpsc::Sender<Input>,
    ) -> Carrier {
        // Without it a packet would wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        // No bound of its own: the machine's window is one.
        let (packets, outgoing) = mpsc::unbounded_channel();
        let (open, closing) = oneshot::channel();
        tokio::spawn(run(id, stream, inputs, outgoing, closing));
        Carrier { packets, _open: open }
    }

    /// Gives it a packet to send. A connection that is gone says so by [`Input::Closed`].
    pub(crate) fn send(&self, packet: Packet) {
        let _ = self.packets.send(packet);
    }
}

async fn run(
    id: ConnectionId,
    stream: TcpStream,
    inputs: mpsc::Sender<Input>,
    outgoing: mpsc::UnboundedReceiver<Packet>,
    closing: oneshot::Receiver<()>,
) {
    let (reader, writer) = tokio::io::split(stream);
    let closed = async {
        let _ = closing.await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        biased;
        _ = write(writer, outgoing) => {}
        _ = read(id, reader, &inputs) => {}
        () = closed => {}
    }
    let _ = inputs.send(Input::Closed(id)).await;
}

/// Ends when the peer closes, and when it sends what is no packet.
async fn read(
    id: ConnectionId,
    mut reader: ReadHalf<TcpStream>,
    inputs: &mpsc::Sender<Input>,
) -> io::Result<()> {
    let mut decoder = Decoder::default();
    while reader.read_buf(decoder.room()).await? > 0 {
        while let Some(packet) = decoder.poll_packet().map_err(garbage)? {
            if inputs.send(Input::Packet(id, packet)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Ends when nothing is left to send and the sending end is gone.
async fn write(
    mut writer: WriteHalf<TcpStream>,
    mut outgoing: mpsc::UnboundedReceiver<Packet>,
) -> io::Result<()> {
    while let Some(packet) = outgoing.recv().await {
        for piece in packet.encode() {
            if !piece.is_empty() {
                writer.write_all(&piece).await?;
            }
        }
        if outgoing.is_empty() {
            writer.flush().await?;
        }
    }
    writer.shutdown().await
}

fn garbage(error: impl std::fmt::Debug) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{error:?}"))
}
