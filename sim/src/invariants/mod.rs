//! What must hold of a volume and its history, one file each.

pub mod change_time;
pub mod limits;
pub(crate) mod listing;
