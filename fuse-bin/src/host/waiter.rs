//! Who waits for an answer of the machine, and how it gets it.

use super::clock;
use bytes::Bytes;
use crossbeam_channel::Sender;
use std::time::Duration;
use vellum_core::id::Ino;
use vellum_core::port::control::Answer;
use vellum_core::port::kernel::{Operation, Reply};
use vellum_core::time::{Instant, Now};

/// A request that took longer is logged.
const SLOW: Duration = Duration::from_secs(1);

/// Answers one request of the kernel.
pub trait Respond: Send + Sized + 'static {
    /// Sends the answer. Returns operations that undo what the kernel did not learn of: lookups of
    /// entries that did not fit, handles and lookups of an answer that could not be delivered.
    fn respond(self, reply: Reply) -> Vec<Operation>;
}

/// Who waits.
pub(super) enum Waiter<R> {
    /// The kernel.
    Kernel { respond: R, label: Label, since: Instant },
    /// A thread of this process.
    Control(Sender<Answer>),
}

impl<R: Respond> Waiter<R> {
    pub(super) fn kernel(respond: R, label: Label, now: Now) -> Waiter<R> {
        Waiter::Kernel { respond, label, since: now.mono }
    }

    /// Passes a reply on; the result undoes what was not delivered.
    pub(super) fn reply(self, reply: Reply) -> Vec<Operation> {
        match self {
            Waiter::Kernel { respond, label, since } => {
                label.log_if_slow(since, &reply);
                respond.respond(reply)
            }
            Waiter::Control(_) => unreachable!("a control request was answered by a kernel reply"),
        }
    }

    /// Passes an answer on. Nobody may be listening any more.
    pub(super) fn answer(self, answer: Answer) {
        match self {
            Waiter::Control(send) => drop(send.send(answer)),
            Waiter::Kernel { .. } => {
                unreachable!("a kernel request was answered by a control answer")
            }
        }
    }
}

/// What a request is about, for the log.
pub(super) struct Label {
    op: &'static str,
    ino: Ino,
    name: Option<Bytes>,
}

impl Label {
    pub(super) fn of(op: &Operation) -> Label {
        use Operation as O;
        let (op, ino, name) = match op {
            O::Lookup { parent, name } => ("lookup", *parent, Some(name)),
            O::Forget { .. } => ("forget", Ino(0), None),
            O::GetAttr { ino, .. } => ("getattr", *ino, None),
            O::SetAttr { ino, .. } => ("setattr", *ino, None),
            O::ReadLink { ino } => ("readlink", *ino, None),
            O::Symlink { parent, name, .. } => ("symlink", *parent, Some(name)),
            O::MkNod { parent, name, .. } => ("mknod", *parent, Some(name)),
            O::MkDir { parent, name, .. } => ("mkdir", *parent, Some(name)),
            O::Unlink { parent, name } => ("unlink", *parent, Some(name)),
            O::RmDir { parent, name } => ("rmdir", *parent, Some(name)),
            O::Rename { parent, name, .. } => ("rename", *parent, Some(name)),
            O::Link { ino, new_name, .. } => ("link", *ino, Some(new_name)),
            O::Open { ino, .. } => ("open", *ino, None),
            O::Create { parent, name, .. } => ("create", *parent, Some(name)),
            O::Read { ino, .. } => ("read", *ino, None),
            O::Write { ino, .. } => ("write", *ino, None),
            O::Flush { ino, .. } => ("flush", *ino, None),
            O::Release { ino, .. } => ("release", *ino, None),
            O::Fsync { ino, .. } => ("fsync", *ino, None),
            O::OpenDir { ino } => ("opendir", *ino, None),
            O::ReadDir { ino, .. } => ("readdir", *ino, None),
            O::ReleaseDir { ino, .. } => ("releasedir", *ino, None),
            O::FsyncDir { ino, .. } => ("fsyncdir", *ino, None),
            O::StatFs { ino } => ("statfs", *ino, None),
            O::TmpFile { parent, .. } => ("tmpfile", *parent, None),
            O::Fallocate { ino, .. } => ("fallocate", *ino, None),
            O::Seek { ino, .. } => ("lseek", *ino, None),
            O::CopyRange { ino, .. } => ("copy_file_range", *ino, None),
            O::GetXattr { ino, name, .. } => ("getxattr", *ino, Some(name)),
            O::ListXattr { ino, .. } => ("listxattr", *ino, None),
            O::SetXattr { ino, name, .. } => ("setxattr", *ino, Some(name)),
            O::RemoveXattr { ino, name } => ("removexattr", *ino, Some(name)),
            O::Interrupt { .. } => ("interrupt", Ino(0), None),
        };
        Label { op, ino, name: name.cloned() }
    }

    fn log_if_slow(&self, since: Instant, reply: &Reply) {
        let took = clock::mono().since(since);
        if took < SLOW {
            return;
        }
        let name = self.name.as_deref().map(|n| n.escape_ascii().to_string()).unwrap_or_default();
        let result = match reply {
            Reply::Error(error) => format!("{error:?}"),
            _ => "ok".to_string(),
        };
        tracing::warn!(
            op = self.op,
            ino = %self.ino,
            name,
            result,
            seconds = took.as_secs_f64(),
            "slow operation"
        );
    }
}
