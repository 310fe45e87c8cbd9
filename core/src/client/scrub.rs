//! scrub: every frame of every segment is read and verified, in the background and at a bounded rate.
//!
//! What is damaged is reported with the files and ranges that lie in it. One scrub at a time.

use super::tasks::done;
use super::{Client, Mounted};
use crate::data::extent_map::Source;
use crate::data::page_io::page;
use crate::error::{FsError, FsResult};
use crate::id::{Ino, RequestId, SegmentId};
use crate::limits::FRAME_SIZE;
use crate::meta::key;
use crate::meta::ops::logs::logs;
use crate::meta::ops::path::path;
use crate::meta::ops::weigh::weigh;
use crate::meta::txn::{Volume, one, transact, value};
use crate::port::Severity;
use crate::port::control::{Answer, Problem, ScrubReport};
use crate::port::page_store::{PageError, PageReply, PageRequest};
use crate::task::{Ask, Cx};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::ops::Range;
use core::time::Duration;

/// Segments looked at in one page.
const PAGE: u32 = 256;
/// Damaged segments that are looked up; more are counted.
const DAMAGED_MAX: usize = 1024;

/// What is wrong with a segment.
type Damage = BTreeMap<SegmentId, PageError>;

impl Client {
    /// Verifies everything at `rate` bytes per second (0: as fast as it goes).
    pub(super) fn scrub(&mut self, mounted: Mounted, id: RequestId, rate: u64) {
        if self.scrubbing.is_some() {
            return self.answer(id, Answer::Failed(FsError::Busy));
        }
        let report = ScrubReport::default();
        self.scrubbing = Some(report.clone());
        self.spawn(id, move |cx| async move {
            let result = scrub(&cx, &mounted.volume, rate).await;
            done(move |client| {
                client.scrubbing = None;
                let answer = match result {
                    Ok(report) => {
                        for problem in &report.problems {
                            client.report(Severity::Error, format!("scrub: {}", problem.text));
                        }
                        Answer::Scrubbed(report)
                    }
                    Err(error) => Answer::Failed(error),
                };
                client.answer(id, answer);
            })
        });
    }
}

async fn scrub(cx: &Cx, volume: &Arc<Volume>, rate: u64) -> FsResult<ScrubReport> {
    let mut report = ScrubReport::default();
    let mut damage = Damage::new();
    let mut after = None;
    loop {
        let (found, _) = transact!(cx, volume, |txn| weigh(txn, after, PAGE).await);
        let found = found?;
        for one in &found {
            if cx.interrupted() {
                return Err(FsError::Interrupted);
            }
            match verify(cx, volume, one.segment).await? {
                Ok(len) => report.bytes = report.bytes.saturating_add(len),
                Err(error) if damage.len() < DAMAGED_MAX => {
                    damage.insert(one.segment, error);
                }
                Err(_) => {}
            }
            report.segments += 1;
            cx.ask(Ask::Scrubbed(report.clone())).await;
            rest(cx, one.liveness.len, rate).await;
        }
        after = found.last().map(|found| found.segment);
        if found.len() < PAGE as usize {
            break;
        }
    }
    report.damaged = damage.len() as u64;
    if !damage.is_empty() {
        name(cx, volume, &damage, &mut report).await?;
    }
    Ok(report)
}

/// Verifies one segment; one that is gone although its record is not is damaged, too.
async fn verify(
    cx: &Cx,
    volume: &Arc<Volume>,
    segment: SegmentId,
) -> FsResult<Result<u64, PageError>> {
    match page(cx, PageRequest::Verify { segment }).await {
        Ok(PageReply::Verified { len }) => Ok(Ok(u64::from(len))),
        Ok(_) => Err(FsError::Damaged),
        Err(PageError::Unavailable) => Err(PageError::Unavailable.into()),
        Err(error) => {
            let (record, _) = transact!(cx, volume, |txn| {
                let [record] = txn.read([one(key::segment(segment)).snapshot()]).await?;
                Ok(value(record).is_some())
            });
            // Without a record it was removed meanwhile, and is nobody's.
            Ok(if record? { Err(error) } else { Ok(0) })
        }
    }
}

async fn rest(cx: &Cx, bytes: u64, rate: u64) {
    if let Some(nanos) = bytes.saturating_mul(1_000_000_000).checked_div(rate) {
        cx.sleep(Duration::from_nanos(nanos)).await;
    }
}

/// Says which files have bytes in damaged segments, and where.
async fn name(
    cx: &Cx,
    volume: &Arc<Volume>,
    damage: &Damage,
    report: &mut ScrubReport,
) -> FsResult<()> {
    let mut from = None;
    loop {
        let (found, _) = transact!(cx, volume, |txn| logs(txn, from.clone()).await);
        let found = found?;
        for pack in &found.packs {
            for extent in &pack.extents {
                let Source::Segment { segment, offset } = extent.source else { continue };
                let Some(error) = damage.get(&segment) else { continue };
                let Some(part) = harmed(offset, extent.len, error) else { continue };
                let range = extent.offset + part.start..extent.offset + part.end;
                let text = described(cx, volume, pack.ino, range, (segment, *error)).await?;
                report.problems.push(Problem { rule: "frame-checksum", text });
            }
        }
        from = found.next;
        if from.is_none() {
            return Ok(());
        }
    }
}

/// Which bytes of an extent from a payload offset on are harmed.
fn harmed(offset: u32, len: u64, error: &PageError) -> Option<Range<u64>> {
    let (first, end) = (u64::from(offset), u64::from(offset) + len);
    let harmed = match error {
        PageError::Corrupt { offset } => {
            u64::from(*offset)..u64::from(*offset) + u64::from(FRAME_SIZE)
        }
        _ => 0..u64::MAX,
    };
    let part = harmed.start.max(first)..harmed.end.min(end);
    (part.start < part.end).then(|| part.start - first..part.end - first)
}

async fn described(
    cx: &Cx,
    volume: &Arc<Volume>,
    ino: Ino,
    range: Range<u64>,
    (segment, error): (SegmentId, PageError),
) -> FsResult<String> {
    let (name, _) = transact!(cx, volume, |txn| path(txn, ino).await);
    let name = name?.unwrap_or_else(|| String::from("(no name)"));
    Ok(format!(
        "{name} (inode {ino}), bytes {}..{}: segment {segment}: {error:?}",
        range.start, range.end
    ))
}
