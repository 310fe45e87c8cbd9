//! The model against Linux: the same random system calls on the model and on a real directory, with
//! every outcome, every attribute after every call, and the whole tree at the end compared.
//!
//! Runs as root, since the model knows no permission checks; otherwise it says so and does nothing.
//!
//! Environment:
//! - `VELLUM_MODEL_DIR`: the directory to work in (default `/dev/shm`, else the temporary directory).
//! - `VELLUM_MODEL_SEEDS`, `VELLUM_MODEL_OPS`: how many runs, and calls per run (default 20, 2000).
//! - `VELLUM_MODEL_SEED`: only this seed.
//! - `VELLUM_MODEL_SKIP`: what not to compare, comma-separated: `atime`, `errno` (any allowed error will
//!   do instead of the one Linux gives), `dir_links`, `xattrs`, `allocate`, `copy`, `seek`, `special`.

mod compare;
mod differences;
mod generate;
mod real;
mod times;

use std::path::PathBuf;

use compare::{Failure, Scope, UMASK, run};
use generate::generate;
use vellum_model::{Caller, Op, Quirk};

#[test]
fn linux_agrees_with_the_model() {
    let Some(scope) = scope(Caller::Privileged) else { return };
    compare_runs(&scope, number("VELLUM_MODEL_SEEDS", 20));
}

#[test]
fn linux_agrees_with_the_model_when_writes_drop_set_id_bits() {
    let Some(scope) = scope(Caller::Unprivileged) else { return };
    // Capabilities and groups are the thread's own on Linux.
    let worker = std::thread::spawn(move || {
        drop_fsetid().expect("root may drop a capability");
        compare_runs(&scope, number("VELLUM_MODEL_SEEDS", 20).div_ceil(4));
        catch(Quirk::WriteKeepsSetId, &scope);
    });
    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn compare_runs(scope: &Scope, runs: usize) {
    let ops = number("VELLUM_MODEL_OPS", 2000);
    let seeds = match std::env::var("VELLUM_MODEL_SEED") {
        Ok(_) => vec![number("VELLUM_MODEL_SEED", 0) as u64],
        Err(_) => (0..runs as u64).collect(),
    };
    println!("{} runs of {ops} calls in {}", seeds.len(), scope.dir.display());
    for difference in scope.flavor.differences() {
        println!("left out on {:?}: {}", scope.flavor, difference.how);
    }
    let mut tally = compare::Tally::default();
    for seed in seeds {
        let plan = generate(seed, ops, scope);
        match run(&plan, scope, None) {
            Ok(part) => tally.add(&part),
            Err(failure) => report(seed, ops, plan, failure, scope),
        }
    }
    println!("{tally}");
    assert!(
        tally.succeeded * 2 > tally.calls,
        "most calls should succeed, or little is compared: {tally}"
    );
}

#[test]
fn planted_bugs_are_caught_by_the_comparison() {
    let Some(scope) = scope(Caller::Privileged) else { return };
    catch(Quirk::LinkKeepsCtime, &scope);
    catch(Quirk::RenameForgetsParentLinks, &scope);
    catch(Quirk::TruncateKeepsTail, &scope);
    catch(Quirk::ExchangeReplaces, &scope);
    catch(Quirk::MkdirDropsSetGid, &scope);
    catch(Quirk::ChmodKeepsMask, &scope);
    catch(Quirk::MakeForgetsDefaultAcl, &scope);
    catch(Quirk::SetxattrKeepsCtime, &scope);
    catch(Quirk::WriteKeepsCapability, &scope);
}

/// Fails unless the comparison notices the bug, and shrinks it to a few calls.
fn catch(quirk: Quirk, scope: &Scope) {
    let caught = (0..20).find_map(|seed| {
        let plan = generate(seed, 1000, scope);
        run(&plan, scope, Some(quirk)).err().map(|failure| (seed, plan, failure))
    });
    let (seed, plan, failure) = caught.unwrap_or_else(|| panic!("{quirk:?} was not noticed"));
    let (plan, failure) = shrink(plan, failure, scope, Some(quirk));
    println!("{quirk:?}: seed {seed}, {} calls, {}", plan.len(), failure.what);
    assert!(plan.len() <= 20, "{quirk:?} shrank to only {} calls", plan.len());
}

fn report(seed: u64, ops: usize, plan: Vec<Op>, failure: Failure, scope: &Scope) {
    println!("seed {seed}: call {} of {}: {}", failure.at, plan.len(), failure.what);
    let (plan, failure) = shrink(plan, failure, scope, None);
    println!("shrunk to {} calls:", plan.len());
    plan.iter().for_each(|op| println!("    {op:?}"));
    println!("{}", failure.what);
    println!(
        "again: VELLUM_MODEL_SEED={seed} VELLUM_MODEL_OPS={ops} cargo test -p vellum-model --test linux"
    );
    panic!("the model and {} differ: {}", scope.dir.display(), failure.what);
}

/// Drops calls, in ever smaller pieces, as long as something still differs.
fn shrink(
    mut plan: Vec<Op>,
    mut failure: Failure,
    scope: &Scope,
    quirk: Option<Quirk>,
) -> (Vec<Op>, Failure) {
    plan.truncate(failure.at + 1);
    let mut piece = plan.len().div_ceil(2);
    loop {
        let mut start = 0;
        let before = plan.len();
        while start < plan.len() {
            let mut fewer = plan.clone();
            fewer.drain(start..(start + piece).min(plan.len()));
            match run(&fewer, scope, quirk) {
                Err(found) => {
                    fewer.truncate(found.at + 1);
                    (plan, failure) = (fewer, found);
                }
                Ok(_) => start += piece,
            }
        }
        if piece == 1 && plan.len() == before {
            return (plan, failure);
        }
        piece = (piece / 2).max(1);
    }
}

/// Drops `CAP_FSETID`, and joins every group that files are given: a member of the file's group keeps
/// set-group-ID where the group may not execute, as the model has it for all.
fn drop_fsetid() -> rustix::io::Result<()> {
    let groups: Vec<_> = generate::OWNERS.into_iter().map(rustix::fs::Gid::from_raw).collect();
    rustix::thread::set_thread_groups(&groups)?;
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective.remove(rustix::thread::CapabilitySet::FSETID);
    rustix::thread::set_capabilities(None, sets)
}

fn scope(caller: Caller) -> Option<Scope> {
    if !rustix::process::geteuid().is_root() {
        println!("not root: nothing compared");
        return None;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(UMASK.into()));
    let dir = std::env::var_os("VELLUM_MODEL_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let shm = PathBuf::from("/dev/shm");
        if shm.is_dir() { shm } else { std::env::temp_dir() }
    });
    Some(Scope::new(dir, caller, &std::env::var("VELLUM_MODEL_SKIP").unwrap_or_default()))
}

fn number(name: &str, otherwise: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => otherwise,
    }
}
