//! Times: what the model says of them, and what a real clock can show of it.

use std::path::Path;

use rustix::time::{ClockId, clock_gettime};
use vellum_model::Time;

/// The model's clock starts far beyond every time that a call sets, so each of its times tells whether
/// it was stamped by a call or given to one.
pub(crate) const CLOCK_START: i64 = 1_000_000_000_000;

/// One time of one node before and after a call, as (model, real).
pub(crate) struct Moved {
    pub(crate) old: Option<(Time, Time)>,
    pub(crate) new: (Time, Time),
    pub(crate) started: Time,
}

impl Moved {
    pub(crate) fn check(&self, fine: bool) -> Result<(), String> {
        let (model, real) = self.new;
        let model_moved = self.old.is_none_or(|(old, _)| old != model);
        if model.secs < CLOCK_START {
            return if model == real {
                Ok(())
            } else {
                Err(format!("was set to {model:?} and is {real:?}"))
            };
        }
        if !model_moved {
            return if self.is_still() { Ok(()) } else { Err("moved and should not".to_owned()) };
        }
        if real < self.started {
            return Err("should have moved and did not".to_owned());
        }
        if fine && self.is_still() {
            return Err("should have moved again and did not".to_owned());
        }
        Ok(())
    }

    pub(crate) fn is_still(&self) -> bool {
        self.old.is_some_and(|(_, old)| old == self.new.1)
    }
}

/// The clock that the kernel stamps with.
pub(crate) fn coarse_now() -> Time {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    Time::new(now.tv_sec, now.tv_nsec as u32)
}

pub(crate) fn wait_for_tick() {
    let start = coarse_now();
    while coarse_now() == start {
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
}

pub(crate) fn has_fine_stamps(dir: &Path) -> bool {
    let file = tempfile::NamedTempFile::new_in(dir).expect("a place to work");
    let stamp = |perm| {
        rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(perm)).expect("own file");
        let stat = rustix::fs::fstat(&file).expect("own file");
        (stat.st_ctime, stat.st_ctime_nsec)
    };
    (0..50).all(|_| stamp(0o600) != stamp(0o644))
}
