//! The problems found, as many as anybody can read.

use super::repair::Fix;
use crate::port::control::Problem;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Problems that a report has room for; more are counted.
const PROBLEMS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Problems {
    kept: Vec<Problem>,
    /// What would make good some of them: their places in `kept`, in ascending order.
    fixes: Vec<(usize, Fix)>,
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

    /// A rule is broken, and it is known how to make it good, if there is a fix.
    pub(super) fn add_with(&mut self, rule: &'static str, text: String, fix: Option<Fix>) {
        if let Some(fix) = fix
            && self.kept.len() < PROBLEMS_MAX
        {
            self.fixes.push((self.kept.len(), fix));
        }
        self.add(rule, text);
    }

    /// What there is to repair: each fix with the problem that it makes good.
    pub(super) fn fixes(&self) -> Vec<(Problem, Fix)> {
        self.fixes.iter().map(|(n, fix)| (self.kept[*n].clone(), fix.clone())).collect()
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
