//! The committed inputs, and random changes of them.
#![allow(dead_code, reason = "each test uses a part")]

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use std::path::{Path, PathBuf};

/// The same numbers for the same seed.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0.next_u32() % bound
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

/// The committed inputs of a target, in the order of their names.
pub(crate) fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable folder").path()).collect();
    paths.sort();
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).expect("readable input"));
    paths.into_iter().map(read).collect()
}

/// One of a corpus, changed in a place or a few; and which one.
pub(crate) fn mutated<'a>(
    random: &mut Random,
    corpus: &'a [(PathBuf, Vec<u8>)],
) -> (&'a Path, Vec<u8>) {
    let (path, input) = &corpus[random.below(corpus.len() as u32) as usize];
    let mut input = input.clone();
    for _ in 0..=random.below(3) {
        mutate(random, &mut input);
    }
    (path, input)
}

/// Changes, removes or doubles a byte or a few.
fn mutate(random: &mut Random, input: &mut Vec<u8>) {
    if input.is_empty() {
        input.push(random.below(256) as u8);
        return;
    }
    let at = random.below(input.len() as u32) as usize;
    let end = (at + 1 + random.below(8) as usize).min(input.len());
    match random.below(4) {
        0 => input[at] = random.below(256) as u8,
        1 => input[at] ^= 1 << random.below(8),
        2 => drop(input.drain(at..end)),
        _ => {
            let copy = input[at..end].to_vec();
            input.splice(at..at, copy);
        }
    }
}
