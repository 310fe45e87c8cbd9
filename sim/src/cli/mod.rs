//! The verbs of `sim`, one file each.

pub(crate) mod exhaustive;
