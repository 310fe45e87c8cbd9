//! All interleavings of a few operations: some are run here, so that the search stays right, and planted
//! bugs must be found by it.

use vellum_core::canary::Canary;
use vellum_sim::exhaustive::acts::{ACTS, Act, TRIPLES};
use vellum_sim::exhaustive::{Searched, Setting, replay, search};

fn acts(names: &[&str]) -> Vec<Act> {
    names.iter().map(|name| Act::named(name).unwrap_or_else(|| panic!("{name}?"))).collect()
}

fn check(setting: &Setting, names: &[&str], limit: u64) -> Searched {
    let searched = search(setting, &acts(names), limit);
    if let Some(found) = &searched.found {
        panic!("{names:?}, {}: {}: {}", found.choices, found.failure.rule, found.failure.text);
    }
    searched
}

#[test]
fn two_names_for_one_place_are_made_in_some_order() {
    let searched = check(&Setting::PLAIN, &["create -x d/a", "mkdir d/a"], u64::MAX);
    assert!(searched.schedules > 50 && !searched.cut_short, "{searched:?}");
}

#[test]
fn directories_never_move_below_each_other() {
    let searched = check(&Setting::PLAIN, &["rename d e/s/a", "rename e d/n/a"], 600);
    assert!(searched.schedules >= 100, "{searched:?}");
}

#[test]
fn a_conflict_or_an_unknown_commit_at_any_place_is_survived() {
    let searched = check(&Setting::FAULT, &["unlink d/f", "link e/g d/a"], 400);
    assert!(searched.schedules == 400, "{searched:?}");
}

#[test]
fn the_end_of_the_process_at_any_place_is_survived() {
    let searched = check(&Setting::KILL, &["rename d/f e/g", "chmod d/f"], 400);
    assert!(searched.schedules >= 50, "{searched:?}");
}

#[test]
fn a_fold_changes_no_content_whatever_comes_between() {
    for other in ["write e/b, fsync", "truncate e/b 2500", "truncate e/b 0", "punch e/b"] {
        let searched = check(&Setting::PLAIN, &["fold e/b", other], 300);
        assert!(searched.schedules >= 100, "{other}: {searched:?}");
    }
    check(&Setting::KILL, &["fold e/b", "write e/b, fsync"], 300);
}

#[test]
fn a_lost_conflict_is_found_and_found_again_by_its_choices() {
    let setting = Setting { canary: Some(Canary::LostConflict), ..Setting::PLAIN };
    let pair = acts(&["create -x d/a", "mkdir d/a"]);
    let found = search(&setting, &pair, u64::MAX).found.expect("it is found");
    let again = replay(&setting, &pair, &found.choices).expect_err("it fails again");
    assert_eq!(again.rule, found.failure.rule);
    assert!(replay(&Setting::PLAIN, &pair, &found.choices).is_ok(), "without the bug it does not");
}

#[test]
fn the_names_of_operations_are_unique_and_triples_know_them() {
    for (n, act) in ACTS.iter().enumerate() {
        assert!(ACTS[..n].iter().all(|other| other.name != act.name), "{}", act.name);
    }
    TRIPLES.iter().for_each(|names| assert_eq!(acts(names).len(), 3));
}
