//! What a batch of runs came to.

use std::collections::BTreeMap;
use vellum_sim::faults::{Fault, FaultCounts};
use vellum_sim::probes::{Hits, missed};
use vellum_sim::runner::{Job, Verdict};
use vellum_sim::trace::Trace;
use vellum_sim::world::Failure;

/// Sums over runs.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) seeds: u64,
    steps: u64,
    requests: u64,
    faults: FaultCounts,
    probes: Hits,
    traces: BTreeMap<u64, u64>,
    pub(crate) failures: BTreeMap<u64, Verdict>,
}

impl Totals {
    pub(crate) fn note(&mut self, seed: u64, verdict: Verdict) {
        self.seeds += 1;
        self.steps += verdict.steps;
        self.requests += verdict.requests;
        for (sum, count) in self.faults.iter_mut().zip(verdict.faults) {
            *sum += count;
        }
        for (name, count) in &verdict.probes {
            *self.probes.entry(name).or_default() += count;
        }
        self.traces.insert(seed, verdict.trace);
        if verdict.failure.is_some() {
            self.failures.insert(seed, verdict);
        }
    }

    pub(crate) fn add(&mut self, other: Totals) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.requests += other.requests;
        for (sum, count) in self.faults.iter_mut().zip(other.faults) {
            *sum += count;
        }
        for (name, count) in other.probes {
            *self.probes.entry(name).or_default() += count;
        }
        self.traces.extend(other.traces);
        self.failures.extend(other.failures);
    }

    /// Rare situations and faults that should have happened and did not.
    pub(crate) fn never_met(&self) -> Vec<String> {
        let faults = Fault::ALL.iter().zip(self.faults).filter(|(_, count)| *count == 0);
        let faults = faults.map(|((name, _), _)| format!("{name} (a fault)"));
        let probes = missed(&self.probes, self.seeds).into_iter();
        faults.chain(probes.map(|probe| format!("{} ({})", probe.name, probe.noted))).collect()
    }

    fn trace(&self) -> u64 {
        let mut trace = Trace::default();
        self.traces.values().for_each(|t| trace.word(*t));
        trace.value()
    }

    pub(crate) fn json(&self, seconds: f64) -> serde_json::Value {
        let faults = Fault::ALL.iter().zip(self.faults).map(|((name, _), count)| (*name, count));
        let faults: BTreeMap<&str, u64> = faults.collect();
        serde_json::json!({
            "event": "summary", "seeds": self.seeds, "failures": self.failures.len(),
            "operations": self.steps, "requests": self.requests, "faults": faults,
            "probes": self.probes, "never_met": self.never_met(),
            "seeds_per_second": self.rate(seconds), "trace": format!("{:016x}", self.trace()),
        })
    }

    pub(crate) fn print(&self, seconds: f64) {
        let faults = Fault::ALL.iter().zip(self.faults).filter(|(_, count)| *count > 0);
        let faults: Vec<String> =
            faults.map(|((name, _), count)| format!("{name} {count}")).collect();
        println!("faults: {}", faults.join(", "));
        let probes: Vec<String> =
            self.probes.iter().map(|(name, count)| format!("{name} {count}")).collect();
        println!("probes: {}", probes.join(", "));
        println!(
            "{} seeds, {} failed, {} operations, {} requests, {} faults, {:.0} seeds/s, trace {:016x}",
            self.seeds,
            self.failures.len(),
            self.steps,
            self.requests,
            self.faults.iter().sum::<u64>(),
            self.rate(seconds),
            self.trace()
        );
    }

    fn rate(&self, seconds: f64) -> f64 {
        self.seeds as f64 / seconds.max(1e-9)
    }
}

/// Every tenth seed runs twice: the same seed must be the same run.
pub(crate) fn run_twice_sometimes(job: &Job) -> Verdict {
    let mut verdict = job.run();
    if job.seed.is_multiple_of(10) && verdict.failure.is_none() {
        let again = job.run();
        if again.trace != verdict.trace {
            let text =
                format!("two runs have the traces {:016x} and {:016x}", verdict.trace, again.trace);
            verdict.failure = Some(Failure::new("determinism", text));
        }
    }
    verdict
}

pub(crate) fn print_failure(seed: u64, verdict: &Verdict, replay: &str, json: bool) {
    let Some(failure) = &verdict.failure else { return };
    if json {
        let line = serde_json::json!({
            "event": "failure", "seed": seed, "rule": failure.rule, "text": failure.text,
            "reports": verdict.reports, "replay": replay,
        });
        println!("{line}");
        return;
    }
    println!("FAILED seed {seed}, {}: {}", failure.rule, failure.text);
    for report in verdict.reports.iter().take(5) {
        println!("  report: {report}");
    }
    println!("  replay: {replay}");
}
