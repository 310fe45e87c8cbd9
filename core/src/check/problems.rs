//! The problems found, as many as anybody can read.

use crate::port::control::Problem;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Problems that a report has room for; more are counted.
const PROBLEMS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Problems {
    kept: Vec<Problem>,
    more: u64,
}

impl Problems {
    /// A rule is broken.
    pub(super) fn add(&mut self, rule: &'static str, text: String) {
        if self.kept.len() < PROBLEMS_MAX {
            self.kept.push(Problem { rule, text });
        } else {
            self.more += 1;
        }
    }

    /// All of them, in the order found. The last one tells how many had no room.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        if self.more > 0
            && let Some(last) = self.kept.last_mut()
        {
            last.text.push_str(&format!("; and {} more problems", self.more));
        }
        self.kept
    }
}
