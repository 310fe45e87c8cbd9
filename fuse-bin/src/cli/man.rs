//! `vellum man`: writes the manual pages, from the same texts as `--help`.

use super::{Cli, Exit, Failure, Global, output};
use clap::{Args, CommandFactory};
use serde::Serialize;
use std::fs;
use std::path::PathBuf;

/// What `man 8 mount.vellum` shows: the helper takes mount(8)'s words for the same options.
const HELPER: &str = ".so man1/vellum-mount.1\n";

/// Arguments of `vellum man`.
#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// Directory to write to, such as /usr/local/share/man; man1 and man8 are made in it
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

#[derive(Serialize)]
struct Written {
    directory: String,
    pages: usize,
}

pub(super) fn run(global: &Global, args: &ManArgs) -> Result<Exit, Failure> {
    let (commands, helpers) = (args.directory.join("man1"), args.directory.join("man8"));
    let fail = |error: std::io::Error| {
        Failure::io(format_args!("writing manual pages to {}", args.directory.display()), &error)
    };
    fs::create_dir_all(&commands).and_then(|()| fs::create_dir_all(&helpers)).map_err(fail)?;
    clap_mangen::generate_to(Cli::command(), &commands).map_err(fail)?;
    fs::write(helpers.join("mount.vellum.8"), HELPER).map_err(fail)?;
    let pages = fs::read_dir(&commands).map_err(fail)?.count() + 1;
    let written = Written { directory: args.directory.display().to_string(), pages };
    output::print(global, &written, |w| {
        let (pages, directory) = (w.pages, &w.directory);
        format!("{pages} manual pages in {directory}; read them with `man -M {directory} vellum`")
    });
    Ok(Exit::Ok)
}
