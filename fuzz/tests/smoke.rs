//! Every target on stable: the committed corpus, then bounded random input from a fixed seed.
//!
//! `VELLUM_FUZZ_SEED` (a number), `VELLUM_FUZZ_RUNS` (inputs per target) and `VELLUM_FUZZ_TARGET` (a name)
//! change the random part. A failure prints the input; put it into `corpus/<target>/` when the bug is fixed.

mod common;

use common::{Random, corpus, mutated};
use vellum_fuzz::{TARGETS, Target};

/// Where random input is worth trying.
fn targets() -> impl Iterator<Item = Target> {
    let chosen = std::env::var("VELLUM_FUZZ_TARGET").ok();
    TARGETS.into_iter().filter(move |target| chosen.as_ref().is_none_or(|name| name == target.name))
}

#[test]
fn corpus_passes() {
    for target in TARGETS {
        let corpus = corpus(target.name);
        assert!(!corpus.is_empty(), "corpus/{} is missing", target.name);
        for (path, input) in corpus {
            run(target, &input, &path.display().to_string());
        }
    }
}

#[test]
fn seeds_pass() {
    for target in TARGETS {
        for (name, input) in (target.seeds)() {
            run(target, &input, &format!("seed {name}"));
        }
    }
}

#[test]
fn random_input_passes() {
    let seed = number("VELLUM_FUZZ_SEED", 1);
    for target in targets() {
        let mut random = Random::new(seed);
        for i in 0..number("VELLUM_FUZZ_RUNS", target.runs) {
            let len = random.below(target.len_max) as usize;
            let input = random.bytes(len);
            run(target, &input, &format!("input {i} of VELLUM_FUZZ_SEED={seed}"));
        }
    }
}

#[test]
fn mutated_corpus_passes() {
    let seed = number("VELLUM_FUZZ_SEED", 1);
    for target in targets() {
        let corpus = corpus(target.name);
        let mut random = Random::new(seed);
        for i in 0..number("VELLUM_FUZZ_RUNS", target.runs) {
            let (path, input) = mutated(&mut random, &corpus);
            let origin = format!("mutation {i} of {} with VELLUM_FUZZ_SEED={seed}", path.display());
            run(target, &input, &origin);
        }
    }
}

/// Runs one input; says which one it was if it fails.
fn run(target: Target, input: &[u8], origin: &str) {
    struct Tell<'a>(&'a str, &'a [u8], &'a str);
    impl Drop for Tell<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let hex: String = self.1.iter().map(|b| format!("{b:02x}")).collect();
                eprintln!("target {} failed with {}; input in hexadecimal: {hex}", self.0, self.2);
            }
        }
    }
    let tell = Tell(target.name, input, origin);
    (target.fuzz_one)(input);
    drop(tell);
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}
