//! `vellum info`: where the bytes of a file are.

use super::status::{daemon_of, vellum_mount_of};
use super::{Exit, Failure, Global, output};
use crate::ctl::wire::{Ask, Info, Told};
use clap::Args;
use serde::Serialize;
use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Arguments of `vellum info`.
#[derive(Args, Debug)]
pub(super) struct InfoArgs {
    /// A file on a mount
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Serialize)]
struct FileInfo {
    path: String,
    version: &'static str,
    stability: &'static str,
    #[serde(flatten)]
    info: Info,
}

pub(super) fn run(global: &Global, args: &InfoArgs) -> Result<Exit, Failure> {
    let path = &args.file;
    // The file itself, not what a symlink names; but the mount is that of its directory.
    let meta =
        path.symlink_metadata().map_err(|e| Failure::io(format_args!("{}", path.display()), &e))?;
    let absolute = super::preflight::without_touching(path)?;
    let dir =
        if meta.is_dir() { absolute.as_path() } else { absolute.parent().unwrap_or(&absolute) };
    let mount = vellum_mount_of(dir)?;
    let told = daemon_of(&mount)?.ask(&Ask::Info { ino: meta.ino() }).map_err(|e| {
        Failure::new(Exit::Unreachable, format!("{}: {e}", mount.mountpoint.display()))
    })?;
    let info = match told {
        Told::Info(info) => info,
        Told::Error { text, .. } => {
            return Err(Failure::new(Exit::Error, format!("{}: {text}", path.display())));
        }
        other => return Err(Failure::new(Exit::Error, format!("unexpected answer {other:?}"))),
    };
    let result = FileInfo {
        path: absolute.display().to_string(),
        version: env!("CARGO_PKG_VERSION"),
        stability: "experimental",
        info,
    };
    output::print(global, &result, text);
    Ok(Exit::Ok)
}

fn text(file: &FileInfo) -> String {
    let info = &file.info;
    let mut text = format!(
        "{}: inode {:#x}, {}, {} buffered\n",
        file.path,
        info.ino,
        output::iec(info.size_bytes),
        output::iec(info.dirty_bytes)
    );
    match info.inline_bytes {
        Some(bytes) => {
            let _ = write!(text, "inline: {bytes} bytes in the metadata store");
        }
        None => {
            let _ = write!(
                text,
                "{} extents visible, {} in the write log",
                info.extents.len(),
                info.log_entries
            );
        }
    }
    for extent in &info.extents {
        let place = match (&extent.segment, extent.segment_offset) {
            (Some(segment), Some(offset)) => format!("segment {segment} at {offset}"),
            _ => extent.place.clone(),
        };
        let _ = write!(text, "\n{:>14} +{:<10} {place}", extent.offset, extent.len);
    }
    text
}
