//! What fsync, fsyncdir, sync or unmount promised to be durable is there after a crash: the changes of
//! names and attributes. Those of contents are in `contents.rs`.

use vellum_core::port::kernel::{Operation, Reply};

use crate::check::{Placed, Timeline};
use crate::history::{Epoch, Place};
use crate::world::{Failure, Outcome, brief};

/// Commits that were promised to be durable are among those that were kept.
///
/// # Errors
/// The first change that was promised and is lost.
pub(crate) fn check(
    epoch: &Epoch,
    timeline: &Timeline,
    changes: &[Placed<'_>],
    cut: Place,
) -> Outcome<()> {
    for (change, (place, touched)) in changes.iter().zip(&timeline.changes) {
        if *place <= cut || matches!(change.record.op, Operation::Write { .. }) {
            continue;
        }
        let answered = change.record.answered;
        let by_sync = epoch.synced.iter().any(|asked| answered < *asked);
        let by_fsync = epoch.records.iter().any(|r| match (&r.op, &r.reply) {
            (Operation::Fsync { ino, .. } | Operation::FsyncDir { ino, .. }, Reply::Done) => {
                answered < r.asked && touched.contains(ino)
            }
            _ => false,
        });
        if by_sync || by_fsync {
            let text = format!(
                "{} was synced and is lost: at {place}, cut at {cut}",
                brief(&change.record.op)
            );
            return Err(Failure::new("durability", text));
        }
    }
    Ok(())
}
