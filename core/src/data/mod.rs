//! File data: what is buffered, what the write log says, and what a range of a file consists of.
//!
//! Owns: the overlay of extents, the write buffer of a file, the bytes of a write-log pack.
//! Never does: I/O, transactions, keys. Payload travels as shared handles; it is copied only where
//! [`write_buffer`] says so.

pub mod extent_map;
pub mod fold;
pub mod gather;
pub mod page_io;
pub mod parts;
pub mod read_ahead;
pub mod segment;
mod varint;
pub mod write_buffer;
pub mod write_log;
