//! The boundary as plain data: what a machine is asked, what it asks for, what it is told.
//!
//! Hosts (the simulator and the production mount) perform [`Effect`]s and feed back [`Completion`]s.
//! A store decides nothing about files: the key-value port stops at read, write set and commit.

pub mod control;
pub mod kernel;
pub mod meta_kv;
pub mod page_store;

use crate::id::{EffectId, RequestId};
use alloc::boxed::Box;
use alloc::string::String;

/// The one output queue of a machine, in the order the machine chose.
#[derive(Debug)]
pub enum Effect {
    /// Answers a kernel request. Exactly one per request that expects an answer.
    Reply {
        /// The request answered.
        request: RequestId,
        /// Its answer.
        reply: kernel::Reply,
        /// Where in the order of commits the answer belongs.
        point: Point,
    },
    /// Answers a control request. Exactly one per request.
    Answer {
        /// The request answered.
        request: RequestId,
        /// Its answer.
        answer: Box<control::Answer>,
    },
    /// Asks the metadata store; the completion carries the same id.
    Kv {
        /// To be returned with the completion.
        id: EffectId,
        /// What to do.
        request: meta_kv::KvRequest,
    },
    /// Asks the page store; the completion carries the same id.
    Page {
        /// To be returned with the completion.
        id: EffectId,
        /// What to do.
        request: page_store::PageRequest,
    },
    /// Tells the kernel to forget something; the completion says that it has. Performed where nothing
    /// else waits for it: it may take as long as the kernel works on the object.
    Notify {
        /// To be returned with the completion.
        id: EffectId,
        /// What to forget.
        notification: kernel::Notification,
    },
    /// Something an operator must be able to read later; the host logs it.
    Report(Report),
}

/// What became of an effect.
#[derive(Debug)]
pub enum Completion {
    /// Of [`Effect::Kv`].
    Kv(Result<meta_kv::KvReply, meta_kv::KvError>),
    /// Of [`Effect::Page`].
    Page(Result<page_store::PageReply, page_store::PageError>),
    /// Of [`Effect::Notify`]: the kernel has forgotten it, never knew it, or is gone.
    Notified,
}

/// Where an answer belongs in the order of commits (the linearization the store hands out).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The operation took effect with this commit.
    Commit(meta_kv::Commit),
    /// The answer was read from (or, for a failure, decided on) the state at this version.
    Snapshot(meta_kv::Version),
    /// The operation took effect in the machine's memory, at the step that emitted this reply.
    Step,
}

/// A line for the log, with its severity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How bad it is.
    pub severity: Severity,
    /// What happened: cause, object, range, and what to do.
    pub text: String,
}

/// How bad a [`Report`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Something was survived.
    Warning,
    /// Somebody got an error because of it.
    Error,
}
