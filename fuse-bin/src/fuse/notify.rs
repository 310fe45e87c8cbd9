//! What the kernel is told without having asked.

use super::abi::{self, notify};
use super::device::Device;
use super::encode::message;
use crate::host::Notify;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use vellum_core::port::kernel::Notification;

/// Notifications to the kernel.
pub(super) struct ToKernel(pub(super) Arc<Device>);

impl Notify for ToKernel {
    fn notify(&self, notification: &Notification) -> io::Result<()> {
        match self.0.send_bytes(&bytes(notification)) {
            // The kernel does not know the object, or the name is busy being looked up again.
            Err(Errno::NOENT) => Ok(()),
            other => Ok(other?),
        }
    }
}

/// A notification is a message to request 0.
fn bytes(notification: &Notification) -> Vec<u8> {
    match notification {
        Notification::Inode { ino, offset, len } => {
            let body = abi::NotifyInvalInodeOut { ino: ino.0, off: *offset, len: *len };
            message(0, notify::INVAL_INODE, &body, &[])
        }
        Notification::Entry { parent, name } => {
            let namelen = name.len() as u32;
            let body = abi::NotifyInvalEntryOut { parent: parent.0, namelen, flags: 0 };
            message(0, notify::INVAL_ENTRY, &body, &[name, &[0][..]].concat())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vellum_core::id::Ino;
    use zerocopy::FromBytes;

    #[test]
    fn a_name_ends_with_nul_and_a_range_keeps_its_sign() {
        let entry = bytes(&Notification::Entry { parent: Ino(1), name: "ab".into() });
        let (header, rest) = abi::OutHeader::read_from_prefix(&entry).expect("a header");
        assert_eq!((header.len, header.error, header.unique), (16 + 16 + 3, 3, 0));
        let (body, name) = abi::NotifyInvalEntryOut::read_from_prefix(rest).expect("a body");
        assert_eq!((body.parent, body.namelen, name), (1, 2, &b"ab\0"[..]));
        let inode = bytes(&Notification::Inode { ino: Ino(5), offset: -1, len: 0 });
        let (header, rest) = abi::OutHeader::read_from_prefix(&inode).expect("a header");
        let body = abi::NotifyInvalInodeOut::read_from_bytes(rest).expect("a body");
        assert_eq!((header.error, body.ino, body.off, body.len), (2, 5, -1, 0));
    }
}
