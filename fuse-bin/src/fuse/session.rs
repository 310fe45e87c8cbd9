//! One connection with the kernel: the first exchange, and the threads that read its queue.
//!
//! Owns: the readers, each with a descriptor of its own, and the answer to what no machine is needed
//! for. Never does: wait for anything but the next request.
//!
//! Invariants: an answer goes out on the descriptor its request came from, or the kernel does not find
//! it; the machine knows a request by the kernel's own id, which is even.

use super::abi;
use super::buffer::{Buffers, Incoming};
use super::decode::{Decoded, Dialect, Header, Malformed, Shape, decode};
use super::device::Device;
use super::encode::{EIO, Encoded, encode, failure, undo};
use super::init::{Agreed, negotiate};
use super::interrupts::Interrupts;
use crate::host::{Host, Respond};
use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use vellum_core::id::RequestId;
use vellum_core::port::control::Control;
use vellum_core::port::kernel::{Operation, Reply, Request};

/// Linux' ENOSYS and EAGAIN, for answers that the machine does not give.
const ENOSYS: i32 = 38;
const EAGAIN: i32 = 11;
/// Readers beyond those that keep the CPUs busy: they may be waiting for the disk.
const BLOCKING: usize = 2;
/// How long a reader pauses before it looks again for a request that another one is about to hand in.
const PAUSE: Duration = Duration::from_millis(1);

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Pending {
    device: Arc<Device>,
    unique: u64,
    shape: Shape,
    caller: u32,
}

impl Respond for Pending {
    fn respond(self, reply: Reply) -> Vec<Operation> {
        let message = encode(self.unique, self.shape, &reply);
        let delivered = self.deliver(&message);
        undo(self.shape, &reply, delivered, message.entries)
    }
}

impl Pending {
    /// The thread that waits.
    pub(super) fn caller(&self) -> u32 {
        self.caller
    }

    /// Whether the kernel took the answer.
    fn deliver(&self, message: &Encoded<'_>) -> bool {
        match self.device.send(message) {
            Ok(()) => true,
            // The connection was ended meanwhile.
            Err(Errno::NOENT) => false,
            Err(error) => {
                tracing::warn!(%error, shape = ?self.shape, "the kernel refused an answer");
                // Nobody may wait for ever; ENOENT if the kernel has given up the request already.
                let _ = self.device.send(&failure(self.unique, EIO));
                false
            }
        }
    }
}

/// The first exchange, which settles what is spoken.
///
/// # Errors
/// EPROTO when the kernel is too old; as read(2) and write(2).
pub(super) fn handshake(device: &Device) -> io::Result<Dialect> {
    let mut buffer = vec![0; 2 << 20];
    loop {
        let len = match device.read(&mut buffer) {
            Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => continue,
            other => other?,
        };
        let (header, offer) = match decode(&buffer[..len], Dialect::default()) {
            Ok((header, Decoded::Init(offer))) => (header, offer),
            other => {
                tracing::error!(?other, "the kernel did not begin with INIT");
                return Err(Errno::PROTO.into());
            }
        };
        let (answer, agreed) = match negotiate(&offer) {
            Agreed::Yes(answer, dialect) => (answer, Some(dialect)),
            Agreed::AskAgain(answer) => (answer, None),
            Agreed::No => {
                tracing::error!(offer.major, offer.minor, "the kernel's FUSE is too old");
                device.send(&failure(header.unique, Errno::PROTO.raw_os_error()))?;
                return Err(Errno::PROTO.into());
            }
        };
        device.send_bytes(&super::encode::message(header.unique, 0, &*answer, &[]))?;
        if let Some(dialect) = agreed {
            tracing::debug!(offer.minor, answer.minor, answer.flags, answer.flags2, "agreed");
            return Ok(dialect);
        }
    }
}

/// The readers of a connection.
pub(super) struct Readers {
    ends: Receiver<io::Result<()>>,
    threads: usize,
}

impl Readers {
    /// Starts so many readers.
    ///
    /// # Errors
    /// When the system refuses a descriptor or a thread.
    pub(super) fn start(
        host: &Arc<Host<Pending>>,
        device: Arc<Device>,
        dialect: Dialect,
        threads: usize,
    ) -> io::Result<Readers> {
        let mut devices = vec![device];
        while devices.len() < threads + BLOCKING {
            let another = devices[0].another()?;
            devices.push(Arc::new(another));
        }
        host.readers(devices.len());
        let (send, ends) = unbounded();
        let interrupts = Interrupts::start(host)?;
        let session = Arc::new(Session { host: host.clone(), dialect, devices, interrupts });
        let buffers = Buffers::default();
        for n in 0..session.devices.len() {
            let (session, send) = (session.clone(), send.clone());
            let incoming = Incoming::new(&buffers);
            std::thread::Builder::new()
                .name(format!("vellum-fuse-{n}"))
                .spawn(move || session.read(n, incoming, &send))?;
        }
        Ok(Readers { ends, threads: session.devices.len() })
    }

    /// Waits until all of them have seen the end of the connection, or one has failed.
    ///
    /// # Errors
    /// Of the one that failed.
    pub(super) fn wait(self) -> io::Result<()> {
        for _ in 0..self.threads {
            self.ends.recv().unwrap_or_else(|_| Err(io::Error::other("the readers vanished")))?;
        }
        Ok(())
    }
}

/// What the readers share.
struct Session {
    host: Arc<Host<Pending>>,
    dialect: Dialect,
    devices: Vec<Arc<Device>>,
    interrupts: Interrupts,
}

impl Session {
    fn read(&self, n: usize, mut incoming: Incoming, end: &Sender<io::Result<()>>) {
        let device = &self.devices[n];
        let result = loop {
            match device.read(incoming.whole()) {
                Ok(len) => self.serve(device, &mut incoming, len),
                // ENOENT: the request was taken back while it was copied.
                Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => {}
                Err(Errno::NODEV | Errno::CONNABORTED) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        let _ = end.send(result);
    }

    fn serve(&self, device: &Arc<Device>, incoming: &mut Incoming, len: usize) {
        let (header, decoded) = match decode(incoming.frame(len), self.dialect) {
            Ok(decoded) => decoded,
            Err(wrong) => return refuse(device, &wrong),
        };
        let Header { unique, caller, .. } = header;
        let pending = |shape| Pending { device: device.clone(), unique, shape, caller: caller.pid };
        let (op, shape) = match decoded {
            Decoded::Ask(op, shape) => (op, shape),
            Decoded::Write(write) => {
                let op = Operation::Write {
                    ino: write.ino,
                    handle: write.handle,
                    offset: write.offset,
                    data: incoming.payload(write.data),
                    flags: write.flags,
                };
                (op, Shape::Written)
            }
            Decoded::Tell(op) => return self.host.tell(op),
            Decoded::Interrupt { target } => return self.interrupt(target),
            Decoded::SyncFs => {
                let id = RequestId(unique);
                return self.host.ask_for(id, Control::Sync, pending(Shape::Synced));
            }
            Decoded::Destroy => {
                pending(Shape::Empty).respond(Reply::Done);
                return;
            }
            Decoded::Unknown => {
                tracing::debug!(header.opcode, "an operation that is not served");
                return send(device, unique, ENOSYS);
            }
            Decoded::Init(_) => {
                tracing::warn!("the kernel began twice");
                return send(device, unique, EIO);
            }
        };
        self.host.request(RequestId(unique), Request { caller, op }, pending(shape));
    }

    /// Passes a signal on to the request it is for.
    ///
    /// A request that is not known was answered already, or another reader is about to hand it in. The
    /// kernel finds out which when it is told to ask again: it knows the request on the descriptor that
    /// read it, and nowhere when it is over.
    fn interrupt(&self, target: u64) {
        if self.interrupts.arrived(RequestId(target)) {
            return;
        }
        let again = failure(target | abi::INTERRUPT_BIT, EAGAIN);
        if self.devices.iter().any(|device| device.send(&again).is_ok()) {
            std::thread::sleep(PAUSE);
        }
    }
}

fn refuse(device: &Device, wrong: &Malformed) {
    tracing::error!(opcode = wrong.opcode, "a malformed request: {}", wrong.what);
    if let Some(unique) = wrong.unique {
        send(device, unique, EIO);
    }
}

/// Answers an error of the transport's own. Nobody may be waiting any more.
fn send(device: &Device, unique: u64, errno: i32) {
    if let Err(error) = device.send(&failure(unique, errno)) {
        tracing::debug!(%error, "an answer was not delivered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use vellum_core::id::{Handle, Ino};
    use vellum_core::port::kernel::Opened;

    #[test]
    fn an_answer_that_cannot_be_delivered_is_undone() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("socketpair");
        let device = Arc::new(Device::from(ours));
        let opened = || {
            let pending = Pending {
                device: device.clone(),
                unique: 2,
                shape: Shape::Opened(Ino(5)),
                caller: 1,
            };
            let handle = Handle(6);
            let opened = Opened {
                handle,
                keep_cache: false,
                direct_io: false,
                cache_dir: false,
                no_flush: false,
            };
            pending.respond(Reply::Opened(opened))
        };
        assert!(opened().is_empty());
        drop(theirs);
        let undone = opened();
        assert!(
            matches!(undone[..], [Operation::Release { ino: Ino(5), handle: Handle(6) }]),
            "{undone:?}"
        );
    }
}
