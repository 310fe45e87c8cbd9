//! The modes that the kernel goes by: it runs programs without asking for them again.
//!
//! Owns: what the kernel believes, and the rule that it never believes in set-id bits that an answered
//! change of data has taken.

use std::collections::BTreeMap;
use vellum_core::id::Ino;
use vellum_core::meta::ops::privilege::without_set_id;
use vellum_core::port::kernel::{Notification, Operation, Reply};

use crate::check::attrs_in;
use crate::history::{Place, Record};
use crate::kernel::xattrs::ACCESS_ACL;
use crate::world::{Failure, Outcome, brief};

/// What the kernel believes of the inodes of one mount.
#[derive(Clone, Debug, Default)]
pub struct Modes {
    believed: BTreeMap<Ino, u32>,
    /// When it forgot last, or was told to. What an answer shows that was asked for before may be older.
    forgotten: BTreeMap<Ino, Place>,
    /// When a chmod was answered last.
    chmods: BTreeMap<Ino, Place>,
}

impl Modes {
    /// A notification arrived.
    pub fn forget(&mut self, notification: &Notification, place: Place) {
        if let Notification::Inode { ino, .. } = notification {
            self.forget_inode(*ino, place);
        }
    }

    fn forget_inode(&mut self, ino: Ino, place: Place) {
        self.believed.remove(&ino);
        self.forgotten.insert(ino, place);
    }

    /// Takes in an answer.
    pub fn learn(&mut self, record: &Record) {
        for attr in attrs_in(&record.reply) {
            let newer = self.forgotten.get(&attr.ino).is_none_or(|at| *at < record.asked);
            // What a change of attributes says it takes whatever it was told meanwhile.
            if newer || changes_attributes(&record.op, attr.ino) {
                self.believed.insert(attr.ino, attr.mode);
            }
        }
        match &record.op {
            op @ Operation::SetAttr { ino, .. } if is_chmod(op, *ino) => {
                self.chmods.insert(*ino, record.answered);
            }
            // An ACL has a say in the mode: the kernel forgets what it knew by itself.
            Operation::SetXattr { ino, name, .. } | Operation::RemoveXattr { ino, name }
                if name == ACCESS_ACL =>
            {
                self.forget_inode(*ino, record.answered);
            }
            _ => {}
        }
    }

    /// Judges an answer. `under_way`: whether a change of an inode's attributes waits for its answer, which
    /// will say what the mode is. The kernel itself lets none be under way beside a change of data.
    ///
    /// # Errors
    /// A change of data that takes set-id bits was answered, and the kernel believes in some. A chmod at the
    /// same time may have brought them back, and a chown may have taken them.
    pub fn check(&self, record: &Record, under_way: impl Fn(Ino) -> bool) -> Outcome<()> {
        let Some(ino) = takes_set_id(record) else { return Ok(()) };
        let Some(mode) = self.believed.get(&ino) else { return Ok(()) };
        let chmod = self.chmods.get(&ino).is_some_and(|at| *at > record.asked);
        if without_set_id(*mode) == *mode || chmod || under_way(ino) {
            return Ok(());
        }
        let text = format!(
            "{:?} {} = {}, and the kernel believes in mode {mode:o} of {ino}",
            record.id,
            brief(&record.op),
            brief(&record.reply)
        );
        Err(Failure { place: record.answered, ..Failure::new("believed-mode", text) })
    }
}

/// Whether an operation changes attributes of an inode.
pub fn changes_attributes(op: &Operation, of: Ino) -> bool {
    matches!(op, Operation::SetAttr { ino, .. } if *ino == of)
}

/// Whether an operation may set set-id bits of an inode.
fn is_chmod(op: &Operation, of: Ino) -> bool {
    matches!(op, Operation::SetAttr { ino, set, .. } if *ino == of && set.mode.is_some())
}

/// The inode whose data an answered request changed on behalf of somebody without privilege, if the
/// answer says nothing of its mode. The kernel's own write-backs take nothing.
fn takes_set_id(record: &Record) -> Option<Ino> {
    match (&record.op, &record.reply) {
        (Operation::Write { ino, flags, .. }, Reply::Written(1..))
            if flags.kill_suidgid && !flags.from_cache =>
        {
            Some(*ino)
        }
        (Operation::Open { ino, flags }, Reply::Opened(_))
            if flags.truncates() && flags.kills_suidgid() =>
        {
            Some(*ino)
        }
        (Operation::Fallocate { ino, .. }, Reply::Done) if record.caller.uid != 0 => Some(*ino),
        (Operation::CopyRange { to_ino, .. }, Reply::Copied(1..)) if record.caller.uid != 0 => {
            Some(*to_ino)
        }
        _ => None,
    }
}
