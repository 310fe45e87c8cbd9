//! What the host drives: the machine of a mount, and in its tests a puppet.

use vellum_core::client::Client;
use vellum_core::id::{EffectId, RequestId};
use vellum_core::port::control::Control;
use vellum_core::port::kernel::Request;
use vellum_core::port::{Completion, Effect};
use vellum_core::time::{Instant, Now};

/// The verbs of [`Client`].
#[expect(missing_docs, reason = "they are the client's")]
pub trait Machine: Send + 'static {
    fn handle_request(&mut self, now: Now, id: RequestId, request: Request);
    fn handle_control(&mut self, now: Now, id: RequestId, control: Control);
    fn handle_completion(&mut self, now: Now, id: EffectId, completion: Completion);
    fn handle_timeout(&mut self, now: Now);
    fn poll_effect(&mut self) -> Option<Effect>;
    fn poll_timeout(&self) -> Option<Instant>;
}

impl Machine for Client {
    fn handle_request(&mut self, now: Now, id: RequestId, request: Request) {
        Client::handle_request(self, now, id, request);
    }

    fn handle_control(&mut self, now: Now, id: RequestId, control: Control) {
        Client::handle_control(self, now, id, control);
    }

    fn handle_completion(&mut self, now: Now, id: EffectId, completion: Completion) {
        Client::handle_completion(self, now, id, completion);
    }

    fn handle_timeout(&mut self, now: Now) {
        Client::handle_timeout(self, now);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        Client::poll_effect(self)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Client::poll_timeout(self)
    }
}
