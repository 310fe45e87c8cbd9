//! Names and attributes. Each thread has a directory of its own; calls are relative to its descriptor.

use crate::meter::{Latencies, Sample};
use crate::row::{Row, Run, Unit};
use anyhow::{Result, ensure};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, XattrFlags};
use rustix::fs::{chmodat, fsync, lsetxattr, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::{read, write};
use std::fs;
use std::mem::MaybeUninit;
use std::path::Path;

const BLOCK: usize = 4096;
const NOTHING: &str = "nothing";
const EACH: &str = "each file, before the next";

/// The rows of this file.
pub(crate) fn rows() -> Vec<Row> {
    let row = |name, durability, work| {
        move |threads| Row { name, threads, unit: Unit::PerSecond, durability, work }
    };
    let pairs: [[Row; 2]; 14] = [
        [1, 4].map(row("create", NOTHING, create)),
        [1, 4].map(row("create + write 4 KiB", NOTHING, create_and_write)),
        [1, 4].map(row("create + write 4 KiB + fsync", EACH, create_and_sync)),
        [1, 4].map(row("stat warm", NOTHING, stat_warm)),
        [1, 4].map(row("stat cold", NOTHING, stat_cold)),
        [1, 4].map(row("open-read-close 4 KiB warm", NOTHING, open_read_close)),
        [1, 4].map(row("rename", NOTHING, rename)),
        [1, 4].map(row("chmod", NOTHING, chmod)),
        [1, 4].map(row("setxattr", NOTHING, setxattr)),
        [1, 4].map(row("unlink 4 KiB file", NOTHING, unlink)),
        [1, 4].map(row("mkdir", NOTHING, mkdir)),
        [1, 4].map(row("rmdir", NOTHING, rmdir)),
        [1, 4].map(row("readdir 10,000 entries cold", NOTHING, readdir_10k)),
        [1, 4].map(row("readdir 100,000 entries cold", NOTHING, readdir_100k)),
    ];
    pairs.into_iter().flatten().collect()
}

fn create(run: &mut Run<'_>) -> Result<Sample> {
    run.prepare(|_| Ok(()))?;
    let count = run.scale.files / run.threads;
    run.measure(count * run.threads, |dir, latencies| {
        let dir = open_dir(dir)?;
        (0..count).try_for_each(|n| latencies.time(|| create_one(&dir, n)).map(drop))
    })
}

fn create_and_write(run: &mut Run<'_>) -> Result<Sample> {
    run.prepare(|_| Ok(()))?;
    let count = run.scale.files / run.threads;
    run.measure(count * run.threads, |dir, latencies| {
        let dir = open_dir(dir)?;
        (0..count).try_for_each(|n| latencies.time(|| write_one(&dir, n)).map(drop))
    })
}

fn create_and_sync(run: &mut Run<'_>) -> Result<Sample> {
    run.prepare(|_| Ok(()))?;
    let count = run.scale.synced / run.threads;
    run.measure(count * run.threads, |dir, latencies| {
        let dir = open_dir(dir)?;
        (0..count).try_for_each(|n| latencies.time(|| Ok(fsync(write_one(&dir, n)?)?)))
    })
}

fn stat_warm(run: &mut Run<'_>) -> Result<Sample> {
    let (count, total) = filled(run)?;
    let each = total / run.threads;
    run.prepare_again(|dir| stat_all(&open_dir(dir)?, count))?;
    run.measure(each * run.threads, |dir, _| {
        let dir = open_dir(dir)?;
        (0..each).try_for_each(|n| stat_one(&dir, n % count))
    })
}

fn stat_cold(run: &mut Run<'_>) -> Result<Sample> {
    let (count, _) = filled(run)?;
    run.cool()?;
    run.measure(count * run.threads, |dir, _| stat_all(&open_dir(dir)?, count))
}

fn open_read_close(run: &mut Run<'_>) -> Result<Sample> {
    let (count, total) = filled(run)?;
    let each = total / 4 / run.threads;
    run.prepare_again(|dir| {
        let dir = open_dir(dir)?;
        (0..count).try_for_each(|n| read_one(&dir, n))
    })?;
    run.measure(each * run.threads, |dir, _| {
        let dir = open_dir(dir)?;
        (0..each).try_for_each(|n| read_one(&dir, n % count))
    })
}

fn rename(run: &mut Run<'_>) -> Result<Sample> {
    let (count, _) = filled(run)?;
    run.measure(count * run.threads, |dir, latencies| {
        let dir = open_dir(dir)?;
        (0..count).try_for_each(|n| {
            latencies.time(|| Ok(renameat(&dir, name(n), &dir, format!("renamed-{n}"))?))
        })
    })
}

fn chmod(run: &mut Run<'_>) -> Result<Sample> {
    let (count, _) = filled(run)?;
    run.measure(count * run.threads, |dir, latencies| {
        let dir = open_dir(dir)?;
        (0..count).try_for_each(|n| {
            latencies.time(|| Ok(chmodat(&dir, name(n), Mode::RUSR, AtFlags::empty())?))
        })
    })
}

fn setxattr(run: &mut Run<'_>) -> Result<Sample> {
    let (count, _) = filled(run)?;
    run.measure(count * run.threads, |dir, latencies| {
        (0..count).try_for_each(|n| {
            let path = dir.join(name(n));
            let flags = XattrFlags::empty();
            latencies.time(|| Ok(lsetxattr(&path, "user.bench", b"a short value", flags)?))
        })
    })
}

fn unlink(run: &mut Run<'_>) -> Result<Sample> {
    let (count, _) = filled(run)?;
    run.measure(count * run.threads, |dir, latencies| {
        let dir = open_dir(dir)?;
        (0..count)
            .try_for_each(|n| latencies.time(|| Ok(unlinkat(&dir, name(n), AtFlags::empty())?)))
    })
}

fn mkdir(run: &mut Run<'_>) -> Result<Sample> {
    run.prepare(|_| Ok(()))?;
    let count = run.scale.files / run.threads;
    run.measure(count * run.threads, |dir, latencies| make_dirs(dir, count, latencies))
}

fn rmdir(run: &mut Run<'_>) -> Result<Sample> {
    let count = run.scale.files / run.threads;
    run.prepare(|dir| make_dirs(dir, count, &mut Latencies::default()))?;
    run.measure(count * run.threads, |dir, latencies| {
        let dir = open_dir(dir)?;
        (0..count)
            .try_for_each(|n| latencies.time(|| Ok(unlinkat(&dir, name(n), AtFlags::REMOVEDIR)?)))
    })
}

/// The passthrough holds a descriptor for each inode that the kernel knows, and may not have many.
const FORGOTTEN_AFTER: usize = 2_000;

fn readdir_10k(run: &mut Run<'_>) -> Result<Sample> {
    readdir_cold(run, 10_000)
}

fn readdir_100k(run: &mut Run<'_>) -> Result<Sample> {
    readdir_cold(run, 100_000)
}

fn readdir_cold(run: &mut Run<'_>, count: usize) -> Result<Sample> {
    let count = if run.scale.files < 1000 { run.scale.files } else { count / run.threads };
    run.prepare(|dir| {
        let dir = open_dir(dir)?;
        (0..count).try_for_each(|n| {
            if n % FORGOTTEN_AFTER == FORGOTTEN_AFTER - 1 {
                fs::write("/proc/sys/vm/drop_caches", "2")?;
            }
            create_one(&dir, n).map(drop)
        })
    })?;
    run.cool()?;
    run.measure(count * run.threads, |dir, _| {
        let found = entries(&open_dir(dir)?)?;
        ensure!(found == count, "{found} entries listed, {count} expected");
        Ok(())
    })
}

/// Fills each thread's directory with files of 4 KiB; files per thread, and how often cached work repeats.
fn filled(run: &Run<'_>) -> Result<(usize, usize)> {
    let count = run.scale.files / run.threads;
    run.prepare(|dir| {
        let dir = open_dir(dir)?;
        (0..count).try_for_each(|n| write_one(&dir, n).map(drop))
    })?;
    Ok((count, run.scale.cached))
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn name(n: usize) -> String {
    format!("file-{n:06}")
}

fn create_one(dir: &OwnedFd, n: usize) -> Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(openat(dir, name(n), flags, Mode::from_raw_mode(0o644))?)
}

fn write_one(dir: &OwnedFd, n: usize) -> Result<OwnedFd> {
    let file = create_one(dir, n)?;
    ensure!(write(&file, &[n as u8; BLOCK])? == BLOCK, "a short write");
    Ok(file)
}

fn read_one(dir: &OwnedFd, n: usize) -> Result<()> {
    let file = openat(dir, name(n), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut block = [0; BLOCK];
    ensure!(
        read(&file, &mut block)? == BLOCK && block[BLOCK - 1] == n as u8,
        "other bytes than were written"
    );
    Ok(())
}

fn stat_one(dir: &OwnedFd, n: usize) -> Result<()> {
    ensure!(
        statat(dir, name(n), AtFlags::empty())?.st_size == BLOCK as i64,
        "another size than was written"
    );
    Ok(())
}

fn stat_all(dir: &OwnedFd, count: usize) -> Result<()> {
    (0..count).try_for_each(|n| stat_one(dir, n))
}

fn make_dirs(dir: &Path, count: usize, latencies: &mut Latencies) -> Result<()> {
    let dir = open_dir(dir)?;
    (0..count).try_for_each(|n| latencies.time(|| Ok(mkdirat(&dir, name(n), Mode::RWXU)?)))
}

fn entries(dir: &OwnedFd) -> Result<usize> {
    let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
    let mut listing = RawDir::new(dir, &mut buffer);
    let mut found = 0;
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let dots = [c".", c".."].contains(&entry.file_name());
        found += usize::from(!dots);
    }
    Ok(found)
}
