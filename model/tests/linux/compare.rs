//! One run: the model and the real filesystem side by side.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use vellum_model::{
    AccessTimes, Attr, Caller, Compare, Error, Follow, Fs, Kind, New, NodeId, Op, Outcome, Quirk,
    Syscalls, Time, diff,
};

use crate::differences::Flavor;
use crate::real::Real;
use crate::times::{CLOCK_START, Moved, coarse_now, has_fine_stamps, wait_for_tick};

const SLOTS: u8 = 4;
/// Of the process, and of the model. The root directories of a comparison are made under it, too.
pub(crate) const UMASK: u16 = 0o022;
const DAY: i64 = 24 * 60 * 60;
/// Of the calls whose stamps only a tick of the clock tells apart, one in so many waits for it.
const TICK_EVERY: usize = 16;

/// Where to work and what to compare.
pub(crate) struct Scope {
    pub(crate) dir: PathBuf,
    pub(crate) flavor: Flavor,
    pub(crate) caller: Caller,
    skip: Vec<String>,
    /// Each change of a node that was looked at before gives it a new time (multigrain timestamps).
    fine_stamps: bool,
}

/// What differed first.
pub(crate) struct Failure {
    /// Index of the call.
    pub(crate) at: usize,
    pub(crate) what: String,
}

/// How much was compared.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) calls: usize,
    pub(crate) succeeded: usize,
    errors: BTreeMap<Error, usize>,
    attributes: usize,
}

impl Scope {
    pub(crate) fn new(dir: PathBuf, caller: Caller, skip: &str) -> Self {
        let skip = skip.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let fine_stamps = has_fine_stamps(&dir);
        let flavor = Flavor::of(&dir);
        Self { dir, skip, flavor, caller, fine_stamps }
    }

    /// Calls that this filesystem does not do or does otherwise by design.
    pub(crate) fn skips_op(&self, op: &Op, model: &Syscalls) -> bool {
        if self.flavor.differs(op, model) || kernel_decides(model, op) {
            return true;
        }
        match op {
            Op::Fallocate { .. } => self.skips("allocate"),
            Op::CopyRange { .. } => self.skips("copy"),
            Op::SeekData { .. } | Op::SeekHole { .. } => self.skips("seek"),
            Op::Mknod { kind, .. } => *kind != Kind::File && self.skips("special"),
            Op::Setxattr { .. }
            | Op::Getxattr { .. }
            | Op::Listxattr { .. }
            | Op::Removexattr { .. } => self.skips("xattrs"),
            _ => false,
        }
    }

    fn skips(&self, what: &str) -> bool {
        self.skip.iter().any(|word| word == what)
    }
}

/// A model with an empty `/w`, as each run begins.
pub(crate) fn fresh(caller: Caller) -> Syscalls {
    let fs =
        Fs::new(New::perm(0o755), Time::new(CLOCK_START, 0)).with_access_times(AccessTimes::Strict);
    let mut model = Syscalls::new(fs);
    model.caller = caller;
    model.umask = UMASK;
    let made =
        model.apply(&Op::Mkdir { path: b"/w".to_vec(), perm: 0o755 }, Time::new(CLOCK_START, 0));
    assert_eq!(made, Outcome::Done);
    model
}

/// The model's time of a call.
pub(crate) fn now(index: usize) -> Time {
    Time::new(CLOCK_START + 1 + index as i64, 0)
}

/// Opens of pipes and devices and holes of directories mean nothing; and `/w` is to stay where it is.
fn kernel_decides(model: &Syscalls, op: &Op) -> bool {
    let kind = |path: &[u8]| {
        let place = model.fs.resolve(path, Follow::Always, &mut Vec::new()).ok()?;
        Some(model.fs.getattr(place.node.ok()?).ok()?.kind)
    };
    let leads_out = |path: &[u8]| {
        let place = model.fs.resolve(path, Follow::Never, &mut Vec::new());
        place.is_ok_and(|place| place.dir == NodeId::ROOT)
    };
    match op {
        Op::Open { path, .. } => {
            matches!(kind(path), Some(Kind::Fifo | Kind::CharDev | Kind::BlockDev))
        }
        // Done by way of an open.
        Op::Truncate { path, .. } => !matches!(kind(path), None | Some(Kind::File | Kind::Dir)),
        Op::Rename { from, to, .. } => leads_out(from) || leads_out(to),
        Op::Rmdir { path } => leads_out(path),
        Op::SeekData { slot, .. } | Op::SeekHole { slot, .. } => {
            let node = model.open_node(*slot).and_then(|node| model.fs.getattr(node).ok());
            node.is_some_and(|attr| attr.kind == Kind::Dir)
        }
        _ => false,
    }
}

/// Every path and its node, parents first.
pub(crate) fn paths(fs: &Fs) -> Vec<(Vec<u8>, NodeId)> {
    let mut found = vec![(b"/".to_vec(), NodeId::ROOT)];
    let mut next = 0;
    while next < found.len() {
        let (dir, node) = found[next].clone();
        let below = if dir == b"/" { Vec::new() } else { dir };
        for entry in fs.readdir(node).unwrap_or_default().into_iter().skip(2) {
            found.push(([&below, b"/".as_slice(), &entry.name].concat(), entry.node));
        }
        next += 1;
    }
    found
}

/// Runs `plan` in a fresh directory; `quirk` plants a bug in the model.
pub(crate) fn run(plan: &[Op], scope: &Scope, quirk: Option<Quirk>) -> Result<Tally, Failure> {
    let base = tempfile::Builder::new()
        .prefix("vellum-model-")
        .tempdir_in(&scope.dir)
        .expect("a place to work");
    let mut pair = Pair::new(base.path(), scope);
    if let Some(quirk) = quirk {
        pair.model.fs.plant(quirk);
        pair.planted = true;
    }
    for (at, op) in plan.iter().enumerate() {
        // A shortened plan may come to such a call though the whole one did not.
        if scope.skips_op(op, &pair.model) {
            continue;
        }
        pair.step(op, now(at)).map_err(|what| Failure { at, what: format!("{op:?}: {what}") })?;
    }
    let at = plan.len().saturating_sub(1);
    pair.compare_trees().map_err(|what| Failure { at, what })?;
    Ok(pair.tally)
}

struct Pair<'a> {
    scope: &'a Scope,
    model: Syscalls,
    /// The model has a bug, and it is the comparison that must find it, not the model's own check.
    planted: bool,
    real: Real,
    /// Each node's attributes after the last call: the model's and the real ones.
    seen: BTreeMap<NodeId, (Attr, Attr)>,
    tally: Tally,
}

impl<'a> Pair<'a> {
    fn new(base: &Path, scope: &'a Scope) -> Self {
        rustix::fs::chmod(base, rustix::fs::Mode::from_raw_mode(0o755)).expect("own directory");
        let mut real = Real::new(base);
        let made = real.apply(&Op::Mkdir { path: b"/w".to_vec(), perm: 0o755 });
        assert_eq!(made, Ok(Outcome::Done));
        let mut pair = Self {
            scope,
            model: fresh(scope.caller),
            planted: false,
            real,
            seen: BTreeMap::new(),
            tally: Tally::default(),
        };
        pair.seen = pair.observe().expect("two fresh trees");
        pair
    }

    fn step(&mut self, op: &Op, now: Time) -> Result<(), String> {
        if self.needs_tick(op) && self.tally.calls.is_multiple_of(TICK_EVERY) {
            wait_for_tick();
        }
        let started = coarse_now();
        let allowed = self.model.allowed_errors(op, now);
        let expected = self.model.apply(op, now);
        let got = self.real.apply(op)?;
        self.count(&expected);
        check_allowed(&expected, &allowed)?;
        let broken = self.model.fs.check();
        if !self.planted && !broken.is_empty() {
            return Err(format!("the model is broken: {broken:?}"));
        }
        self.compare_outcomes(op, &expected, &got, &allowed)?;
        let after = self.observe()?;
        for (node, (model, real)) in &after {
            let before = self.seen.get(node);
            self.compare_attr(model, real)
                .and_then(|()| self.compare_times(before, (model, real), started, op))
                .map_err(|what| format!("{what} of {}", self.name_of(*node)))?;
        }
        self.tally.attributes += after.len();
        self.seen = after;
        Ok(())
    }

    /// Whether a time that this call stamps may be the one that was there, until the clock ticks. Without
    /// multigrain timestamps always; with them where one node's new ctime is copied to others, as tmpfs
    /// does for what loses or gets a name and its directories.
    fn needs_tick(&self, op: &Op) -> bool {
        let copies = matches!(
            op,
            Op::Unlink { .. }
                | Op::Rmdir { .. }
                | Op::Rename { .. }
                | Op::Link { .. }
                | Op::LinkSlot { .. }
        );
        copies || !self.scope.fine_stamps
    }

    fn count(&mut self, expected: &Outcome) {
        self.tally.calls += 1;
        match expected.error() {
            Some(error) => *self.tally.errors.entry(error).or_default() += 1,
            None => self.tally.succeeded += 1,
        }
    }

    fn compare_outcomes(
        &self,
        op: &Op,
        expected: &Outcome,
        got: &Outcome,
        allowed: &[Error],
    ) -> Result<(), String> {
        let same = match (op, expected, got) {
            // A filesystem may take (part of) a hole for data.
            (Op::SeekData { offset, .. }, Outcome::Count(model), Outcome::Count(real)) => {
                offset <= real && real <= model
            }
            (
                Op::SeekData { slot, offset },
                Outcome::Failed(Error::NoAddress),
                Outcome::Count(real),
            ) => offset <= real && *real < self.size_of(*slot),
            (Op::SeekHole { slot, .. }, Outcome::Count(model), Outcome::Count(real)) => {
                model <= real && *real <= self.size_of(*slot)
            }
            _ => return self.compare_exactly(expected, got, allowed),
        };
        if same {
            Ok(())
        } else {
            Err(format!("expected at best {}, got {}", show(expected), show(got)))
        }
    }

    fn size_of(&self, slot: u8) -> u64 {
        let attr = self.model.open_node(slot).and_then(|node| self.model.fs.getattr(node).ok());
        attr.map_or(0, |attr| attr.size)
    }

    fn compare_exactly(
        &self,
        expected: &Outcome,
        got: &Outcome,
        allowed: &[Error],
    ) -> Result<(), String> {
        let same = match (expected, got) {
            (Outcome::Attr(model), Outcome::Attr(real)) => return self.compare_attr(model, real),
            (Outcome::Entries(model), Outcome::Entries(real)) => {
                let shape = |list: &[vellum_model::DirEntry]| -> Vec<_> {
                    list.iter().map(|entry| (entry.name.clone(), entry.kind)).collect()
                };
                shape(model) == shape(real)
            }
            (Outcome::Failed(_), Outcome::Failed(real)) if self.scope.skips("errno") => {
                allowed.contains(real)
            }
            _ => expected == got,
        };
        if same { Ok(()) } else { Err(format!("expected {}, got {}", show(expected), show(got))) }
    }

    fn compare_attr(&self, model: &Attr, real: &Attr) -> Result<(), String> {
        let is_dir = model.kind == Kind::Dir;
        let links =
            |attr: &Attr| if is_dir && self.scope.skips("dir_links") { 0 } else { attr.nlink };
        let size = |attr: &Attr| if is_dir { 0 } else { attr.size };
        same("kind", model.kind, real.kind)?;
        same("perm", format!("{:o}", model.perm), format!("{:o}", real.perm))?;
        same("owner", (model.uid, model.gid), (real.uid, real.gid))?;
        same("nlink", links(model), links(real))?;
        same("size", size(model), size(real))?;
        same("rdev", model.rdev, real.rdev)
    }

    fn compare_times(
        &self,
        before: Option<&(Attr, Attr)>,
        (model, real): (&Attr, &Attr),
        started: Time,
        op: &Op,
    ) -> Result<(), String> {
        if let Some((_, old)) = before {
            same("inode", old.node, real.node)?;
        }
        for (what, pick) in
            [("mtime", mtime as fn(&Attr) -> Time), ("ctime", |attr: &Attr| attr.ctime)]
        {
            let old = before.map(|(model, real)| (pick(model), pick(real)));
            let moved = Moved { old, new: (pick(model), pick(real)), started };
            moved.check(!self.needs_tick(op)).map_err(|why| format!("{what} {why}"))?;
        }
        if self.scope.skips("atime") {
            return Ok(());
        }
        let old = before.map(|(model, real)| (model.atime, real.atime));
        let moved = Moved { old, new: (model.atime, real.atime), started };
        // Under relatime an access need not move it. A call that sets it must, but may also follow a link.
        let sets = matches!(op, Op::Utimens { .. }) && model.kind != Kind::Symlink;
        let not_due = before.is_some_and(|(_, real)| {
            real.atime > real.mtime
                && real.atime > real.ctime
                && started.secs - real.atime.secs < DAY
        });
        if !sets && not_due && moved.is_still() {
            return Ok(());
        }
        moved.check(false).map_err(|why| format!("atime {why}"))
    }

    /// Attributes of each node with a path or an open file, on both sides.
    fn observe(&self) -> Result<BTreeMap<NodeId, (Attr, Attr)>, String> {
        let mut nodes = BTreeMap::new();
        let mut inodes = BTreeMap::new();
        for (path, node) in paths(&self.model.fs) {
            let name = String::from_utf8_lossy(&path);
            let real =
                self.real.lstat(&path).map_err(|errno| format!("{name} is missing: {errno}"))?;
            nodes.insert(node, real);
            if *inodes.entry(real.node).or_insert(node) != node {
                return Err(format!("{name} should not be a link of another path"));
            }
        }
        for slot in 0..SLOTS {
            if let Some(node) = self.model.open_node(slot) {
                let real = self
                    .real
                    .fstat(slot)
                    .map_err(|errno| format!("slot {slot} is not open: {errno}"))?;
                nodes.insert(node, real);
            }
        }
        nodes
            .into_iter()
            .map(|(node, real)| {
                Ok((node, (self.model.fs.getattr(node).map_err(|e| format!("{e:?}"))?, real)))
            })
            .collect()
    }

    fn compare_trees(&self) -> Result<(), String> {
        let compare = Compare {
            dir_links: !self.scope.skips("dir_links"),
            xattrs: !self.scope.skips("xattrs"),
            ..Compare::default()
        };
        let real = self.real.tree().map_err(|errno| format!("the tree cannot be read: {errno}"))?;
        let lines = diff(&self.model.fs.tree(), &real, compare);
        if lines.is_empty() {
            Ok(())
        } else {
            Err(format!("trees differ (model / real):\n{}", lines.join("\n")))
        }
    }

    fn name_of(&self, node: NodeId) -> String {
        let path = paths(&self.model.fs).into_iter().find(|(_, n)| *n == node);
        path.map_or_else(
            || format!("the unlinked {node:?}"),
            |(path, _)| String::from_utf8_lossy(&path).into_owned(),
        )
    }
}

fn mtime(attr: &Attr) -> Time {
    attr.mtime
}

/// The model's own promise: it fails if and only if an error is allowed, and with an allowed one.
fn check_allowed(outcome: &Outcome, allowed: &[Error]) -> Result<(), String> {
    let kept = match outcome.error() {
        Some(error) => allowed.contains(&error),
        None => allowed.is_empty(),
    };
    if kept {
        Ok(())
    } else {
        Err(format!("the model gives {} but allows {allowed:?}", show(outcome)))
    }
}

fn same<T: PartialEq + fmt::Debug>(what: &str, model: T, real: T) -> Result<(), String> {
    if model == real { Ok(()) } else { Err(format!("{what} should be {model:?} and is {real:?}")) }
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Bytes(bytes) if bytes.len() > 80 => {
            format!("{} bytes from {:?}", bytes.len(), &bytes[..8])
        }
        _ => format!("{outcome:?}"),
    }
}

impl Tally {
    pub(crate) fn add(&mut self, part: &Self) {
        self.calls += part.calls;
        self.succeeded += part.succeeded;
        self.attributes += part.attributes;
        for (error, count) in &part.errors {
            *self.errors.entry(*error).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, succeeded, errors, attributes } = self;
        write!(
            f,
            "{calls} calls, {succeeded} succeeded, {attributes} attributes compared; errors {errors:?}"
        )
    }
}
