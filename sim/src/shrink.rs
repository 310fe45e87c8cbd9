//! Makes a failing plan shorter: drops operations while the same rule stays broken.
//!
//! The plan has a stream of random numbers of its own, so that a shorter plan keeps the faults and the
//! schedule of the seed as far as they do not depend on it.

use crate::runner::Job;

/// The steps of the plan without which the run no longer breaks `rule`, as indices, ascending.
/// Halves are tried before single steps.
pub fn shrink(job: &Job, rule: &str) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..job.plan.len()).collect();
    let mut size = kept.len().div_ceil(2);
    while size > 0 {
        let mut shorter = false;
        let mut at = 0;
        while at < kept.len() {
            let mut fewer = kept.clone();
            fewer.drain(at..(at + size).min(kept.len()));
            if only(job, &fewer).run().failure.is_some_and(|failure| failure.rule == rule) {
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

/// The job with some steps of its plan.
pub fn only(job: &Job, kept: &[usize]) -> Job {
    let plan = kept.iter().filter_map(|index| job.plan.get(*index).cloned()).collect();
    Job { plan, ..job.clone() }
}
