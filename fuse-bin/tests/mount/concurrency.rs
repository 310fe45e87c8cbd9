//! Many threads at once.

use crate::harness::{Mounted, names, pattern};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Barrier;
use std::thread;

// [S-APPEND-2]
#[test]
fn lines_appended_by_many_threads_are_all_there_and_whole() {
    const WRITERS: usize = 8;
    const LINES: usize = 500;
    let Some(mut m) = Mounted::new() else { return };
    let path = m.path("log");
    File::create(&path).expect("create");
    let line = |writer: usize, n: usize| format!("{writer} {n} {}\n", "x".repeat(n % 180));
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let path = &path;
            scope.spawn(move || {
                let mut file = File::options().append(true).open(path).expect("open");
                for n in 0..LINES {
                    file.write_all(line(writer, n).as_bytes()).expect("append");
                }
            });
        }
    });
    for _ in 0..2 {
        let text = fs::read_to_string(&path).expect("read");
        let lines: BTreeSet<&str> = text.split_inclusive('\n').collect();
        assert_eq!(text.lines().count(), WRITERS * LINES);
        for writer in 0..WRITERS {
            for n in 0..LINES {
                assert!(
                    lines.contains(line(writer, n).as_str()),
                    "line {n} of writer {writer} is lost or torn"
                );
            }
        }
        m.remount();
    }
}

#[test]
fn one_of_many_exclusive_creators_wins() {
    const RACERS: usize = 8;
    let Some(m) = Mounted::new() else { return };
    for round in 0..50 {
        let path = m.path(format!("prize-{round}"));
        let start = Barrier::new(RACERS);
        let winners: usize = thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        usize::from(File::create_new(&path).is_ok())
                    })
                })
                .collect();
            racers.into_iter().map(|r| r.join().expect("no panic")).sum()
        });
        assert_eq!(winners, 1);
    }
}

#[test]
fn directories_changed_by_many_threads_are_exact_afterwards() {
    const WORKERS: usize = 4;
    let Some(mut m) = Mounted::new() else { return };
    for d in 0..3 {
        fs::create_dir(m.path(format!("d{d}"))).expect("mkdir");
    }
    thread::scope(|scope| {
        for w in 0..WORKERS {
            let m = &m;
            scope.spawn(move || {
                for n in 0..150 {
                    let (from, to) = (
                        m.path(format!("d{}/{w}-{n}", n % 3)),
                        m.path(format!("d{}/{w}-{n}", (n + 1) % 3)),
                    );
                    fs::create_dir(&from).expect("mkdir");
                    fs::write(from.join("f"), format!("{w} {n}")).expect("write");
                    fs::rename(&from, &to).expect("rename");
                    if n % 2 == 0 {
                        fs::remove_file(to.join("f")).expect("unlink");
                        fs::remove_dir(&to).expect("rmdir");
                    }
                }
            });
        }
    });
    for _ in 0..2 {
        for d in 0..3 {
            let dir = m.path(format!("d{d}"));
            let expected: BTreeSet<String> = (0..WORKERS)
                .flat_map(|w| (0..150).map(move |n| (w, n)))
                .filter(|(_, n)| n % 2 == 1 && (n + 1) % 3 == d)
                .map(|(w, n)| format!("{w}-{n}"))
                .collect();
            assert_eq!(names(&dir), expected.iter().cloned().collect::<Vec<_>>());
            assert_eq!(fs::metadata(&dir).expect("stat").nlink(), 2 + expected.len() as u64);
        }
        m.remount();
    }
}

// [S-WRITE-3]
#[test]
fn writers_of_disjoint_ranges_do_not_disturb_each_other() {
    const WRITERS: u64 = 4;
    const BLOCK: usize = 10_007;
    let Some(mut m) = Mounted::new() else { return };
    let path = m.path("f");
    File::create(&path).expect("create");
    thread::scope(|scope| {
        for w in 0..WRITERS {
            let path = &path;
            scope.spawn(move || {
                let file = File::options().write(true).open(path).expect("open");
                for n in (w..200).step_by(WRITERS as usize) {
                    let offset = n * BLOCK as u64;
                    file.write_all_at(&pattern(w, offset, BLOCK), offset).expect("write");
                    if n % 16 == 0 {
                        file.sync_data().expect("fdatasync");
                    }
                }
            });
        }
    });
    for _ in 0..2 {
        let file = File::open(&path).expect("open");
        for n in 0..200 {
            let mut block = vec![0; BLOCK];
            let offset = n * BLOCK as u64;
            file.read_exact_at(&mut block, offset).expect("read");
            assert!(block == pattern(n % WRITERS, offset, BLOCK), "block {n} differs");
        }
        drop(file);
        m.remount();
    }
}
