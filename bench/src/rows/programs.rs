//! Programs as users run them.

use crate::meter::Sample;
use crate::row::{Row, Run, Scale, Unit};
use crate::rows::Material;
use crate::target::succeed;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const TRANSACTIONS: usize = 1_000;

/// The rows of this file.
pub(crate) fn rows() -> Vec<Row> {
    let row = |name, unit, durability, work| Row { name, threads: 1, unit, durability, work };
    let each = "each transaction (synchronous=FULL)";
    vec![
        row("git clone, s", Unit::Seconds, "what git asks for", git_clone),
        row("untar, s", Unit::Seconds, "nothing", untar),
        row("rm -rf, s", Unit::Seconds, "nothing", remove_tree),
        row("sqlite transactions, DELETE journal", Unit::PerSecond, each, sqlite_delete),
        row("sqlite transactions, WAL", Unit::PerSecond, each, sqlite_wal),
    ]
}

fn git_clone(run: &mut Run<'_>) -> Result<Sample> {
    run.prepare(|_| Ok(()))?;
    let origin = &run.material.repository;
    run.measure(1, |dir, _| {
        succeed(
            Command::new("git")
                .args(["clone", "-q", "--no-hardlinks"])
                .arg(origin)
                .arg(dir.join("clone")),
        )
    })
}

fn untar(run: &mut Run<'_>) -> Result<Sample> {
    run.prepare(|_| Ok(()))?;
    let archive = &run.material.archive;
    run.measure(1, |dir, _| unpack(archive, dir))
}

fn remove_tree(run: &mut Run<'_>) -> Result<Sample> {
    let archive = &run.material.archive;
    run.prepare(|dir| unpack(archive, dir))?;
    run.measure(1, |dir, _| succeed(Command::new("rm").arg("-rf").arg(dir)))
}

fn sqlite_delete(run: &mut Run<'_>) -> Result<Sample> {
    let script = run.material.sql_delete.clone();
    sqlite(run, &script)
}

fn sqlite_wal(run: &mut Run<'_>) -> Result<Sample> {
    let script = run.material.sql_wal.clone();
    sqlite(run, &script)
}

fn sqlite(run: &mut Run<'_>, script: &Path) -> Result<Sample> {
    run.prepare(|_| Ok(()))?;
    run.measure(TRANSACTIONS, |dir, _| {
        let mut command = Command::new("sqlite3");
        command.arg("-bail").arg(dir.join("db")).stdin(File::open(script)?).stdout(Stdio::null());
        let status = command.status().with_context(|| format!("{command:?}"))?;
        if !status.success() {
            bail!("{command:?} ended with {status}");
        }
        Ok(())
    })
}

fn unpack(archive: &Path, dir: &Path) -> Result<()> {
    succeed(Command::new("tar").arg("-C").arg(dir).arg("-xf").arg(archive))
}

/// Makes the material in a new directory.
pub(crate) fn prepare(dir: &Path, scale: Scale) -> Result<Material> {
    fs::create_dir(dir)?;
    let material = Material {
        repository: dir.join("repository"),
        archive: dir.join("tree.tar"),
        sql_delete: dir.join("delete.sql"),
        sql_wal: dir.join("wal.sql"),
    };
    write_tree(&material.repository, scale.tree)?;
    succeed(
        Command::new("tar")
            .arg("-C")
            .arg(&material.repository)
            .arg("-cf")
            .arg(&material.archive)
            .arg("."),
    )?;
    let git =
        |args: &[&str]| succeed(Command::new("git").arg("-C").arg(&material.repository).args(args));
    git(&["-c", "init.defaultBranch=main", "init", "-q"])?;
    git(&["add", "-A"])?;
    git(&["-c", "user.name=Vellum", "-c", "user.email=vellum@localhost", "commit", "-qm", "All"])?;
    write_sql(&material.sql_delete, "DELETE")?;
    write_sql(&material.sql_wal, "WAL")?;
    Ok(material)
}

/// Small text files, 20 to a directory, two levels deep.
fn write_tree(root: &Path, files: usize) -> Result<()> {
    for n in 0..files {
        let dir = root.join(format!("d{}", n / 200)).join(format!("s{}", n / 20 % 10));
        fs::create_dir_all(&dir)?;
        let mut file = File::create(dir.join(format!("file-{n}.txt")))?;
        for line in 0..n * 7919 % 300 + 1 {
            writeln!(
                file,
                "{line} of file {n}: {:x}",
                (n * 300 + line).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            )?;
        }
    }
    Ok(())
}

fn write_sql(path: &Path, journal: &str) -> Result<()> {
    let mut file = File::create(path)?;
    writeln!(file, "PRAGMA journal_mode={journal}; PRAGMA synchronous=FULL;")?;
    writeln!(file, "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT);")?;
    for n in 0..TRANSACTIONS {
        writeln!(file, "BEGIN; INSERT INTO t VALUES({n}, 'row {n}'); COMMIT;")?;
    }
    Ok(())
}
