//! The rows, in the order of the table.

mod data;
mod metadata;
mod programs;

use crate::row::{Row, Scale};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// All rows.
pub(crate) fn all() -> Vec<Row> {
    [metadata::rows(), data::rows(), programs::rows()].into_iter().flatten().collect()
}

/// Files that rows use and nobody measures.
pub(crate) struct Material {
    /// A git repository.
    pub(crate) repository: PathBuf,
    /// Its files as a tar archive.
    pub(crate) archive: PathBuf,
    /// 1,000 transactions of one row, for each journal mode.
    pub(crate) sql_delete: PathBuf,
    /// The same in WAL mode.
    pub(crate) sql_wal: PathBuf,
}

impl Material {
    /// Makes them in a new directory.
    pub(crate) fn prepare(dir: &Path, scale: Scale) -> Result<Material> {
        programs::prepare(dir, scale)
    }
}
