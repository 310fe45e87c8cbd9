//! The choices of one schedule after the other: a depth-first search by replay from the start.
//!
//! Owns: which choices were made, which are left, which schedules are another one's. Never does: knowing
//! what a choice does.
//!
//! Schedules that differ in the order of two neighbours that touch nothing in common are one schedule
//! (sleep sets, Godefroid 1996): after the branch of a choice was searched, its siblings' branches do not
//! begin with it until something happened that it is not independent of.

/// What a search needs to know of a choice.
pub trait Choice: Clone + PartialEq + std::fmt::Debug {
    /// Whether both orders of these two lead to the same state and the same answers.
    fn independent(&self, other: &Self) -> bool;
}

/// One moment of a schedule.
#[derive(Debug)]
struct Node<C> {
    options: Vec<C>,
    taken: usize,
    asleep: Vec<C>,
}

/// The search.
#[derive(Debug)]
pub struct Search<C> {
    path: Vec<Node<C>>,
    depth: usize,
    /// Choices that are prescribed, for a replay.
    script: Option<Vec<usize>>,
}

impl<C: Choice> Default for Search<C> {
    fn default() -> Self {
        Search { path: Vec::new(), depth: 0, script: None }
    }
}

impl<C: Choice> Search<C> {
    /// A search of one schedule only: the one that [`Search::text`] printed.
    ///
    /// # Errors
    /// What is no number.
    pub fn replay(text: &str) -> Result<Self, std::num::ParseIntError> {
        let digits = text.split('.').filter(|d| !d.is_empty()).map(str::parse);
        Ok(Search { script: Some(digits.collect::<Result<_, _>>()?), ..Search::default() })
    }

    /// One of the options. `None` if this schedule was searched in another order already.
    ///
    /// # Panics
    /// If there is no option, or a replay of the same choices has others.
    pub fn choose(&mut self, options: Vec<C>) -> Option<C> {
        assert!(!options.is_empty(), "something can always happen");
        if let Some(node) = self.path.get(self.depth) {
            assert!(node.options == options, "the same choices lead to the same options");
        } else {
            let asleep = if self.script.is_some() { Vec::new() } else { self.asleep() };
            let first = match &self.script {
                Some(script) => script.get(self.depth).copied().unwrap_or(0),
                None => options.iter().position(|o| !asleep.contains(o))?,
            };
            let taken = first.min(options.len() - 1);
            self.path.push(Node { options, taken, asleep });
        }
        let node = &self.path[self.depth];
        self.depth += 1;
        Some(node.options[node.taken].clone())
    }

    /// Goes to the next schedule. False after the last one.
    pub fn advance(&mut self) -> bool {
        self.path.truncate(self.depth);
        self.depth = 0;
        if self.script.is_some() {
            return false;
        }
        while let Some(node) = self.path.last_mut() {
            let next = (node.taken + 1..node.options.len())
                .find(|next| !node.asleep.contains(&node.options[*next]));
            if let Some(next) = next {
                node.taken = next;
                return true;
            }
            self.path.pop();
        }
        false
    }

    /// The choices of the present schedule, for [`Search::replay`].
    pub fn text(&self) -> String {
        let taken: Vec<usize> = self.path[..self.depth].iter().map(|n| n.taken).collect();
        let end = taken.iter().rposition(|t| *t != 0).map_or(0, |last| last + 1);
        taken[..end].iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
    }

    /// The choices in words.
    pub fn words(&self) -> impl Iterator<Item = &C> {
        self.path[..self.depth].iter().map(|node| &node.options[node.taken])
    }

    /// What needs not begin the rest, because a sibling's branch has it.
    fn asleep(&self) -> Vec<C> {
        let Some(parent) = self.depth.checked_sub(1).map(|d| &self.path[d]) else {
            return Vec::new();
        };
        let taken = &parent.options[parent.taken];
        let tried = parent.options[..parent.taken].iter().filter(|o| !parent.asleep.contains(o));
        let earlier = parent.asleep.iter().chain(tried);
        earlier.filter(|other| other.independent(taken)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of some threads does its steps in order: thread and step, and whether it touches what all share.
    #[derive(Clone, Debug, PartialEq)]
    struct Act(usize, u32, bool);

    impl Choice for Act {
        fn independent(&self, other: &Act) -> bool {
            self.0 != other.0 && !(self.2 && other.2)
        }
    }

    fn schedules(threads: &[&[bool]]) -> (usize, usize) {
        let (mut search, mut whole, mut cut) = (Search::<Act>::default(), 0, 0);
        loop {
            let mut at = vec![0; threads.len()];
            let done = loop {
                let options: Vec<Act> = (0..threads.len())
                    .filter(|t| at[*t] < threads[*t].len())
                    .map(|t| Act(t, at[t] as u32, threads[t][at[t]]))
                    .collect();
                if options.is_empty() {
                    break true;
                }
                let Some(Act(thread, ..)) = search.choose(options) else { break false };
                at[thread] += 1;
            };
            if done {
                whole += 1
            } else {
                cut += 1
            }
            if !search.advance() {
                return (whole, cut);
            }
        }
    }

    #[test]
    fn all_orders_of_what_is_shared_are_searched() {
        assert_eq!(schedules(&[&[true; 3], &[true; 3]]).0, 20);
        assert_eq!(schedules(&[&[true; 2], &[true; 2], &[true; 1]]).0, 30);
    }

    #[test]
    fn orders_of_what_is_not_shared_are_searched_once() {
        assert_eq!(schedules(&[&[false; 3], &[false; 3]]).0, 1);
        assert_eq!(schedules(&[&[false, true, false], &[false, true, false]]).0, 2);
    }

    #[test]
    fn a_schedule_is_found_again_by_its_text() {
        let options = |n: u32| (0..3).map(|t| Act(t, n, true)).collect::<Vec<_>>();
        let mut search = Search::<Act>::default();
        for _ in 0..20 {
            let walk: Vec<Act> = (0..4).map(|n| search.choose(options(n)).expect("one")).collect();
            let mut again = Search::<Act>::replay(&search.text()).expect("it was printed");
            let second: Vec<Act> = (0..4).map(|n| again.choose(options(n)).expect("one")).collect();
            assert_eq!(walk, second);
            search.advance();
        }
    }
}
