//! The device through which the kernel talks to us, and one message at a time over it.
//!
//! Owns: system calls on descriptors of /dev/fuse. The only unsafe line of this crate is here.
#![allow(unsafe_code)]

use super::abi;
use super::encode::{Body, Encoded};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use smallvec::SmallVec;
use std::io::{self, IoSlice};
use vellum_core::port::kernel::Piece;

/// Where the kernel offers it.
const PATH: &str = "/dev/fuse";
/// Runs of zeros are written from here.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Most parts of one message; Linux' IOV_MAX is 1024.
const PARTS_MAX: usize = 1000;

type Parts<'a> = SmallVec<[IoSlice<'a>; 8]>;

/// A descriptor of a connection. Requests read from it are answered on it.
#[derive(Debug)]
pub(super) struct Device {
    fd: OwnedFd,
}

impl From<OwnedFd> for Device {
    fn from(fd: OwnedFd) -> Device {
        Device { fd }
    }
}

impl Device {
    /// A descriptor without a connection: a mount gives it one.
    ///
    /// # Errors
    /// As open(2).
    pub(super) fn open() -> Result<Device, Errno> {
        let fd = rustix::fs::open(PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Device { fd })
    }

    /// Another descriptor of the same connection, with a list of its own of what it has under way.
    ///
    /// # Errors
    /// As open(2), and EINVAL when this one has no connection.
    pub(super) fn another(&self) -> io::Result<Device> {
        const CLONE: rustix::ioctl::Opcode =
            rustix::ioctl::opcode::read::<u32>(abi::DEV_IOC_MAGIC, 0);
        let other = Device::open()?;
        let ours = self.fd.as_raw_fd().unsigned_abs();
        // SAFETY: FUSE_DEV_IOC_CLONE reads a u32, the number of a descriptor, and keeps no pointer.
        unsafe { rustix::ioctl::ioctl(&other.fd, rustix::ioctl::Setter::<CLONE, u32>::new(ours)) }?;
        Ok(other)
    }

    /// The number under which mount(2) finds it.
    pub(super) fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Waits for a request.
    ///
    /// # Errors
    /// ENODEV when the connection is over.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::read(self.fd.as_fd(), buffer)
    }

    /// Writes one message, which is taken as a whole or not at all.
    ///
    /// # Errors
    /// ENOENT when nobody waits for it any more.
    pub(super) fn send(&self, message: &Encoded<'_>) -> Result<(), Errno> {
        let mut parts = Parts::new();
        parts.push(IoSlice::new(&message.head));
        match &message.body {
            Body::Bytes(bytes) => add(&mut parts, bytes),
            Body::Owned(bytes) => add(&mut parts, bytes),
            Body::Pieces(pieces) => {
                for piece in *pieces {
                    match piece {
                        Piece::Bytes(bytes) => add(&mut parts, bytes),
                        Piece::Zeros(n) => add_zeros(&mut parts, *n as usize),
                    }
                }
            }
        }
        if parts.len() > PARTS_MAX {
            let joint: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            return self.write(&[IoSlice::new(&joint)]);
        }
        self.write(&parts)
    }

    /// As [`Device::send`], for a message that is one run of bytes.
    ///
    /// # Errors
    /// As [`Device::send`].
    pub(super) fn send_bytes(&self, message: &[u8]) -> Result<(), Errno> {
        self.write(&[IoSlice::new(message)])
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> Result<(), Errno> {
        rustix::io::writev(self.fd.as_fd(), parts).map(drop)
    }
}

fn add<'a>(parts: &mut Parts<'a>, bytes: &'a [u8]) {
    if !bytes.is_empty() {
        parts.push(IoSlice::new(bytes));
    }
}

fn add_zeros(parts: &mut Parts<'_>, mut len: usize) {
    while len > 0 {
        let part = len.min(ZEROS.len());
        parts.push(IoSlice::new(&ZEROS[..part]));
        len -= part;
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::Shape;
    use super::super::encode::encode;
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use vellum_core::port::kernel::{Pieces, Reply};

    /// A device that is a socket: what is sent arrives at the other end as one datagram.
    fn pair() -> (Device, OwnedFd) {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("socketpair");
        (Device::from(ours), theirs)
    }

    #[test]
    fn pieces_and_zeros_arrive_as_one_message() {
        let (device, kernel) = pair();
        let many: Pieces = (0..3000)
            .map(
                |n: u32| {
                    if n.is_multiple_of(2) { Piece::Bytes("x".into()) } else { Piece::Zeros(1) }
                },
            )
            .collect();
        let few: Pieces =
            [Piece::Bytes("a".into()), Piece::Zeros(100_000), Piece::Bytes("b".into())]
                .into_iter()
                .collect();
        for (pieces, len) in [(many, 3000), (few, 100_002)] {
            let reply = Reply::Data(pieces);
            device.send(&encode(2, Shape::Data, &reply)).expect("send");
            let mut got = vec![1; 200_000];
            let n = rustix::io::read(&kernel, &mut got).expect("read");
            assert_eq!(n, 16 + len);
            match len {
                3000 => assert!(got[16..n].chunks(2).all(|pair| pair == b"x\0")),
                _ => assert!(got[17..n - 1].iter().all(|b| *b == 0) && got[n - 1] == b'b'),
            }
        }
    }
}
