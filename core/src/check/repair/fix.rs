//! What makes good a broken rule.

use crate::id::{Ino, SegmentId};
use crate::meta::ops::WHOLE;
use crate::port::meta_kv::{Key, Value};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::check) enum Fix {
    /// A counter or pointer gets the value that was found to be right.
    Put(Key, Value),
    /// Keys that say what is not so go.
    Clear(Vec<Key>),
    /// The attributes of an inode without core go.
    ClearInode(Ino),
    /// An inode or an older generation of it waits for reclaim.
    Queue(Ino, u64),
    /// The core of an inode is corrected.
    Core(Ino, CoreEdit),
    /// A directory entry gets the type of its inode.
    Kind { dir: Ino, cookie: u64, kind: u32 },
    /// A directory entry goes to the bucket of its name.
    Move { dir: Ino, cookie: u64 },
    /// The second of two entries of one name gets another.
    Rename { dir: Ino, cookie: u64 },
    /// The entry of an inode that does not exist goes, unless that is a directory with entries.
    Unname { dir: Ino, cookie: u64, ino: Ino },
    /// A directory that has entries and no core gets one.
    Directory(Ino),
    /// The root directory comes back, with the entries that it had.
    Root,
    /// What is visible of a file beyond its size is covered with zeros, as a truncate does.
    Erase { ino: Ino, generation: u64, from: u64 },
    /// A segment that is stored and named gets its record back.
    Record { id: SegmentId, end: u64, live: u64 },
    /// One of the names of an inode becomes its home.
    Home(Ino),
    /// Each name of an inode gets its back link.
    BackLinks(Ino),
    /// A directory keeps one of its names: that in its parent. The root keeps none.
    OneName(Ino),
    /// An inode without a name gets one in /lost+found.
    Reconnect(Ino),
}

/// What is wrong in a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::check) enum CoreEdit {
    /// The link count.
    Links(u32),
    /// Of `all` flags these are set.
    Flags { all: u16, set: u16 },
}

impl Fix {
    /// A key gets a value.
    pub(in crate::check) fn put(key: Key, value: impl AsRef<[u8]>) -> Option<Fix> {
        Some(Fix::Put(key, Bytes::copy_from_slice(value.as_ref())))
    }

    /// A key gets a number.
    pub(in crate::check) fn number(key: Key, value: u64) -> Option<Fix> {
        Fix::put(key, value.to_le_bytes())
    }

    /// The inode whose names must be known.
    pub(super) fn wants_names_of(&self) -> Option<Ino> {
        match self {
            Fix::Home(ino) | Fix::BackLinks(ino) | Fix::OneName(ino) => Some(*ino),
            _ => None,
        }
    }

    /// What was done, for the report.
    pub(super) fn says(&self) -> String {
        match self {
            Fix::Put(key, value) => format!("{key:?} set to {value:?}"),
            Fix::Clear(keys) => format!("removed {keys:?}"),
            Fix::ClearInode(ino) => format!("removed the keys of inode {ino}"),
            Fix::Queue(ino, WHOLE) => format!("queued inode {ino} for reclaim"),
            Fix::Queue(ino, generation) => {
                format!("queued generation {generation} of inode {ino} for reclaim")
            }
            Fix::Core(ino, CoreEdit::Links(n)) => format!("link count of inode {ino} set to {n}"),
            Fix::Core(ino, CoreEdit::Flags { set, .. }) => {
                format!("flags of inode {ino} set to {set:#x}")
            }
            Fix::Kind { kind, .. } => format!("type of the entry set to {kind:#o}"),
            Fix::Move { .. } => String::from("moved the entry to its bucket"),
            Fix::Rename { .. } => String::from("gave the entry another name"),
            Fix::Unname { .. } => String::from("removed the entry"),
            Fix::Directory(ino) => format!("made directory {ino} anew around its entries"),
            Fix::Root => String::from("made the root directory anew around its entries"),
            Fix::Erase { ino, from, .. } => format!("erased inode {ino} from byte {from} on"),
            Fix::Record { id, .. } => format!("wrote the record of segment {id} anew"),
            Fix::Home(ino) => format!("gave inode {ino} another home name"),
            Fix::BackLinks(ino) => format!("wrote the back links of inode {ino} anew"),
            Fix::OneName(ino) => format!("left directory {ino} the name in its parent"),
            Fix::Reconnect(ino) => format!("linked as /lost+found/#{ino}"),
        }
    }
}
