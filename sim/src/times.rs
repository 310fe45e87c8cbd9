//! What times an inode may show: bounds instead of equality.
//!
//! The model says which operation stamps which time; this says which values follow.
//! - btime is the clock of the request that made the inode.
//! - mtime after a set of stamps is their maximum, starting again at each utimens; a write may add a tick
//!   of 1 ns to what was there. A read that overlaps changes may see any of them.
//! - ctime is the maximum of its stamps and of mtime, unless a utimens moved mtime into the future.
//! - atime is the last value set, or the clock of a READ, READDIR or READLINK since (relatime decides
//!   whether it moves at all, so any of them will do).
//!
//! Once the civil clock jumped only the hull of all values counts.

use vellum_core::time::WallTime;

use crate::history::Place;

/// The times of one inode.
#[derive(Clone, Debug)]
pub struct Times {
    btime: Span,
    mtime: Span,
    ctime: Span,
    /// mtime was set to a time after the clock, so that the next change takes the clock.
    future: bool,
    atimes: Vec<Span>,
    stamps: Vec<(Place, Stamp)>,
    touches: Vec<Touch>,
    /// Writes that may have changed it before they took effect.
    sheds: Vec<(Place, Span)>,
}

/// Something that changed a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// mtime and ctime take the clock, or (a write) a tick more than they were.
    Modified(Span),
    /// ctime takes the clock.
    Changed(Span),
    /// mtime was set.
    SetModified(Span),
    /// mtime was set to a time after the clock.
    SetFuture(WallTime),
    /// atime was set by a request that was asked then. A read that overlaps it may win.
    SetAccessed(Span, Place),
}

/// What the clock said while a request was under way: its operation stamps some time of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it was asked.
    pub from: WallTime,
    /// When it was answered.
    pub to: WallTime,
}

impl Span {
    /// The span of a clock that may have jumped meanwhile.
    pub fn new(asked: WallTime, answered: WallTime) -> Span {
        Span { from: asked.min(answered), to: asked.max(answered) }
    }

    /// Exactly this time.
    pub fn at(time: WallTime) -> Span {
        Span { from: time, to: time }
    }

    fn has(self, time: WallTime) -> bool {
        self.from <= time && time <= self.to
    }
}

#[derive(Clone, Copy, Debug)]
struct Touch {
    asked: Place,
    answered: Place,
    wall: Span,
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Access time.
    pub atime: WallTime,
    /// Modification time.
    pub mtime: WallTime,
    /// Change time.
    pub ctime: WallTime,
    /// Birth time.
    pub btime: WallTime,
}

impl Times {
    /// An inode made by a request at `wall`.
    pub fn born(wall: Span) -> Times {
        Times {
            btime: wall,
            mtime: wall,
            ctime: wall,
            future: false,
            atimes: vec![wall],
            stamps: Vec::new(),
            touches: Vec::new(),
            sheds: Vec::new(),
        }
    }

    /// An inode that showed these times.
    pub fn shown(shown: Shown) -> Times {
        Times {
            btime: Span::at(shown.btime),
            mtime: Span::at(shown.mtime),
            ctime: Span::at(shown.ctime),
            future: shown.mtime > shown.ctime,
            atimes: vec![Span::at(shown.atime)],
            stamps: Vec::new(),
            touches: Vec::new(),
            sheds: Vec::new(),
        }
    }

    /// Something stamped it. Places grow.
    pub fn stamp(&mut self, at: Place, stamp: Stamp) {
        self.stamps.push((at, stamp));
    }

    /// Somebody read it.
    pub fn touch(&mut self, asked: Place, answered: Place, wall: Span) {
        self.touches.push(Touch { asked, answered, wall });
    }

    /// A write was asked for, which may take set-id bits before it takes effect.
    pub fn shed(&mut self, asked: Place, wall: Span) {
        self.sheds.push((asked, wall));
    }

    /// What is wrong with times that were shown by an answer between two places, if anything.
    pub fn judge(&self, shown: Shown, asked: Place, answered: Place) -> Option<String> {
        if !self.btime.has(shown.btime) {
            return Some(format!("btime {:?} instead of {:?}", shown.btime, self.btime));
        }
        let (low, high) = self.modified(asked, answered);
        if shown.mtime < low || shown.mtime > high {
            return Some(format!("mtime {:?} outside {low:?}..={high:?}", shown.mtime));
        }
        let (low, high) = self.changed(asked, answered, high);
        if shown.ctime < low || shown.ctime > high {
            return Some(format!("ctime {:?} outside {low:?}..={high:?}", shown.ctime));
        }
        let allowed = self.accessed(asked, answered);
        if !allowed.iter().any(|span| span.has(shown.atime)) {
            return Some(format!("atime {:?} is none of {allowed:?}", shown.atime));
        }
        None
    }

    /// What is wrong with times of which only the hull is known: after the process ended, or in a run
    /// whose civil clock jumped. `extra` are other times that requests may have left behind.
    pub fn judge_roughly(&self, shown: Shown, extra: &[Span]) -> Option<String> {
        let mut values = vec![self.mtime, self.ctime];
        values.extend(&self.atimes);
        values.extend(extra);
        for (_, stamp) in &self.stamps {
            values.push(match *stamp {
                Stamp::Modified(t)
                | Stamp::Changed(t)
                | Stamp::SetModified(t)
                | Stamp::SetAccessed(t, _) => t,
                Stamp::SetFuture(t) => Span::at(t),
            });
        }
        values.extend(self.touches.iter().map(|t| t.wall));
        let low = values.iter().map(|s| s.from).min().unwrap_or_default();
        let high =
            ticked(values.iter().map(|s| s.to).max().unwrap_or_default(), self.stamps.len() as u32);
        let outside = |t: WallTime| t < low || t > high;
        (outside(shown.mtime) || outside(shown.atime))
            .then(|| format!("{shown:?} outside {low:?}..={high:?}"))
    }

    /// The least and the greatest mtime that an answer between two places may show.
    fn modified(&self, asked: Place, answered: Place) -> (WallTime, WallTime) {
        let mut now = self.mtime;
        let mut future = self.future;
        let mut ticks = 0;
        let (mut low, mut high) = (now.from, now.to);
        for (at, stamp) in self.stamps.iter().filter(|(at, _)| *at <= answered) {
            match *stamp {
                Stamp::Modified(wall) => {
                    ticks += 1;
                    // From a future time the clock is taken again.
                    let from =
                        if future { wall.from.min(now.from) } else { wall.from.max(now.from) };
                    now = Span { from, to: now.to.max(wall.to) };
                    future = false;
                }
                Stamp::SetModified(time) => (now, future) = (time, false),
                Stamp::SetFuture(time) => (now, future) = (Span::at(time), true),
                Stamp::Changed(_) | Stamp::SetAccessed(..) => continue,
            }
            if *at <= asked {
                (low, high) = (now.from, now.to);
            } else {
                (low, high) = (low.min(now.from), high.max(now.to));
            }
        }
        (low, ticked(high, ticks))
    }

    fn changed(&self, asked: Place, answered: Place, mtime_high: WallTime) -> (WallTime, WallTime) {
        let mut low = self.ctime.from;
        let mut high = self.ctime.to.max(mtime_high);
        for (_, wall) in self.sheds.iter().filter(|(asked, _)| *asked <= answered) {
            high = high.max(wall.to);
        }
        for (at, stamp) in self.stamps.iter().filter(|(at, _)| *at <= answered) {
            let (Stamp::Modified(wall) | Stamp::Changed(wall)) = *stamp else { continue };
            high = high.max(wall.to);
            if *at <= asked {
                low = low.max(wall.from);
            }
        }
        (low, ticked(high, self.stamps.len() as u32))
    }

    fn accessed(&self, asked: Place, answered: Place) -> Vec<Span> {
        let mut allowed = self.atimes.clone();
        let mut since = 0;
        for (at, stamp) in self.stamps.iter().filter(|(at, _)| *at <= answered) {
            if let Stamp::SetAccessed(time, begun) = *stamp {
                if *at <= asked {
                    allowed.clear();
                    since = begun;
                }
                allowed.push(time);
            }
        }
        let touches = self.touches.iter().filter(|t| t.asked <= answered && t.answered >= since);
        allowed.extend(touches.map(|t| t.wall));
        allowed
    }
}

fn ticked(time: WallTime, ticks: u32) -> WallTime {
    (0..ticks).fold(time, |time, _| time.next_tick())
}
