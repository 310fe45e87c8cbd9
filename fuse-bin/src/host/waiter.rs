//! Who waits for an answer of the machine, and how it gets it.

use super::clock;
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
    pub(super) fn answer(self, answer: Answer) -> Vec<Operation> {
        match (self, answer) {
            (Waiter::Control(send), answer) => {
                let _ = send.send(answer);
                Vec::new()
            }
            (kernel, Answer::Failed(error)) => kernel.reply(Reply::Error(error)),
            (kernel, _) => kernel.reply(Reply::Done),
        }
    }
}

/// What a request is about, for the log.
pub(super) struct Label {
    op: &'static str,
    ino: Ino,
    /// As much of the name as there is room for: sharing it would cost an allocation for each request.
    name: [u8; NAME_MAX],
    name_len: usize,
}

/// Bytes of a name that are logged.
const NAME_MAX: usize = 40;

impl Label {
    /// Of a request of the kernel that becomes one to the host.
    pub(super) fn control() -> Label {
        Label { op: "syncfs", ino: Ino(0), name: [0; NAME_MAX], name_len: 0 }
    }

    pub(super) fn of(op: &Operation) -> Label {
        use Operation as O;
        let (op, ino, of) = match op {
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
        let of = of.map_or(&[][..], |name| name);
        let name_len = of.len().min(NAME_MAX);
        let mut name = [0; NAME_MAX];
        name[..name_len].copy_from_slice(&of[..name_len]);
        Label { op, ino, name, name_len }
    }

    fn log_if_slow(&self, since: Instant, reply: &Reply) {
        let took = clock::mono().since(since);
        if took < SLOW {
            return;
        }
        let name = self.name[..self.name_len].escape_ascii().to_string();
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
