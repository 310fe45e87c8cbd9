//! From samples to one table: medians, ratios, and what each row asks to be durable.

use crate::meter::Sample;
use crate::row::{Row, Scale, Unit};
use crate::target::Target;
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::time::Duration;

/// All samples of a run.
pub(crate) struct Report {
    targets: Vec<String>,
    scale: Scale,
    repeat: usize,
    lines: Vec<Line>,
}

struct Line {
    title: String,
    unit: Unit,
    durability: &'static str,
    /// One per target, in the order of the targets.
    cells: Vec<Cell>,
}

#[derive(Clone, Default)]
struct Cell {
    values: Vec<f64>,
    samples: Vec<Sample>,
    errors: Vec<String>,
}

impl Report {
    /// An empty report with these columns.
    pub(crate) fn new(targets: &[Target], scale: Scale, repeat: usize) -> Report {
        let targets = targets.iter().map(|t| t.name().to_owned()).collect();
        Report { targets, scale, repeat, lines: Vec::new() }
    }

    /// Takes in what came of one row on the target with this number.
    pub(crate) fn add(&mut self, row: &Row, target: usize, outcome: Result<Sample>) {
        let title = row.title();
        let line = match self.lines.iter().position(|line| line.title == title) {
            Some(nth) => &mut self.lines[nth],
            None => {
                let cells = vec![Cell::default(); self.targets.len()];
                self.lines.push(Line { title, unit: row.unit, durability: row.durability, cells });
                self.lines.last_mut().expect("just pushed")
            }
        };
        let cell = &mut line.cells[target];
        match outcome {
            Ok(sample) => {
                cell.values.push(row.unit.value(&sample));
                cell.samples.push(sample);
            }
            Err(error) => cell.errors.push(format!("{error:#}")),
        }
    }

    /// Measurements that gave no number.
    pub(crate) fn failures(&self) -> usize {
        self.lines.iter().flat_map(|line| &line.cells).map(|cell| cell.errors.len()).sum()
    }

    /// A Markdown table. Ratios say how many times as fast the first column is.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        let first = self.targets.first().map_or("", String::as_str);
        let ratios: Vec<String> =
            self.targets.iter().skip(1).map(|t| format!("{first} : {t}")).collect();
        let daemon = self.lines.iter().any(|line| line.cells[0].cpu_per_operation().is_some());
        let tail = if daemon { " CPU / op | peak RSS |" } else { "" };
        let _ = writeln!(out, "{}\n", self.heading());
        let _ = writeln!(
            out,
            "| work | {} | {} |{tail} durable |",
            self.targets.join(" | "),
            ratios.join(" | ")
        );
        let columns = 2 + self.targets.len() + ratios.len() + if daemon { 2 } else { 0 };
        let _ = writeln!(out, "|---|{}", "---:|".repeat(columns - 2) + "---|");
        for line in &self.lines {
            let _ = writeln!(out, "{}", self.markdown_line(line, daemon));
        }
        out
    }

    fn heading(&self) -> String {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        format!(
            "Medians of {} interleaved repetitions; Linux {}, {cpus} CPUs. \
             `xN`: N threads. In brackets the 99th percentile of one operation. \
             tmpfs never makes anything durable.",
            self.repeat,
            kernel.trim(),
        )
    }

    fn markdown_line(&self, line: &Line, daemon: bool) -> String {
        let mut fields = vec![line.title.clone()];
        fields.extend(line.cells.iter().map(Cell::text));
        let ours = line.cells[0].median();
        fields.extend(line.cells.iter().skip(1).map(|cell| match (ours, cell.median()) {
            (Some(ours), Some(theirs)) => format!("{:.2}", line.unit.speedup(ours, theirs)),
            _ => "-".to_owned(),
        }));
        if daemon {
            let cell = &line.cells[0];
            fields.push(
                cell.cpu_per_operation()
                    .map_or("-".to_owned(), |t| latency(Duration::from_secs_f64(t))),
            );
            fields.push(cell.peak().map_or("-".to_owned(), |bytes| format!("{} MiB", bytes >> 20)));
        }
        fields.push(line.durability.to_owned());
        format!("| {} |", fields.join(" | "))
    }

    /// Everything, for programs.
    pub(crate) fn json(&self) -> Result<String> {
        let lines: Vec<Value> = self.lines.iter().map(|line| self.json_line(line)).collect();
        let report = json!({
            "schema_version": 1, "repetitions": self.repeat, "scale": self.scale,
            "filesystems": self.targets, "rows": lines,
        });
        Ok(serde_json::to_string_pretty(&report)?)
    }

    fn json_line(&self, line: &Line) -> Value {
        let cells: Vec<Value> = line
            .cells
            .iter()
            .zip(&self.targets)
            .map(|(cell, target)| {
                json!({
                    "filesystem": target, "median": cell.median(), "values": cell.values, "errors": cell.errors,
                    "p99_seconds": cell.p99().map(|t| t.as_secs_f64()),
                    "daemon_cpu_seconds_per_operation": cell.cpu_per_operation(),
                    "daemon_peak_bytes": cell.peak(),
                })
            })
            .collect();
        json!({ "row": line.title, "unit": line.unit.name(), "durable": line.durability, "results": cells })
    }
}

impl Cell {
    fn median(&self) -> Option<f64> {
        middle(self.values.clone(), f64::total_cmp)
    }

    fn p99(&self) -> Option<Duration> {
        middle(self.samples.iter().filter_map(|s| s.p99).collect(), Duration::cmp)
    }

    fn cpu_per_operation(&self) -> Option<f64> {
        let each = self.samples.iter().filter_map(|s| Some(s.daemon_cpu?.as_secs_f64() / s.amount));
        middle(each.collect(), f64::total_cmp)
    }

    fn peak(&self) -> Option<u64> {
        self.samples.iter().filter_map(|s| s.daemon_peak).max()
    }

    fn text(&self) -> String {
        match (self.median(), self.p99()) {
            (Some(value), Some(p99)) => format!("{} ({})", number(value), latency(p99)),
            (Some(value), None) => number(value),
            (None, _) => "failed".to_owned(),
        }
    }
}

/// What is told while a run goes on.
pub(crate) fn progress(row: &Row, target: &Target, outcome: &Result<Sample>) -> String {
    match outcome {
        Ok(sample) => {
            format!("{} on {}: {}", row.title(), target.name(), number(row.unit.value(sample)))
        }
        Err(error) => format!("{} on {}: FAILED: {error:#}", row.title(), target.name()),
    }
}

fn middle<T: Clone>(
    mut values: Vec<T>,
    order: impl FnMut(&T, &T) -> std::cmp::Ordering,
) -> Option<T> {
    values.sort_by(order);
    values.get(values.len() / 2).cloned()
}

fn number(value: f64) -> String {
    match value {
        v if v >= 100_000.0 => format!("{:.0}k", v / 1e3),
        v if v >= 1_000.0 => format!("{:.1}k", v / 1e3),
        v if v >= 10.0 => format!("{v:.0}"),
        v => format!("{v:.2}"),
    }
}

fn latency(time: Duration) -> String {
    match time.as_secs_f64() * 1e6 {
        us if us >= 1_000.0 => format!("{:.1} ms", us / 1e3),
        us if us >= 100.0 => format!("{us:.0} us"),
        us => format!("{us:.1} us"),
    }
}
