//! Asking the page store, patiently: one that does not answer now is asked again.
//!
//! Owns: how long a page store may be away before somebody is told. Never does: choosing what to
//! read. Tests: the simulator's outages.

use crate::error::FsError;
use crate::port::page_store::{PageError, PageReply, PageRequest};
use crate::task::{Ask, Cx, Told};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

/// Attempts before an outage is an error: about 16 s.
const ATTEMPTS_MAX: u32 = 24;
/// Longest wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What an answer of the page store means to the request that waited for it. A caller that gave up is told
/// so, not that anything is wrong.
pub fn failure(cx: &Cx, error: PageError) -> FsError {
    match error {
        PageError::Unavailable if cx.interrupted() => FsError::Interrupted,
        error => error.into(),
    }
}

/// Asks one thing.
pub async fn page(cx: &Cx, request: PageRequest) -> Result<PageReply, PageError> {
    pages(cx, vec![request]).await.pop().unwrap_or(Err(PageError::Io))
}

/// Asks several things at once; one answer each, in their order.
pub async fn pages(cx: &Cx, requests: Vec<PageRequest>) -> Vec<Result<PageReply, PageError>> {
    let mut replies = ask(cx, requests.clone()).await;
    for attempt in 1..ATTEMPTS_MAX {
        let away: Vec<usize> = (0..replies.len())
            .filter(|n| matches!(replies[*n], Err(PageError::Unavailable)))
            .collect();
        if away.is_empty() || cx.interrupted() {
            break;
        }
        cx.sleep(WAIT_MAX.min(Duration::from_millis(1 << attempt.min(10)))).await;
        let again = away.iter().map(|n| requests[*n].clone()).collect();
        for (n, reply) in away.into_iter().zip(ask(cx, again).await) {
            replies[n] = reply;
        }
    }
    replies
}

async fn ask(cx: &Cx, requests: Vec<PageRequest>) -> Vec<Result<PageReply, PageError>> {
    let expected = requests.len();
    match cx.ask(Ask::Pages(requests)).await {
        Told::Pages(replies) if replies.len() == expected => replies,
        _ => (0..expected).map(|_| Err(PageError::Io)).collect(),
    }
}
