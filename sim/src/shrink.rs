//! Makes a failing run smaller: drops operations, then faults, while the same rule stays broken.
//!
//! The plan has a stream of random numbers of its own, so that a shorter plan keeps the faults and the
//! schedule of the seed as far as they do not depend on it.

use crate::faults::{Fault, Options};
use crate::runner::Job;

/// What is left of a failing run.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The steps of the plan, as indices, ascending.
    pub kept: Vec<usize>,
    /// Faults that are not needed.
    pub without: Vec<Fault>,
}

impl Shrunk {
    /// Names of the faults that are still drawn.
    pub fn faults_left(&self, job: &Job) -> impl Iterator<Item = &'static str> {
        let rates = Options::of_seed(job.seed).rates;
        let left = Fault::ALL
            .iter()
            .filter(move |(_, fault)| rates[*fault as usize] > 0 && !self.without.contains(fault));
        left.map(|(name, _)| *name)
    }
}

/// The operations and faults without which the run no longer breaks `rule`. Halves of the plan are tried
/// before single steps, and the plan once more when a fault could be left out.
pub fn shrink(job: &Job, rule: &str) -> Shrunk {
    let mut kept = fewer_steps(job, (0..job.plan.len()).collect(), rule);
    let mut without = job.without.clone();
    let rates = Options::of_seed(job.seed).rates;
    for (_, fault) in Fault::ALL {
        if rates[fault as usize] == 0 || without.contains(&fault) {
            continue;
        }
        without.push(fault);
        if !breaks(&Job { without: without.clone(), ..job.clone() }, &kept, rule) {
            without.pop();
        }
    }
    if without.len() > job.without.len() {
        kept = fewer_steps(&Job { without: without.clone(), ..job.clone() }, kept, rule);
    }
    Shrunk { kept, without }
}

fn fewer_steps(job: &Job, mut kept: Vec<usize>, rule: &str) -> Vec<usize> {
    let mut size = kept.len().div_ceil(2);
    while size > 0 {
        let mut shorter = false;
        let mut at = 0;
        while at < kept.len() {
            let mut fewer = kept.clone();
            fewer.drain(at..(at + size).min(kept.len()));
            if breaks(job, &fewer, rule) {
                kept = fewer;
                shorter = true;
            } else {
                at += size;
            }
        }
        if !shorter || size > 1 {
            size /= 2;
        }
    }
    kept
}

fn breaks(job: &Job, kept: &[usize], rule: &str) -> bool {
    only(job, kept).run().failure.is_some_and(|failure| failure.rule == rule)
}

/// The job with some steps of its plan.
pub fn only(job: &Job, kept: &[usize]) -> Job {
    let plan = kept.iter().filter_map(|index| job.plan.get(*index).cloned()).collect();
    Job { plan, ..job.clone() }
}
