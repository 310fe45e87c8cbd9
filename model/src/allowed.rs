//! Which errors a change of the namespace may give.
//!
//! Where several reasons to refuse hold at once, POSIX leaves open which is reported. [`Fs::refusals`]
//! lists every reason that holds, in the order in which Linux finds them: the first is what the model
//! answers, any of them (and of their POSIX synonyms) is right in an implementation. So one function per
//! operation decides both, and an operation succeeds exactly if the list is empty.

use crate::attr::{Kind, NodeId};
use crate::error::{Error, Result};
use crate::fs::{Body, Fs};
use crate::rename::RenameFlags;

/// A change of the namespace that has not been made yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call<'a> {
    /// `create`, `mknod` or `symlink`.
    Make {
        /// The directory.
        parent: NodeId,
        /// The new name.
        name: &'a [u8],
    },
    /// `mkdir`.
    Mkdir {
        /// The directory.
        parent: NodeId,
        /// The new name.
        name: &'a [u8],
    },
    /// `link`.
    Link {
        /// The node that gets a name.
        node: NodeId,
        /// The directory.
        parent: NodeId,
        /// The new name.
        name: &'a [u8],
    },
    /// `unlink`.
    Unlink {
        /// The directory.
        parent: NodeId,
        /// The name to remove.
        name: &'a [u8],
    },
    /// `rmdir`.
    Rmdir {
        /// The directory.
        parent: NodeId,
        /// The name to remove.
        name: &'a [u8],
    },
    /// `rename`.
    Rename {
        /// The directory of the old name.
        from: NodeId,
        /// The old name.
        old: &'a [u8],
        /// The directory of the new name.
        to: NodeId,
        /// The new name.
        new: &'a [u8],
        /// NOREPLACE or EXCHANGE.
        flags: RenameFlags,
    },
}

impl Fs {
    /// The errors that are right for this call in this state; none if it must succeed.
    pub fn allowed_errors(&self, call: &Call<'_>) -> Vec<Error> {
        with_synonyms(call, self.refusals(call))
    }

    /// Fails with the error that Linux reports, if the call cannot be done.
    pub(crate) fn refuse(&self, call: &Call<'_>) -> Result<()> {
        match self.refusals(call).first() {
            Some(error) => Err(*error),
            None => Ok(()),
        }
    }

    /// Every reason to refuse, in the order in which Linux finds them.
    pub(crate) fn refusals(&self, call: &Call<'_>) -> Vec<Error> {
        let found = match *call {
            Call::Make { parent, name } => self.refusals_of_make(parent, name),
            Call::Mkdir { parent, name } => self.refusals_of_mkdir(parent, name),
            Call::Link { node, parent, name } => self.refusals_of_link(node, parent, name),
            Call::Unlink { parent, name } => self.refusals_of_unlink(parent, name),
            Call::Rmdir { parent, name } => self.refusals_of_rmdir(parent, name),
            Call::Rename { from, old, to, new, flags } => {
                self.refusals_of_rename(from, old, to, new, flags)
            }
        };
        // An error on the way there hides whatever else might be wrong.
        found.unwrap_or_else(|error| vec![error])
    }

    fn refusals_of_make(&self, parent: NodeId, name: &[u8]) -> Result<Vec<Error>> {
        let taken = self.peek(parent, name)?.is_some() || is_dots(name);
        let mut errors = Vec::new();
        push_if(&mut errors, taken, Error::Exists);
        push_if(&mut errors, self.is_removed(parent), Error::NotFound);
        Ok(errors)
    }

    fn refusals_of_mkdir(&self, parent: NodeId, name: &[u8]) -> Result<Vec<Error>> {
        let mut errors = self.refusals_of_make(parent, name)?;
        let full = self.node(parent)?.nlink >= self.limits.link_max;
        push_if(&mut errors, full, Error::LinkMax);
        Ok(errors)
    }

    fn refusals_of_link(&self, id: NodeId, parent: NodeId, name: &[u8]) -> Result<Vec<Error>> {
        let node = self.node(id)?;
        let mut errors = self.refusals_of_make(parent, name)?;
        push_if(&mut errors, node.kind() == Kind::Dir, Error::Permission);
        push_if(&mut errors, node.nlink == 0 && !node.nameable, Error::NotFound);
        push_if(&mut errors, node.nlink >= self.limits.link_max, Error::LinkMax);
        Ok(errors)
    }

    fn refusals_of_unlink(&self, parent: NodeId, name: &[u8]) -> Result<Vec<Error>> {
        if is_dots(name) {
            return Err(Error::IsDir);
        }
        let victim = self.peek(parent, name)?.ok_or(Error::NotFound)?;
        let mut errors = Vec::new();
        push_if(&mut errors, self.node(victim)?.kind() == Kind::Dir, Error::IsDir);
        Ok(errors)
    }

    fn refusals_of_rmdir(&self, parent: NodeId, name: &[u8]) -> Result<Vec<Error>> {
        match name {
            b"." => return Err(Error::Invalid),
            b".." => return Err(Error::NotEmpty),
            _ => {}
        }
        let victim = self.peek(parent, name)?.ok_or(Error::NotFound)?;
        let mut errors = Vec::new();
        push_if(&mut errors, self.node(victim)?.kind() != Kind::Dir, Error::NotDir);
        push_if(&mut errors, self.has_entries(victim), Error::NotEmpty);
        Ok(errors)
    }

    fn refusals_of_rename(
        &self,
        from: NodeId,
        old: &[u8],
        to: NodeId,
        new: &[u8],
        flags: RenameFlags,
    ) -> Result<Vec<Error>> {
        if is_dots(old) || is_dots(new) {
            return Err(Error::Busy);
        }
        let source = self.peek(from, old)?;
        let exchange = flags == RenameFlags::Exchange;
        let mut errors = Vec::new();
        push_if(&mut errors, source.is_none(), Error::NotFound);
        let target = match self.peek(to, new) {
            Ok(target) => target,
            Err(error) => {
                errors.push(error);
                return Ok(errors);
            }
        };
        push_if(&mut errors, flags == RenameFlags::NoReplace && target.is_some(), Error::Exists);
        push_if(&mut errors, exchange && target.is_none(), Error::NotFound);
        push_if(&mut errors, self.is_removed(to), Error::NotFound);
        let Some(source) = source else { return Ok(errors) };
        push_if(&mut errors, self.is_within(to, source), Error::Invalid);
        let Some(target) = target else {
            push_if(&mut errors, self.is_full_for(source, None, from, to), Error::LinkMax);
            return Ok(errors);
        };
        let over_ancestor = if exchange { Error::Invalid } else { Error::NotEmpty };
        push_if(&mut errors, self.is_within(from, target), over_ancestor);
        if source == target {
            return Ok(errors);
        }
        let (moves_dir, onto_dir) = (self.is_dir(source), self.is_dir(target));
        push_if(&mut errors, !exchange && moves_dir && !onto_dir, Error::NotDir);
        push_if(&mut errors, !exchange && !moves_dir && onto_dir, Error::IsDir);
        push_if(&mut errors, self.is_full_for(source, Some(target), from, to), Error::LinkMax);
        push_if(
            &mut errors,
            exchange && self.is_full_for(target, Some(source), to, from),
            Error::LinkMax,
        );
        push_if(&mut errors, !exchange && self.has_entries(target), Error::NotEmpty);
        Ok(errors)
    }

    /// Whether `to` cannot take one more subdirectory.
    fn is_full_for(
        &self,
        source: NodeId,
        target: Option<NodeId>,
        from: NodeId,
        to: NodeId,
    ) -> bool {
        let gains = from != to && self.is_dir(source) && !target.is_some_and(|t| self.is_dir(t));
        gains && self.nodes.get(&to).is_some_and(|n| n.nlink >= self.limits.link_max)
    }

    /// Whether `id` is `top` or lies below it.
    pub(crate) fn is_within(&self, id: NodeId, top: NodeId) -> bool {
        let mut at = id;
        loop {
            if at == top {
                return true;
            }
            match self.nodes.get(&at).map(|n| &n.body) {
                Some(Body::Dir { up, .. }) if *up != at => at = *up,
                _ => return false,
            }
        }
    }

    pub(crate) fn is_dir(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|n| n.kind() == Kind::Dir)
    }

    fn is_removed(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|n| n.nlink == 0)
    }

    fn has_entries(&self, id: NodeId) -> bool {
        matches!(self.nodes.get(&id).map(|n| &n.body), Some(Body::Dir { entries, .. }) if !entries.is_empty())
    }
}

pub(crate) fn is_dots(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}

fn push_if(errors: &mut Vec<Error>, holds: bool, error: Error) {
    if holds {
        errors.push(error);
    }
}

/// A set of errors, and those that POSIX gives for the very same reasons.
pub(crate) fn with_synonyms(call: &Call<'_>, mut errors: Vec<Error>) -> Vec<Error> {
    for index in 0..errors.len() {
        errors.extend(synonyms(call, errors[index]));
    }
    errors.sort_unstable();
    errors.dedup();
    errors
}

fn synonyms(call: &Call<'_>, error: Error) -> Option<Error> {
    match (call, error) {
        // "EEXIST or ENOTEMPTY", rename and rmdir.
        (Call::Rename { .. } | Call::Rmdir { .. }, Error::NotEmpty) => Some(Error::Exists),
        // POSIX wants EPERM of an unlink of a directory; Linux gives EISDIR.
        (Call::Unlink { .. }, Error::IsDir) => Some(Error::Permission),
        _ => None,
    }
}
