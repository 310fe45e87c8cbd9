//! Repairs: each planted damage is made good as its rule's class says, and nothing else is touched.

use super::*;
use vellum_core::check::rule::{Class, class};
use vellum_core::error::FsError;
use vellum_core::port::control::{Answer, CheckOptions, RepairReport};

impl Volume {
    /// Under a machine that only looks, as `vellum fsck` starts it.
    fn read_only() -> Volume {
        let mut v = Volume::new();
        v.w.remount_with(|config| config.read_only = true);
        v
    }

    fn repair(&mut self) -> RepairReport {
        repair(&mut self.w)
    }
}

fn repair(w: &mut World) -> RepairReport {
    match w.control(Control::Repair(CheckOptions { data: true, settled: false })) {
        Answer::Repaired(report) => report,
        other => panic!("{other:?}"),
    }
}

// [S-FSCK-2]
#[test]
fn each_damage_is_repaired_or_left_alone_as_its_class_says() {
    let mut outcomes: BTreeSet<(&str, bool)> = BTreeSet::new();
    for (n, (rule, plant)) in DAMAGE.iter().enumerate() {
        let mut v = Volume::read_only();
        plant(&mut v);
        let damaged = v.w.kv.clone();
        let report = v.repair();
        let whole = report.left.problems.is_empty();
        let context = format!("damage {n}, {rule}: {report:#?}");
        assert_eq!(report.left, v.w.check(), "what is left is what a check finds; {context}");
        match (class(rule), whole) {
            (Class::Repaired, true) | (Class::Sometimes, true) => {
                assert!(report.repaired.iter().any(|r| r.rule == *rule), "{context}");
            }
            (Class::Left, false) | (Class::Sometimes, false) => {
                assert!(report.left.problems.iter().all(|p| p.rule == *rule), "{context}");
                assert_eq!(report.repaired, [], "{context}");
                assert!(v.w.kv == damaged, "it was touched; {context}");
            }
            _ => panic!("{context}"),
        }
        outcomes.insert((rule, whole));
        assert_eq!(v.repair().repaired, [], "a second repair finds nothing to do; {context}");
        assert!(v.w.durable >= v.w.version || !whole, "repairs are durable; {context}");
    }
    for rule in rule::ALL.iter().filter(|rule| class(rule) == Class::Sometimes) {
        assert!(outcomes.contains(&(rule, true)), "{rule} is never repaired");
        assert!(outcomes.contains(&(rule, false)), "{rule} is always repaired");
    }
}

// [S-FSCK-2]
#[test]
fn a_file_that_lost_its_name_is_in_lost_and_found_with_its_bytes() {
    let mut v = Volume::read_only();
    let entry = v.home(v.big);
    v.take(&entry);
    let report = v.repair();
    assert_eq!(report.left.problems, [], "{report:#?}");
    v.w.remount_with(|config| config.read_only = false);
    let lost = v.w.lookup(Ino::ROOT, "lost+found").expect("lookup").expect("it is there").ino;
    let names = v.w.list(lost, 4096).expect("list");
    let name = format!("#{}", v.big);
    assert!(names.iter().any(|(n, ino)| *n == name && *ino == v.big), "{names:?}");
    let file = v.w.open(v.big).expect("open");
    assert_eq!(v.w.read_at(file, 0, 80_000).expect("read"), vec![b'x'; 70_000]);
}

// [S-FSCK-2]
#[test]
fn a_lost_directory_keeps_the_names_of_its_files() {
    for root in [false, true] {
        let mut v = Volume::read_only();
        let lost = if root { Ino::ROOT } else { v.dir };
        v.take(&key::inode(lost, tag::CORE));
        let report = v.repair();
        assert_eq!(report.left.problems, [], "{report:#?}");
        v.w.remount_with(|config| config.read_only = false);
        let dir = v.w.lookup(Ino::ROOT, "dir").expect("lookup").expect("it is there").ino;
        assert_eq!(dir, v.dir);
        let small = v.w.lookup(dir, "small").expect("lookup").expect("it is there").ino;
        assert_eq!(small, v.small);
    }
}

// [S-FSCK-2]
#[test]
fn several_damages_at_once_are_repaired() {
    let mut v = Volume::read_only();
    v.add(key::usage(), 7, -99);
    v.add(key::inode(v.dir, tag::CHILDREN), 3, 1);
    v.edit_core(v.linked, |core| core.nlink = 9);
    v.set(key::garbage(v.big, WHOLE), "");
    v.take(&key::inode(v.sub, tag::PARENT));
    let entry = v.home(v.carried);
    v.take(&entry);
    v.add_entry(v.dir, dentry(Ino(0x99), S_IFREG, "ghost"), 0);
    let report = v.repair();
    assert_eq!(report.left.problems, [], "{report:#?}");
    assert!(report.repaired.len() >= 7, "{report:#?}");
    v.w.remount_with(|config| config.read_only = false);
    v.w.wait(5_000_000_000);
    assert_eq!(v.w.check().problems, [], "and reclaim gets along with it");
}

#[test]
fn a_machine_that_serves_writers_does_not_repair() {
    let mut v = Volume::new();
    v.add(key::usage(), 7, 0);
    let answer = v.w.control(Control::Repair(CheckOptions::default()));
    assert!(matches!(answer, Answer::Failed(FsError::Invalid)), "{answer:?}");
    assert_eq!(v.w.check().problems.len(), 1);
}

/// Whatever the damage is, a repair ends, a second one has nothing to do, and files that nothing happened
/// to keep their bytes.
#[test]
fn repairs_of_random_damage_come_to_rest() {
    let clean = Volume::read_only();
    let mut x = 0x1234_5678_9abc_def1u64;
    let mut random = |n: usize| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 33) as usize % n
    };
    let keys: Vec<&Vec<u8>> = clean.w.kv.keys().collect();
    let mut w = World::new();
    w.remount_with(|config| config.read_only = true);
    let (mut found, mut healed) = (0, 0);
    for n in 0..5_000 {
        w.kv.clone_from(&clean.w.kv);
        w.pages.clone_from(&clean.w.pages);
        w.version = clean.w.version;
        w.writes.clear();
        for _ in 0..=random(3) {
            damage(&mut w, keys[random(keys.len())], &mut random);
        }
        let before = w.check().problems;
        let report = repair(&mut w);
        let again = repair(&mut w);
        assert_eq!(again.repaired, [], "run {n}: {report:#?}");
        assert_eq!(again.left, report.left, "run {n}");
        assert!(!before.is_empty() || report.repaired.is_empty(), "run {n}: {report:#?}");
        found += usize::from(!before.is_empty());
        healed += usize::from(!before.is_empty() && report.left.problems.is_empty());
    }
    assert!(healed * 3 > found, "{healed} of {found} were healed");
}
