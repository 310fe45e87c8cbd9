//! The mount's machine: takes requests of the kernel and of the host, decides, and asks for effects.
//!
//! Owns: the inode table, handles, write buffers, the order of everything that happens on one mount.
//! Never does: I/O. Hosts call the four `handle_` methods and then take effects until there are none.

mod config;

pub use config::ClientConfig;

use crate::id::{EffectId, RequestId};
use crate::port::{Completion, Effect, control::Control, kernel::Request};
use crate::time::{Instant, Now};
use alloc::collections::VecDeque;

/// One mount of one volume.
///
/// A machine is `Send`; the production host keeps it in a mutex that many threads share.
pub struct Client {
    config: ClientConfig,
    effects: VecDeque<Effect>,
}

impl Client {
    /// A machine that knows nothing yet; the first control request is [`Control::Format`] or [`Control::Mount`].
    pub fn new(config: ClientConfig) -> Client {
        Client { config, effects: VecDeque::new() }
    }

    /// A request of the kernel arrived. `id` is unused since the last reply to it.
    pub fn handle_request(&mut self, _now: Now, _id: RequestId, _request: Request) {}

    /// A request of the host arrived. Its id comes from the same space as the kernel's.
    pub fn handle_control(&mut self, _now: Now, _id: RequestId, _control: Control) {}

    /// An effect was performed.
    pub fn handle_completion(&mut self, _now: Now, _id: EffectId, _completion: Completion) {}

    /// The time that [`Client::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, _now: Now) {}

    /// The next effect to perform. Hosts call it until it is `None`, after each input.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Client::handle_timeout`] wants to be called, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }
}
