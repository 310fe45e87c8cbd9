//! A volume holds no more than it may, and refuses only what does not fit.

use vellum_core::port::control::{Limit, Status};
use vellum_core::port::kernel::Operation;

use crate::replay::{Mirror, Usage};
use crate::world::{Failure, Outcome};

/// Nothing that was taken goes beyond the limits, but for extended attributes, which are never refused,
/// and holes of files that lie inline (`extra` bytes), and for creations that `callers` begin at the same moment.
///
/// # Errors
/// The numbers.
pub fn check(limit: Limit, extra: u64, callers: usize, status: &Status) -> Outcome<()> {
    let over =
        |used: u64, most: Option<u64>, extra: u64| most.is_some_and(|most| used > most + extra);
    if over(status.bytes, limit.bytes, extra) || over(status.inodes, limit.inodes, callers as u64) {
        let text = format!(
            "{} bytes and {} inodes, and the limits are {limit:?}",
            status.bytes, status.inodes
        );
        return Err(Failure::new("limit", text));
    }
    Ok(())
}

/// Whether ENOSPC is right: the operation may need more than is left. What was removed may still be
/// there, and `garbage` of an earlier life, too.
pub fn may_be_full(mirror: &Mirror, garbage: Usage, limit: Limit, op: &Operation) -> bool {
    let used = mirror.usage_at_most();
    let wants = needs(op);
    let full = |used: u64, garbage: u64, wants: u64, most: Option<u64>| {
        most.is_some_and(|most| wants > 0 && used + garbage + wants > most)
    };
    full(used.bytes, garbage.bytes, wants.bytes, limit.bytes)
        || full(used.inodes, garbage.inodes, wants.inodes, limit.inodes)
}

/// What an operation may take at most.
pub(crate) fn needs(op: &Operation) -> Usage {
    let bytes = |bytes: u64| Usage { bytes, ..Usage::default() };
    match op {
        Operation::Write { data, .. } => bytes(data.len() as u64),
        Operation::Fallocate { len, .. } | Operation::CopyRange { len, .. } => bytes(*len),
        Operation::SetXattr { name, value, .. } => bytes((name.len() + value.len()) as u64),
        Operation::Symlink { target, .. } => Usage { inodes: 1, ..bytes(target.len() as u64) },
        Operation::Create { .. }
        | Operation::TmpFile { .. }
        | Operation::MkNod { .. }
        | Operation::MkDir { .. } => Usage { inodes: 1, ..Usage::default() },
        _ => Usage::default(),
    }
}
