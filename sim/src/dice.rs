//! Seeded randomness: one seed, one stream per purpose.
//!
//! Owns: the only source of chance in the simulator. Streams are independent, so that a plan made
//! shorter keeps the schedule and the faults of the same seed.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// What a stream of randomness is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Which options a run has.
    Swarm = 0,
    /// What the callers do.
    Plan = 1,
    /// When things happen.
    Schedule = 2,
    /// What goes wrong.
    Faults = 3,
    /// Whether and when the volume is checked meanwhile.
    Checks = 4,
    /// What goes wrong on a disk.
    Disk = 5,
    /// When it does.
    Ills = 6,
    /// How long a plan of a soak is.
    Size = 7,
    /// Options that came later, so that older seeds stay what they were but for these.
    More = 8,
    /// When those faults strike.
    MoreFaults = 9,
    /// When write logs are folded.
    Folds = 10,
    /// How long the kernel takes to forget.
    Notices = 11,
}

/// Dice of one stream.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of `stream` of `seed`.
    pub fn new(seed: u64, stream: Stream) -> Dice {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64);
        Dice(rng)
    }

    /// Dice of their own, drawn from these.
    pub fn fork(&mut self) -> Dice {
        Dice(ChaCha8Rng::seed_from_u64(self.word()))
    }

    /// Any number.
    pub fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The bias of a multiply-shift is below 2^-32 for the small ranges used here.
        ((u128::from(self.0.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// A number in `low..=high`.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Whether something of `per_10k` in 10,000 happens. No randomness is used up for 0.
    pub fn chance(&mut self, per_10k: u32) -> bool {
        per_10k > 0 && self.below(10_000) < u64::from(per_10k)
    }

    /// One of two.
    pub fn coin(&mut self) -> bool {
        self.0.next_u64() & 1 == 1
    }

    /// An index into something of `len` elements.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// One element.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    /// A delay around `typical`: mostly between a half and twice, seldom a hundred times as long.
    pub fn latency(&mut self, typical: u64, tail_per_10k: u32) -> u64 {
        let delay = self.within(typical / 2, typical * 2);
        if self.chance(tail_per_10k) { delay * 100 } else { delay }
    }
}
