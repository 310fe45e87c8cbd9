//! Saying how far a long run is.

use crate::ctl::wire::Progress;
use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Runs `work`, and while it takes its time says on stderr how far it is; `every` of zero: never.
pub(super) fn watched<T: Send>(
    every: Duration,
    progress: impl Fn() -> Option<Progress>,
    work: impl FnOnce() -> T + Send,
) -> T {
    if every.is_zero() {
        return work();
    }
    watched_by(every, progress, work, |line| {
        // Whoever reads may have gone away.
        let _ = writeln!(std::io::stderr(), "{line}");
    })
}

fn watched_by<T: Send>(
    every: Duration,
    progress: impl Fn() -> Option<Progress>,
    work: impl FnOnce() -> T + Send,
    mut say: impl FnMut(String),
) -> T {
    thread::scope(|scope| {
        let (send, done) = mpsc::channel();
        scope.spawn(move || send.send(work()));
        loop {
            match done.recv_timeout(every) {
                Ok(result) => return result,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if let Some(Progress { stage, done }) = progress() {
                        say(format!("checking {stage}: {done}"));
                    }
                }
                // The thread panicked and said so; the scope passes it on.
                Err(mpsc::RecvTimeoutError::Disconnected) => unreachable!("the worker panicked"),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_said_until_the_work_is_done() {
        let mut said = Vec::new();
        let progress = || Some(Progress { stage: "inodes".into(), done: 7 });
        let work = || {
            thread::sleep(Duration::from_millis(300));
            42
        };
        let result = watched_by(Duration::from_millis(10), progress, work, |line| said.push(line));
        assert_eq!(result, 42);
        assert!(said.len() > 1, "{said:?}");
        assert_eq!(said[0], "checking inodes: 7");
    }
}
