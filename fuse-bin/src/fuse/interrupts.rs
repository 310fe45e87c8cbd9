//! Signals for processes that wait for an answer.
//!
//! On a local disk a process that waits in write, read, fsync or close is not disturbed by a signal
//! that it handles, and programs rely on that; but it can be killed. The kernel sends INTERRUPT for the
//! first signal of any kind, once for each request. So a request is given up only when its caller is
//! about to die, and until its answer is there one that had another signal is looked at again and again.
//!
//! Owns: that look, and a thread for it. Never does: answer a request, which is the machine's part.

use super::session::Pending;
use crate::host::Host;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use vellum_core::id::RequestId;

/// How often a caller that had a signal is looked at.
const PAUSE: Duration = Duration::from_millis(100);
/// Signals that end nobody by default, as bits: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH.
const HARMLESS: u64 = 1 << 16 | 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 22 | 1 << 27;
/// PF_EXITING in the flags of /proc/PID/stat.
const EXITING: u64 = 4;

/// A request whose caller had a signal, and that caller.
type Signalled = (RequestId, u32);

/// Where interrupts go.
pub(super) struct Interrupts {
    host: Arc<Host<Pending>>,
    held: Sender<Signalled>,
}

impl Interrupts {
    /// Starts the thread that looks again; it ends with this.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(super) fn start(host: &Arc<Host<Pending>>) -> io::Result<Interrupts> {
        let (held, signalled) = unbounded();
        let watched = host.clone();
        std::thread::Builder::new()
            .name("vellum-signals".into())
            .spawn(move || watch(&watched, &signalled))?;
        Ok(Interrupts { host: host.clone(), held })
    }

    /// The caller of a request got a signal. False when nobody waits for an answer to it.
    pub(super) fn arrived(&self, target: RequestId) -> bool {
        let Some(caller) = self.host.waiting(target, Pending::caller) else { return false };
        if !settle(&self.host, (target, caller)) {
            let _ = self.held.send((target, caller));
        }
        true
    }
}

fn watch(host: &Host<Pending>, signalled: &Receiver<Signalled>) {
    let mut held: Vec<Signalled> = Vec::new();
    loop {
        let next = match held.is_empty() {
            true => signalled.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => signalled.recv_timeout(PAUSE),
        };
        match next {
            Ok(request) => held.push(request),
            Err(RecvTimeoutError::Timeout) => held.retain(|request| !settle(host, *request)),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Whether there is nothing more to do for it: it was answered, or its caller dies and it was told so.
fn settle(host: &Host<Pending>, (target, caller): Signalled) -> bool {
    if host.waiting(target, |_| ()).is_none() {
        return true;
    }
    let dies = dies(caller);
    if dies {
        host.interrupt(target);
    }
    dies
}

/// Whether a thread is on its way out, or has a signal that will take it there. One that cannot be seen
/// (0: it lives in another namespace) counts as living.
fn dies(thread: u32) -> bool {
    if thread == 0 {
        return false;
    }
    let read = |file| std::fs::read(format!("/proc/{thread}/{file}"));
    let (Ok(stat), Ok(status)) = (read("stat"), read("status")) else { return true };
    is_exiting(&stat) || is_doomed(&status)
}

/// By the ninth field; the second may hold anything, in parentheses.
fn is_exiting(stat: &[u8]) -> bool {
    let Some(name_end) = stat.iter().rposition(|b| *b == b')') else { return false };
    let flags = stat[name_end + 1..].split(|b| *b == b' ').filter(|f| !f.is_empty()).nth(6);
    let flags = flags.and_then(|f| std::str::from_utf8(f).ok()?.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & EXITING != 0)
}

/// By the masks of signals that wait, and what is done about them.
fn is_doomed(status: &[u8]) -> bool {
    let mask = |name: &[u8]| {
        let line = status.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(name));
        line.and_then(|l| u64::from_str_radix(std::str::from_utf8(l).ok()?.trim(), 16).ok())
            .unwrap_or(0)
    };
    let waiting = mask(b"SigPnd:") | mask(b"ShdPnd:");
    let held_off = mask(b"SigBlk:") | mask(b"SigIgn:") | mask(b"SigCgt:");
    waiting & !held_off & !HARMLESS != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_dooms_and_a_handled_ignored_blocked_or_harmless_signal_does_not() {
        let status = |pending: &str, shared: &str, blocked: &str, caught: &str| {
            format!(
                "Name:\tdd\nSigQ:\t0/1\nSigPnd:\t{pending}\nShdPnd:\t{shared}\nSigBlk:\t{blocked}\n\
                 SigIgn:\t0000000000000006\nSigCgt:\t{caught}\n"
            )
        };
        let none = "0000000000000000";
        let (kill, usr1, int, chld) =
            ("0000000000000100", "0000000000000200", "0000000000000002", "0000000000010000");
        let doomed = |s: String| is_doomed(s.as_bytes());
        assert!(doomed(status(kill, none, none, usr1)));
        assert!(doomed(status(none, usr1, none, none)));
        assert!(!doomed(status(none, usr1, none, usr1)));
        assert!(!doomed(status(none, usr1, usr1, none)));
        assert!(!doomed(status(int, none, none, none)));
        assert!(!doomed(status(none, chld, none, none)));
        assert!(!doomed(String::new()));
    }

    #[test]
    fn a_thread_that_exits_is_seen_whatever_its_name() {
        assert!(is_exiting(b"7 (a) b ) D 1 2 3 4 5 4194564 0 0"));
        assert!(!is_exiting(b"7 (a) 4 4) S 1 2 3 4 5 4194560 0 0"));
        assert!(!is_exiting(b""));
        assert!(!dies(std::process::id()) && !dies(0) && dies(u32::MAX));
    }
}
