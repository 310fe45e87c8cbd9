//! What a program sees on a mount: each test formats a volume of its own and mounts it with the binary.
//!
//! Owns: the promises of `docs/semantics.md` that need a kernel to be seen, cited by their ids.
//! Never does: look inside the program; everything goes through system calls and the command line.
//!
//! `VELLUM_TEST_DIR=DIR` runs the tests that need no daemon in any directory instead, which tests the tests.
//! Without `/dev/fuse` every test fails; `VELLUM_TEST_NO_FUSE=1` says that this is known.
#![forbid(unsafe_code)]

mod acl;
mod attributes;
mod check;
mod compaction;
mod concurrency;
mod damage;
mod data;
mod directories;
mod durability;
mod errors;
mod harness;
mod interrupts;
mod lifecycle;
mod locks;
mod mmap;
mod mounting;
mod names;
mod nodes;
mod removal;
mod rename;
mod scripts;
mod setid;
mod space;
mod stamps;
mod tmpfile;
mod traps;
mod xattr;
