//! Resolution of absolute paths, as `path_resolution(7)`.

use crate::attr::{Kind, NodeId};
use crate::error::{Error, Result};
use crate::fs::Fs;

/// Symbolic links followed in one resolution; one more is `Loop`.
const FOLLOW_MAX: usize = 40;
/// Bytes of a path with its final NUL.
pub(crate) const PATH_MAX: usize = 4096;

/// What becomes of a symbolic link in the last component.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Follow {
    /// It is followed (`stat`).
    Always,
    /// It is followed unless a slash comes after it: no file can be made there (`O_CREAT`).
    ToCreate,
    /// It is followed if a slash comes after it (`lstat`).
    BeforeSlash,
    /// It is what the call is about, slash or not (calls that make, remove or rename a name).
    Never,
}

/// Where a path leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The directory of the last component. For `.`, `..` and the root: the node itself.
    pub dir: NodeId,
    /// The last component.
    pub last: Last,
    /// The node there; `NotFound` if the name is free, `NameTooLong` if nothing can have it.
    pub node: Result<NodeId>,
    /// The path ended with a slash: it can only mean a directory.
    pub wants_dir: bool,
}

/// The last component of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Last {
    /// An ordinary name, after the links that had to be followed.
    Name(Vec<u8>),
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// No component at all.
    Root,
}

impl Fs {
    /// Resolves `path` from the root. Each link followed is added to `followed`, also if the walk then fails.
    ///
    /// # Errors
    /// `NotFound` (also for an empty path), `NotDir`, `NameTooLong`, `Loop`: of the way there.
    /// What becomes of the last component stands in the place.
    pub fn resolve(
        &self,
        path: &[u8],
        follow: Follow,
        followed: &mut Vec<NodeId>,
    ) -> Result<Place> {
        if path.is_empty() {
            return Err(Error::NotFound);
        }
        if path.len() >= PATH_MAX {
            return Err(Error::NameTooLong);
        }
        let mut walk = Walk { at: NodeId::ROOT, todo: Vec::new(), wants_dir: false, links: 0 };
        walk.push(path);
        while let Some(name) = walk.todo.pop() {
            if let Some(place) = self.step(&mut walk, name, follow, followed)? {
                return Ok(place);
            }
        }
        Ok(Place { dir: walk.at, last: Last::Root, node: Ok(walk.at), wants_dir: walk.wants_dir })
    }

    /// One component: moves on, or returns the place if it was the last.
    fn step(
        &self,
        walk: &mut Walk,
        name: Vec<u8>,
        follow: Follow,
        followed: &mut Vec<NodeId>,
    ) -> Result<Option<Place>> {
        let is_last = walk.todo.is_empty();
        let dir = walk.at;
        let (last, node) = match name.as_slice() {
            b"." => {
                self.parent(dir)?;
                (Last::Dot, Ok(dir))
            }
            b".." => (Last::DotDot, Ok(self.parent(dir)?)),
            _ => {
                self.parent(dir)?;
                let node = self.peek(dir, &name).and_then(|node| node.ok_or(Error::NotFound));
                (Last::Name(name), node)
            }
        };
        let found = match node {
            Ok(found) => found,
            Err(_) if is_last => {
                return Ok(Some(Place { dir, last, node, wants_dir: walk.wants_dir }));
            }
            Err(error) => return Err(error),
        };
        let follows = match follow {
            Follow::Always => true,
            Follow::ToCreate => !is_last || !walk.wants_dir,
            Follow::BeforeSlash => !is_last || walk.wants_dir,
            Follow::Never => !is_last,
        };
        if follows && self.getattr(found)?.kind == Kind::Symlink {
            walk.links += 1;
            if walk.links > FOLLOW_MAX {
                return Err(Error::Loop);
            }
            followed.push(found);
            walk.push(&self.readlink(found)?);
            return Ok(None);
        }
        if !is_last || !matches!(last, Last::Name(_)) {
            walk.at = found;
        }
        if !is_last {
            return if self.is_dir(found) { Ok(None) } else { Err(Error::NotDir) };
        }
        Ok(Some(Place { dir: walk.at, last, node, wants_dir: walk.wants_dir }))
    }
}

/// A resolution under way.
struct Walk {
    at: NodeId,
    /// Components still to come, the next one last.
    todo: Vec<Vec<u8>>,
    wants_dir: bool,
    links: usize,
}

impl Walk {
    /// Puts a path in front of what is still to come.
    fn push(&mut self, path: &[u8]) {
        if path.starts_with(b"/") {
            self.at = NodeId::ROOT;
        }
        if self.todo.is_empty() {
            self.wants_dir |= path.ends_with(b"/");
        }
        let components = path.split(|b| *b == b'/').filter(|c| !c.is_empty());
        self.todo.extend(components.rev().map(<[u8]>::to_vec));
    }
}
