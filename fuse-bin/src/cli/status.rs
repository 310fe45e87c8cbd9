//! `vellum status`: what a mount is doing.

use super::{Exit, Failure, Global, output, preflight};
use crate::ctl::Daemon;
use crate::ctl::wire::{Ask, Status, Told};
use crate::fuse::mountinfo::{self, Mount};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Arguments of `vellum status`.
#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// Where it is mounted; without it, every mount of this machine
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: Option<PathBuf>,
}

#[derive(Serialize)]
struct Mounts {
    mounts: Vec<Status>,
}

pub(super) fn run(global: &Global, args: &StatusArgs) -> Result<Exit, Failure> {
    match &args.mountpoint {
        Some(path) => {
            let status = ask(&vellum_mount_of(path)?)?;
            output::print(global, &status, text);
        }
        None => {
            let all = mountinfo::mounts().map_err(|e| Failure::io("/proc/self/mountinfo", &e))?;
            let mounts = all.iter().filter(|m| m.is_vellum()).map(ask).collect::<Result<_, _>>()?;
            output::print(global, &Mounts { mounts }, |all| match all.mounts.as_slice() {
                [] => "nothing is mounted".to_string(),
                mounts => mounts.iter().map(text).collect::<Vec<_>>().join("\n\n"),
            });
        }
    }
    Ok(Exit::Ok)
}

/// The Vellum mount on which a path lies.
///
/// # Errors
/// 5 when the path does not exist or lies on something else.
pub(super) fn vellum_mount_of(path: &Path) -> Result<Mount, Failure> {
    let resolved =
        path.canonicalize().map_err(|e| Failure::io(format_args!("{}", path.display()), &e))?;
    for dir in resolved.ancestors() {
        if let Some(mount) = preflight::mount_at(dir)? {
            return if mount.is_vellum() { Ok(mount) } else { Err(not_ours(path)) };
        }
    }
    Err(not_ours(path))
}

fn not_ours(path: &Path) -> Failure {
    Failure::new(Exit::NotFound, format!("{} does not lie on a Vellum mount", path.display()))
}

/// The daemon behind a mount.
///
/// # Errors
/// 3 when it does not listen.
pub(super) fn daemon_of(mount: &Mount) -> Result<Daemon, Failure> {
    Daemon::of(mount).ok_or_else(|| {
        let at = mount.mountpoint.display();
        Failure::new(
            Exit::Unreachable,
            format!("the daemon of {at} does not answer; is it yours, and alive?"),
        )
    })
}

/// What a mount is doing.
///
/// # Errors
/// 3 when its daemon does not answer.
pub(super) fn ask(mount: &Mount) -> Result<Status, Failure> {
    match daemon_of(mount)?.ask(&Ask::Status) {
        Ok(Told::Status(status)) => Ok(*status),
        Ok(other) => Err(Failure::new(Exit::Error, format!("unexpected answer {other:?}"))),
        Err(error) => {
            Err(Failure::new(Exit::Unreachable, format!("{}: {error}", mount.mountpoint.display())))
        }
    }
}

fn text(s: &Status) -> String {
    let iec = output::iec;
    let rows = [
        ("volume", format!("{} ({}, format {})", s.volume, s.volume_id, s.format)),
        ("mounted at", format!("{}{}", s.mountpoint, if s.read_only { ", read-only" } else { "" })),
        (
            "daemon",
            format!(
                "process {}, version {} ({}), up {:.0} s",
                s.pid, s.version, s.stability, s.uptime_seconds
            ),
        ),
        ("stores", format!("metadata {}, data {}", s.meta.backend, s.data.backend)),
        ("used", format!("{} in {} inodes", iec(s.bytes), s.inodes)),
        ("free", format!("{} of {}", iec(s.space_free_bytes), iec(s.space_total_bytes))),
        ("buffered", format!("{} of at most {}", iec(s.dirty_bytes), iec(s.dirty_max_bytes))),
        ("kernel knows", format!("{} inodes, {} open handles", s.inodes_known, s.handles)),
        ("requests", format!("{} answered, {} under way", s.served, s.requests)),
        ("waiting", format!("{} removed inodes for reclaim", s.unlinked)),
        (
            "compaction",
            format!(
                "{} regions folded, {} moved, {} given back, {} waiting",
                s.compacted.folds,
                iec(s.compacted.moved_bytes),
                iec(s.compacted.trimmed_bytes),
                s.compacting
            ),
        ),
        ("conflicts", format!("{} transactions tried again", s.conflicts)),
    ];
    rows.map(|(name, value)| format!("{name:<13} {value}")).join("\n")
}
