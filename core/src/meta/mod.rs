//! Metadata: the layout of keys and records, the one transaction loop, one file per operation.
//!
//! Owns: every byte in the metadata store. Never does: effects (they go through [`txn::Txn`]).

pub mod acl;
pub mod attrs;
pub mod key;
pub mod name;
pub mod ops;
pub mod record;
pub mod txn;
