//! Which errors and which ends of a search a state of the model allows.

use vellum_core::limits::FILE_SIZE_MAX;
use vellum_core::port::kernel::{self, Operation, Whence};
use vellum_model::{Call, Error, Kind, NodeId, Time};

use super::{Mirror, exceeds, rename_flags};

impl Mirror {
    /// Whether an error is right for a request in this state.
    pub fn allows(&self, op: &Operation, by: kernel::Caller, errno: i32) -> bool {
        match self.refusals(op, by) {
            Ok(errors) => errors.iter().any(|e| e.errno() == errno),
            Err(error) => error.errno() == errno,
        }
    }

    /// Whether a search for data or a hole may end at `found`: holes are known to the byte or to the chunk.
    pub fn may_be_found(&self, node: NodeId, offset: u64, whence: Whence, found: u64) -> bool {
        let Ok(attr) = self.fs.getattr(node) else { return false };
        match whence {
            Whence::Data => {
                (self.fs.seek_data(node, found) == Ok(found) || !self.holes_known)
                    && (offset..attr.size).contains(&found)
                    && self.is_zeros(node, offset, found)
            }
            Whence::Hole => {
                let best = self.fs.seek_hole(node, offset);
                (best.is_ok_and(|best| found <= best) || !self.holes_known)
                    && (offset..=attr.size).contains(&found)
                    && (found == attr.size || self.fs.read(node, found, 1) == Ok(vec![0]))
            }
        }
    }

    /// Whether a range of a file reads as zeros.
    fn is_zeros(&self, node: NodeId, from: u64, to: u64) -> bool {
        let mut at = from;
        while let Ok(data) = self.fs.seek_data(node, at) {
            let end = self.fs.seek_hole(node, data).unwrap_or(data + 1).min(to);
            if data >= end {
                return true;
            }
            let bytes = self.fs.read(node, data, (end - data) as usize).unwrap_or_default();
            if bytes.iter().any(|b| *b != 0) {
                return false;
            }
            at = end;
        }
        true
    }

    fn refusals(&self, op: &Operation, by: kernel::Caller) -> Result<Vec<Error>, Error> {
        let call = match op {
            Operation::Create { parent, name, flags, .. } => {
                let dir = self.node(*parent)?;
                if let Some(found) = self.found(dir, name)? {
                    let kind = self.fs.getattr(found)?.kind;
                    let mut errors = Vec::new();
                    if flags.exclusive() || kind != Kind::File {
                        errors.push(Error::Exists);
                    }
                    match kind {
                        Kind::File => {}
                        Kind::Dir => errors.push(Error::IsDir),
                        Kind::Symlink => errors.extend([Error::Loop, Error::Invalid, Error::Stale]),
                        _ => errors.extend([
                            Error::NoAddress,
                            Error::Invalid,
                            Error::NotSupported,
                            Error::Stale,
                        ]),
                    }
                    return Ok(errors);
                }
                Call::Make { parent: dir, name }
            }
            Operation::MkNod { parent, name, .. } | Operation::Symlink { parent, name, .. } => {
                Call::Make { parent: self.node(*parent)?, name }
            }
            Operation::MkDir { parent, name, .. } => {
                Call::Mkdir { parent: self.node(*parent)?, name }
            }
            Operation::Link { ino, new_parent, new_name } => Call::Link {
                node: self.node(*ino)?,
                parent: self.node(*new_parent)?,
                name: new_name,
            },
            Operation::Unlink { parent, name } => {
                Call::Unlink { parent: self.node(*parent)?, name }
            }
            Operation::RmDir { parent, name } => Call::Rmdir { parent: self.node(*parent)?, name },
            Operation::Rename { parent, name, new_parent, new_name, flags } => {
                let (from, to) = (self.node(*parent)?, self.node(*new_parent)?);
                let known = rename_flags(*flags);
                let call = Call::Rename {
                    from,
                    old: name,
                    to,
                    new: new_name,
                    flags: known.unwrap_or_default(),
                };
                let mut errors = self.fs.allowed_errors(&call);
                if known.is_none() {
                    errors.push(Error::Invalid);
                }
                return Ok(errors);
            }
            _ => return self.refusals_at_node(op, by),
        };
        Ok(self.fs.allowed_errors(&call))
    }

    fn refusals_at_node(&self, op: &Operation, by: kernel::Caller) -> Result<Vec<Error>, Error> {
        let one = |error: Option<Error>| Ok(error.into_iter().collect());
        match op {
            Operation::Lookup { parent, name } => {
                one(self.fs.lookup(self.node(*parent)?, name).err())
            }
            Operation::ReadLink { ino } => one(self.fs.readlink(self.node(*ino)?).err()),
            // An append that does not fit as a whole may be refused: the kernel cuts only what it sees coming.
            Operation::Write { ino, data, .. }
                if self.fs.getattr(self.node(*ino)?)?.size + data.len() as u64 > FILE_SIZE_MAX =>
            {
                Ok(vec![Error::TooBig])
            }
            Operation::TmpFile { .. }
            | Operation::SetXattr { .. }
            | Operation::RemoveXattr { .. } => {
                one(self.clone().apply(op, by, Time::default()).err())
            }
            Operation::GetXattr { ino, name, room } => {
                one(match self.fs.getxattr(self.node(*ino)?, name) {
                    Ok(value) => exceeds(value.len(), *room),
                    Err(error) => Some(error),
                })
            }
            Operation::ListXattr { ino, room } => {
                one(exceeds(self.xattr_list(*ino, by)?.len(), *room))
            }
            Operation::Seek { ino, offset, whence, .. } => {
                let node = self.node(*ino)?;
                let none = match whence {
                    Whence::Data => self.is_zeros(node, *offset, u64::MAX),
                    Whence::Hole => *offset >= self.fs.getattr(node)?.size,
                };
                one(none.then_some(Error::NoAddress))
            }
            Operation::SetAttr { .. }
            | Operation::Write { .. }
            | Operation::Fallocate { .. }
            | Operation::CopyRange { .. } => {
                let error = self.clone().apply(op, by, Time::default()).err();
                Ok(error
                    .into_iter()
                    .chain((error == Some(Error::IsDir)).then_some(Error::Invalid))
                    .collect())
            }
            Operation::Read { ino, offset, .. } => {
                one(self.fs.read(self.node(*ino)?, *offset, 1).err())
            }
            Operation::Open { ino, .. } => {
                let attr = self.fs.getattr(self.node(*ino)?)?;
                Ok(match attr.kind {
                    Kind::Dir => vec![Error::IsDir, Error::Invalid],
                    _ if attr.nlink == 0 => vec![Error::Stale],
                    _ => Vec::new(),
                })
            }
            Operation::OpenDir { ino } | Operation::ReadDir { ino, .. } => {
                let attr = self.fs.getattr(self.node(*ino)?)?;
                Ok(match attr.kind {
                    Kind::Dir if attr.nlink > 0 => Vec::new(),
                    Kind::Dir => vec![Error::NotFound, Error::Stale],
                    _ => vec![Error::NotDir],
                })
            }
            _ => Ok(Vec::new()),
        }
    }
}
