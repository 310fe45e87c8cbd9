//! Rename: plain, without replacing, and exchanging.
//!
//! Times, as every Linux filesystem does it: both directories' mtime and ctime, the ctime of what moved,
//! and the ctime of what was replaced. A rename of a name onto another name of the same node does
//! nothing at all, as POSIX wants.

use crate::allowed::Call;
use crate::attr::{NodeId, Time};
use crate::error::Result;
use crate::fs::{Body, Fs};
use crate::quirk::Quirk;

/// The flags of `renameat2`; Linux refuses both together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RenameFlags {
    /// Replace what has the new name.
    #[default]
    Replace,
    /// `RENAME_NOREPLACE`: fail if the new name is taken.
    NoReplace,
    /// `RENAME_EXCHANGE`: swap the two nodes.
    Exchange,
}

impl Fs {
    /// Renames `old` in `from` to `new` in `to`.
    ///
    /// # Errors
    /// Whatever [`Fs::allowed_errors`] lists, first of it the one that Linux reports.
    pub fn rename(
        &mut self,
        from: NodeId,
        old: &[u8],
        to: NodeId,
        new: &[u8],
        flags: RenameFlags,
        now: Time,
    ) -> Result<()> {
        self.refuse(&Call::Rename { from, old, to, new, flags })?;
        let source = self.entries(from)?[old];
        let target = self.peek(to, new)?;
        if target == Some(source) {
            return Ok(());
        }
        match target {
            Some(target)
                if flags == RenameFlags::Exchange && !self.has(Quirk::ExchangeReplaces) =>
            {
                self.place(target, to, from, old);
                self.node_mut(target).ctime = now;
            }
            Some(target) => {
                self.take(from, old);
                self.replace(target, to, now);
            }
            None => {
                self.take(from, old);
            }
        }
        self.place(source, from, to, new);
        self.node_mut(source).ctime = now;
        self.stamp_entries(from, now);
        self.stamp_entries(to, now);
        Ok(())
    }

    /// Removes the links of what a rename replaces in `dir`.
    fn replace(&mut self, target: NodeId, dir: NodeId, now: Time) {
        if self.is_dir(target) {
            self.node_mut(dir).nlink -= 1;
            self.drop_dir(target, now);
        } else {
            self.drop_link(target, now);
        }
    }

    /// Puts a node that leaves `from` under a name in `to`.
    fn place(&mut self, id: NodeId, from: NodeId, to: NodeId, name: &[u8]) {
        self.entries_mut(to).insert(name.to_vec(), id);
        if let Body::Dir { up, .. } = &mut self.node_mut(id).body {
            *up = to;
            if from != to && !self.has(Quirk::RenameForgetsParentLinks) {
                self.node_mut(from).nlink -= 1;
            }
            if from != to {
                self.node_mut(to).nlink += 1;
            }
        }
    }
}
