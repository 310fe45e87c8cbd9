//! `mount.vellum`: what mount(8) runs for `mount -t vellum VOLUME MOUNTPOINT -o OPTIONS`.
//!
//! As `mount.fuse.vellum` it is what mount(8) runs for a remount: the list of mounts names that type.

use super::mount::{self, MountArgs};
use super::options::Options;
use super::{Exit, Failure, Global, remount};
use clap::Parser;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments as mount(8) passes them.
#[derive(Parser, Debug)]
#[command(name = "mount.vellum")]
struct HelperArgs {
    /// Directory of the volume
    volume: PathBuf,
    /// Directory to mount at
    mountpoint: PathBuf,
    /// Ignore unknown options
    #[arg(short)]
    sloppy: bool,
    /// Do not mount
    #[arg(short)]
    fake: bool,
    /// Do not write mtab (there is none)
    #[arg(short = 'n')]
    _no_mtab: bool,
    /// Say more
    #[arg(short)]
    _verbose: bool,
    /// Mount options
    #[arg(short = 'o', value_name = "OPT[=VALUE],..")]
    options: Vec<String>,
    /// Type and subtype
    #[arg(short = 't', value_name = "TYPE")]
    _type: Option<String>,
}

/// Whether the program was called as the helper.
pub(super) fn is_helper(program: Option<&OsString>) -> bool {
    let name = program.and_then(|p| Path::new(p).file_name());
    name.is_some_and(|name| name == "mount.vellum" || name == "mount.fuse.vellum")
}

/// Mounts in the background; every failure is 32, as mount(8) expects.
pub(super) fn run(args: &[OsString]) -> ExitCode {
    let program = OsString::from("mount.vellum");
    let parsed = HelperArgs::try_parse_from(std::iter::once(&program).chain(args));
    let result = match parsed {
        Ok(args) => mount(args),
        Err(error) => Err(Failure::new(Exit::Usage, error.to_string())),
    };
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(false);
            Exit::MountHelper.into()
        }
    }
}

fn mount(args: HelperArgs) -> Result<Exit, Failure> {
    let mut lists: Vec<String> = args.options.iter().map(|list| without_foreign(list)).collect();
    if remount::is_asked_for(&args.options) {
        return if args.fake { Ok(Exit::Ok) } else { remount::run(&args.mountpoint, &lists) };
    }
    if args.sloppy {
        lists.retain(|list| Options::parse(std::slice::from_ref(list)).is_ok());
    }
    if args.fake {
        return Options::parse(&lists).map(|_| Exit::Ok);
    }
    let args = MountArgs {
        options: lists,
        daemon: true,
        volume: args.volume,
        mountpoint: args.mountpoint,
        ..MountArgs::default()
    };
    mount::run(&Global::default(), args)
}

/// Leaves out what is meant for mount(8), systemd and fstab.
fn without_foreign(list: &str) -> String {
    let ours = list.split(',').filter(|option| {
        let name = option.split('=').next().unwrap_or(option);
        !matches!(
            name,
            "_netdev"
                | "nofail"
                | "auto"
                | "noauto"
                | "defaults"
                | "remount"
                | "group"
                | "owner"
                | "nouser"
        ) && !name.starts_with("x-")
            && !name.starts_with("comment")
            && !matches!(name, "user" | "users")
    });
    ours.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_for_others_are_left_out() {
        assert_eq!(without_foreign("rw,_netdev,x-systemd.automount,noatime,nofail"), "rw,noatime");
        assert!(is_helper(Some(&"/sbin/mount.vellum".into())));
        assert!(is_helper(Some(&"/sbin/mount.fuse.vellum".into())));
        assert!(!is_helper(Some(&"/usr/bin/vellum".into())));
    }
}
