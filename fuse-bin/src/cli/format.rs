//! `vellum format`: makes a new, empty volume.

use super::options::Options;
use super::units::parse_size;
use super::{Exit, Failure, Global, output, volume};
use crate::fuse::Pending;
use crate::host::Host;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use vellum_core::port::control::{Control, Limit};

/// Arguments of `vellum format`.
#[derive(Args, Debug)]
pub(super) struct FormatArgs {
    /// Directory of the volume; missing or empty
    #[arg(value_name = "VOLUME")]
    volume: PathBuf,
    /// Bytes that its files may hold, such as 10G (no limit but the disk's)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    capacity: Option<u64>,
    /// Files and directories that it may hold (no limit)
    #[arg(long, value_name = "NUMBER")]
    inodes: Option<u64>,
}

#[derive(Serialize)]
struct Formatted {
    volume: String,
    volume_id: String,
    format: u32,
}

pub(super) fn run(global: &Global, args: &FormatArgs) -> Result<Exit, Failure> {
    let path = volume::resolve(&args.volume)?;
    let volume = volume::open_to_serve(&path, false)?;
    if !volume.is_new {
        volume.close()?;
        let text = format!(
            "{} is a volume already; nothing was changed. To begin anew, remove the directory",
            path.display()
        );
        return Err(Failure::new(Exit::Configuration, text));
    }
    let host: Arc<Host<Pending>> = volume.start(&Options::default())?;
    let formatted =
        volume::format_machine(&host, &volume, Limit { bytes: args.capacity, inodes: args.inodes });
    // Not mounted: there is nothing to flush, the answer ends the machine.
    let _ = host.ask(Control::Unmount).recv();
    host.stop();
    volume.close()?;
    let info = formatted?;
    let result = Formatted {
        volume: path.display().to_string(),
        volume_id: info.volume.to_string(),
        format: info.format,
    };
    output::print(global, &result, |r| format!("formatted {}, volume {}", r.volume, r.volume_id));
    Ok(Exit::Ok)
}
