//! What is measured while work runs: time, latencies, and what the daemon spent.

use anyhow::Result;
use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// One measurement of one row on one filesystem.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Wall-clock time from the first thread's start to the last thread's end.
    pub(crate) elapsed: Duration,
    /// How much was done, in the row's own unit.
    pub(crate) amount: f64,
    /// Latency that 99 of 100 operations stayed below, where operations were timed one by one.
    pub(crate) p99: Option<Duration>,
    /// CPU time of the daemon.
    pub(crate) daemon_cpu: Option<Duration>,
    /// Most memory of the daemon, in bytes.
    pub(crate) daemon_peak: Option<u64>,
}

/// Collects one thread's latencies.
#[derive(Default)]
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    /// Times one operation.
    pub(crate) fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let result = operation();
        self.0.push(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX));
        result
    }
}

/// Runs `work` in so many threads at once and measures it. `work` is told the number of its thread.
pub(crate) fn measure(
    threads: usize,
    amount: f64,
    daemon: Option<u32>,
    work: impl Fn(usize, &mut Latencies) -> Result<()> + Sync,
) -> Result<Sample> {
    // What others left dirty is not written at our expense.
    rustix::fs::sync();
    let before = daemon.map(Usage::begin);
    let start = Barrier::new(threads);
    let results: Vec<Result<Span>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|n| {
                let (start, work) = (&start, &work);
                scope.spawn(move || {
                    let mut latencies = Latencies::default();
                    start.wait();
                    let begin = Instant::now();
                    work(n, &mut latencies)?;
                    Ok(Span { begin, end: Instant::now(), latencies: latencies.0 })
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().expect("a worker does not panic")).collect()
    });
    let spans = results.into_iter().collect::<Result<Vec<_>>>()?;
    let begin = spans.iter().map(|s| s.begin).min().expect("there is a thread");
    let end = spans.iter().map(|s| s.end).max().expect("there is a thread");
    let all = spans.into_iter().flat_map(|s| s.latencies).collect();
    let spent = before.map(Usage::end);
    Ok(Sample {
        elapsed: end - begin,
        amount,
        p99: percentile(all, 99),
        daemon_cpu: spent.map(|(cpu, _)| cpu),
        daemon_peak: spent.map(|(_, peak)| peak),
    })
}

/// What one thread did.
struct Span {
    begin: Instant,
    end: Instant,
    latencies: Vec<u64>,
}

fn percentile(mut values: Vec<u64>, percent: usize) -> Option<Duration> {
    if values.is_empty() {
        return None;
    }
    let nth = (values.len() * percent / 100).min(values.len() - 1);
    let (_, value, _) = values.select_nth_unstable(nth);
    Some(Duration::from_nanos(*value))
}

/// CPU and memory of a process over a span of time.
struct Usage {
    pid: u32,
    cpu: Duration,
}

impl Usage {
    fn begin(pid: u32) -> Usage {
        // "5" resets the peak of resident memory (proc(5)); without it the peak is that of the whole run.
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        Usage { pid, cpu: cpu_time(pid) }
    }

    fn end(self) -> (Duration, u64) {
        (cpu_time(self.pid).saturating_sub(self.cpu), peak_memory(self.pid))
    }
}

/// CPU time of all threads, in nanoseconds as the scheduler counts it.
fn cpu_time(pid: u32) -> Duration {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    tasks.flatten().map(|task| thread_time(&task.path())).sum()
}

fn thread_time(task: &Path) -> Duration {
    let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0))
}

fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or(0)
        << 10
}
