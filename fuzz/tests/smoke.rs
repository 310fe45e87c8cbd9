//! Every target on stable: the committed corpus, then bounded random input from a fixed seed.
//!
//! `VELLUM_FUZZ_SEED` (a number) and `VELLUM_FUZZ_RUNS` (inputs per target) change the random part. A failure
//! prints the input; put it into `corpus/<target>/` when the bug is fixed.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use std::path::{Path, PathBuf};
use vellum_fuzz::{TARGETS, Target};

const RUNS: u64 = 2000;
const INPUT_LEN_MAX: u32 = 400;

#[test]
fn corpus_passes() {
    for target in TARGETS {
        let corpus = corpus(target.0);
        assert!(!corpus.is_empty(), "corpus/{} is missing", target.0);
        for (path, input) in corpus {
            run(target, &input, &path.display().to_string());
        }
    }
}

#[test]
fn random_input_passes() {
    let seed = number("VELLUM_FUZZ_SEED", 1);
    for target in TARGETS {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for i in 0..number("VELLUM_FUZZ_RUNS", RUNS) {
            let mut input = vec![0; below(&mut random, INPUT_LEN_MAX) as usize];
            random.fill_bytes(&mut input);
            run(target, &input, &format!("input {i} of VELLUM_FUZZ_SEED={seed}"));
        }
    }
}

#[test]
fn mutated_corpus_passes() {
    let seed = number("VELLUM_FUZZ_SEED", 1);
    for target in TARGETS {
        let corpus = corpus(target.0);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for i in 0..number("VELLUM_FUZZ_RUNS", RUNS) {
            let (path, input) = &corpus[below(&mut random, corpus.len() as u32) as usize];
            let mut input = input.clone();
            for _ in 0..=below(&mut random, 3) {
                mutate(&mut random, &mut input);
            }
            run(
                target,
                &input,
                &format!("mutation {i} of {} with VELLUM_FUZZ_SEED={seed}", path.display()),
            );
        }
    }
}

/// Changes, removes or doubles a byte or a few.
fn mutate(random: &mut ChaCha8Rng, input: &mut Vec<u8>) {
    if input.is_empty() {
        input.push(random.next_u32() as u8);
        return;
    }
    let at = below(random, input.len() as u32) as usize;
    let end = (at + 1 + below(random, 8) as usize).min(input.len());
    match below(random, 4) {
        0 => input[at] = random.next_u32() as u8,
        1 => input[at] ^= 1 << below(random, 8),
        2 => drop(input.drain(at..end)),
        _ => {
            let copy = input[at..end].to_vec();
            input.splice(at..at, copy);
        }
    }
}

/// Runs one input; says which one it was if it fails.
fn run((name, fuzz_one): Target, input: &[u8], origin: &str) {
    struct Tell<'a>(&'a str, &'a [u8], &'a str);
    impl Drop for Tell<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let hex: String = self.1.iter().map(|b| format!("{b:02x}")).collect();
                eprintln!("target {} failed with {}; input in hexadecimal: {hex}", self.0, self.2);
            }
        }
    }
    let tell = Tell(name, input, origin);
    fuzz_one(input);
    drop(tell);
}

/// The committed inputs of a target, in the order of their names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable folder").path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).expect("readable input")))
        .collect()
}

fn below(random: &mut ChaCha8Rng, bound: u32) -> u32 {
    random.next_u32() % bound
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}
