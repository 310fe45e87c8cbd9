//! Bytes of large files. Each thread has a file of its own; all of them together have the size of the row.

use crate::meter::Sample;
use crate::row::{Row, Run, Unit};
use anyhow::{Result, ensure};
use rustix::fd::OwnedFd;
use rustix::fs::{Advice, CWD, Mode, OFlags, fadvise, fdatasync, openat};
use rustix::io::{pread, pwrite};
use std::path::Path;

const MIB: usize = 1 << 20;
const BLOCK: usize = 4096;

/// The rows of this file.
pub(crate) fn rows() -> Vec<Row> {
    let row = |name, threads, unit, durability, work| Row { name, threads, unit, durability, work };
    let (mib, ops) = (Unit::MibPerSecond, Unit::PerSecond);
    vec![
        row("sequential write 1 MiB", 1, mib, "the whole, at the end", sequential_write),
        row("sequential read cold 1 MiB", 1, mib, "nothing", sequential_read_cold),
        row("sequential read warm 1 MiB", 1, mib, "nothing", sequential_read_warm),
        row("random read cold 4 KiB", 1, ops, "nothing", random_read_cold),
        row("random read cold 4 KiB", 4, ops, "nothing", random_read_cold),
        row("random write 4 KiB, fsync at end", 1, ops, "the whole, at the end", random_write),
        row("random write 4 KiB, fsync at end", 4, ops, "the whole, at the end", random_write),
        row(
            "random write 4 KiB, fsync each",
            1,
            ops,
            "each write, before the next",
            random_write_synced,
        ),
        row(
            "random write 4 KiB, fsync each",
            4,
            ops,
            "each write, before the next",
            random_write_synced,
        ),
    ]
}

fn sequential_write(run: &mut Run<'_>) -> Result<Sample> {
    run.prepare(|_| Ok(()))?;
    let mib = run.scale.mib / run.threads;
    run.measure(mib * run.threads, |dir, _| fill(dir, mib))
}

fn sequential_read_cold(run: &mut Run<'_>) -> Result<Sample> {
    let mib = filled(run)?;
    run.cool()?;
    run.measure(mib * run.threads, |dir, _| read_through(dir, mib))
}

fn sequential_read_warm(run: &mut Run<'_>) -> Result<Sample> {
    let mib = filled(run)?;
    run.prepare_again(|dir| read_through(dir, mib))?;
    run.measure(mib * run.threads, |dir, _| read_through(dir, mib))
}

fn random_read_cold(run: &mut Run<'_>) -> Result<Sample> {
    let mib = filled(run)?;
    run.cool()?;
    let count = run.scale.random / run.threads;
    run.measure(count * run.threads, |dir, latencies| {
        let file = open(dir, OFlags::RDONLY)?;
        fadvise(&file, 0, None, Advice::Random)?;
        let mut block = [0; BLOCK];
        for at in offsets(mib, count) {
            let len = latencies.time(|| pread(&file, &mut block, at))?;
            ensure!(len == BLOCK && block == stamp(at), "other bytes than were written at {at}");
        }
        Ok(())
    })
}

fn random_write(run: &mut Run<'_>) -> Result<Sample> {
    let mib = filled(run)?;
    let count = 2 * run.scale.random / run.threads;
    run.measure(count * run.threads, |dir, latencies| {
        let file = open(dir, OFlags::WRONLY)?;
        for at in offsets(mib, count) {
            latencies.time(|| write_block(&file, at))?;
        }
        Ok(fdatasync(&file)?)
    })
}

fn random_write_synced(run: &mut Run<'_>) -> Result<Sample> {
    let mib = filled(run)?;
    let count = run.scale.synced * 2 / run.threads;
    run.measure(count * run.threads, |dir, latencies| {
        let file = open(dir, OFlags::WRONLY)?;
        for at in offsets(mib, count) {
            latencies.time(|| write_block(&file, at).and_then(|()| Ok(fdatasync(&file)?)))?;
        }
        Ok(())
    })
}

/// A synced file per thread; MiB of each.
fn filled(run: &Run<'_>) -> Result<usize> {
    let mib = run.scale.mib / run.threads;
    run.prepare(|dir| fill(dir, mib))?;
    Ok(mib)
}

fn fill(dir: &Path, mib: usize) -> Result<()> {
    let file = open(dir, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY)?;
    let mut bytes = vec![0; MIB];
    for at in (0..mib as u64).map(|n| n * MIB as u64) {
        for (n, block) in bytes.chunks_exact_mut(BLOCK).enumerate() {
            block.copy_from_slice(&stamp(at + (n * BLOCK) as u64));
        }
        ensure!(pwrite(&file, &bytes, at)? == MIB, "a short write");
    }
    Ok(fdatasync(&file)?)
}

fn read_through(dir: &Path, mib: usize) -> Result<()> {
    let file = open(dir, OFlags::RDONLY)?;
    let mut bytes = vec![0; MIB];
    for at in (0..mib as u64).map(|n| n * MIB as u64) {
        let mut filled = 0;
        while filled < MIB {
            let len = pread(&file, &mut bytes[filled..], at + filled as u64)?;
            ensure!(len > 0, "the file ends too early");
            filled += len;
        }
        ensure!(bytes[..BLOCK] == stamp(at), "other bytes than were written at {at}");
    }
    Ok(())
}

fn write_block(file: &OwnedFd, at: u64) -> Result<()> {
    ensure!(pwrite(file, &stamp(at), at)? == BLOCK, "a short write");
    Ok(())
}

fn open(dir: &Path, flags: OFlags) -> Result<OwnedFd> {
    Ok(openat(CWD, dir.join("file"), flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))?)
}

/// A block that says where it belongs.
fn stamp(at: u64) -> [u8; BLOCK] {
    let mut block = [(at >> 12) as u8; BLOCK];
    block[..8].copy_from_slice(&at.to_le_bytes());
    block
}

/// The same aligned offsets on every filesystem, below so many MiB.
fn offsets(mib: usize, count: usize) -> impl Iterator<Item = u64> {
    let blocks = (mib * MIB / BLOCK) as u64;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..count).map(move |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) % blocks * BLOCK as u64
    })
}
