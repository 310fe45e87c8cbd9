//! What the callers did, in words and paths.

use vellum_core::id::Ino;
use vellum_core::port::kernel::Operation;

use super::{Waiter, World, brief};

/// Who asks.
pub(super) fn who(waiter: Waiter) -> String {
    match waiter {
        Waiter::Caller(caller) => format!("caller {caller}"),
        Waiter::World => "the world".into(),
    }
}

impl World {
    /// Adds a line, if somebody wants to know.
    pub(crate) fn tell_of(&mut self, line: impl FnOnce(&World) -> String) {
        if let Some(mut story) = self.story.take() {
            story.push(line(self));
            self.story = Some(story);
        }
    }

    /// An operation as a user would say it.
    pub(super) fn words(&self, op: &Operation) -> String {
        use Operation::*;
        let path = |ino: &Ino| self.callers.kernel.path(*ino);
        let at = |dir: &Ino, name: &[u8]| {
            let name = name.escape_ascii().to_string();
            let short = if name.len() > 20 { format!("{}...", &name[..20]) } else { name };
            format!("{}/{short}", path(dir).trim_end_matches('/'))
        };
        match op {
            Lookup { parent, name } => format!("stat {}", at(parent, name)),
            Create { parent, name, mode, flags, .. } => {
                format!("open {} O_CREAT, mode {mode:o}, flags {:o}", at(parent, name), flags.0)
            }
            MkNod { parent, name, mode, .. } => format!("mknod {} {mode:o}", at(parent, name)),
            MkDir { parent, name, mode, .. } => format!("mkdir {} {mode:o}", at(parent, name)),
            Symlink { parent, name, target } => {
                format!("symlink {} of {} bytes", at(parent, name), target.len())
            }
            TmpFile { parent, .. } => format!("open {} O_TMPFILE", path(parent)),
            Link { ino, new_parent, new_name } => {
                format!("link {} {}", path(ino), at(new_parent, new_name))
            }
            Unlink { parent, name } => format!("unlink {}", at(parent, name)),
            RmDir { parent, name } => format!("rmdir {}", at(parent, name)),
            Rename { parent, name, new_parent, new_name, flags } => {
                let how = ["", " (noreplace)", " (exchange)"].get(*flags as usize);
                let how = how.copied().unwrap_or(" (other flags)");
                format!("rename {} {}{how}", at(parent, name), at(new_parent, new_name))
            }
            Open { ino, flags } => format!("open {} flags {:o}", path(ino), flags.0),
            Read { ino, offset, len, .. } => format!("read {} {offset}+{len}", path(ino)),
            Write { ino, offset, data, flags, .. } => {
                let how = if flags.append { " (append)" } else { "" };
                format!("write {} {offset}+{}{how}", path(ino), data.len())
            }
            Fallocate { ino, offset, len, mode, .. } => {
                format!("fallocate {} {offset}+{len} mode {mode:#x}", path(ino))
            }
            CopyRange { ino, offset, to_ino, to_offset, len, .. } => {
                format!("copy {} {offset}+{len} to {} {to_offset}", path(ino), path(to_ino))
            }
            Fsync { ino, .. } => format!("fsync {}", path(ino)),
            FsyncDir { ino, .. } => format!("fsync {}", path(ino)),
            Flush { ino, .. } => format!("close {}", path(ino)),
            Release { ino, .. } => format!("last close {}", path(ino)),
            SetAttr { ino, set, .. } if set.size.is_some() => {
                format!("truncate {} {}", path(ino), set.size.unwrap_or_default())
            }
            SetAttr { ino, set, .. } => format!("setattr {} {}", path(ino), brief(set)),
            GetAttr { ino, .. } => format!("fstat {}", path(ino)),
            ReadDir { ino, cookie, .. } => format!("readdir {} from {cookie}", path(ino)),
            SetXattr { ino, name, value, .. } => {
                format!("setxattr {} {} of {}", path(ino), name.escape_ascii(), value.len())
            }
            other => brief(other),
        }
    }
}
