//! The control socket's lines: any line is a question or an answer or neither, and what was understood is
//! said back the same way.

use arbitrary::{Arbitrary, Result, Unstructured};
use serde::Serialize;
use serde::de::DeserializeOwned;
use vellum::ctl::wire::{
    Ask, Backend, Checked, Extent, Info, Problem, Progress, Status, Told, rfc3339,
};
use vellum_core::time::WallTime;

/// Reads `input` as a line, then sends an answer that it spells there and back.
pub fn fuzz_one(input: &[u8]) {
    check_line::<Ask>(input);
    check_line::<Told>(input);
    let mut spelled = Unstructured::new(input);
    if let Ok(told) = told(&mut spelled) {
        check_value(&told);
    }
    let mut spelled = Unstructured::new(input);
    if let (Ok(secs), Ok(nanos)) = (i64::arbitrary(&mut spelled), u32::arbitrary(&mut spelled)) {
        check_time(WallTime::new(secs, nanos));
    }
}

/// A line of each kind.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let asks = [Ask::Status, Ask::Info { ino: 7 }, Ask::Sync, Ask::Check { data: true }];
    let problem = Problem { rule: "nlink".into(), text: "2, not 3".into() };
    let extent = Extent {
        offset: 0,
        len: 4096,
        place: "segment".into(),
        segment: Some("00.1".into()),
        segment_offset: Some(8),
    };
    let status = Status { check: Some(Progress::default()), ..Status::default() };
    let tells = [
        Told::Status(Box::new(status)),
        Told::Info(Info { inline_bytes: Some(3), extents: vec![extent], ..Info::default() }),
        Told::Synced,
        Told::Checked(Box::new(Checked { problems: vec![problem], ..Checked::default() })),
        Told::Error { errno: 5, text: "no".into() },
    ];
    fn lines<T: Serialize>(name: &str, all: &[T]) -> Vec<(String, Vec<u8>)> {
        let line = |value| serde_json::to_vec(value).expect("plain data");
        all.iter().zip(0..).map(|(value, n)| (format!("{name}_{n}"), line(value))).collect()
    }
    [lines("ask", &asks), lines("told", &tells)].concat()
}

/// What is understood is understood again from what it is said as.
fn check_line<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(line: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(line) {
        let said = serde_json::to_string(&value).expect("plain data");
        assert!(!said.contains('\n'), "one line");
        let again: T = serde_json::from_str(&said).expect("our own line");
        assert_eq!(again, value);
    }
}

fn check_value(told: &Told) {
    let line = serde_json::to_string(told).expect("plain data");
    assert!(!line.contains('\n'), "one line");
    assert_eq!(&serde_json::from_str::<Told>(&line).expect("our own line"), told);
}

fn told(input: &mut Unstructured<'_>) -> Result<Told> {
    Ok(match u8::arbitrary(input)? % 4 {
        0 => Told::Error { errno: input.arbitrary()?, text: input.arbitrary()? },
        1 => {
            let extent = Extent {
                offset: input.arbitrary()?,
                len: input.arbitrary()?,
                place: input.arbitrary()?,
                segment: input.arbitrary()?,
                segment_offset: input.arbitrary()?,
            };
            let count = usize::from(u8::arbitrary(input)? % 4);
            Told::Info(Info {
                ino: input.arbitrary()?,
                inline_bytes: input.arbitrary()?,
                extents: vec![extent; count],
                ..Info::default()
            })
        }
        2 => {
            let problem = Problem { rule: input.arbitrary()?, text: input.arbitrary()? };
            let count = usize::from(u8::arbitrary(input)? % 4);
            Told::Checked(Box::new(Checked {
                clean: input.arbitrary()?,
                inodes: input.arbitrary()?,
                problems: vec![problem; count],
                ..Checked::default()
            }))
        }
        _ => Told::Status(Box::new(Status {
            volume: input.arbitrary()?,
            mountpoint: input.arbitrary()?,
            meta: Backend { backend: input.arbitrary()? },
            check: Some(Progress { stage: input.arbitrary()?, done: input.arbitrary()? }),
            served: input.arbitrary()?,
            ..Status::default()
        })),
    })
}

/// A time that a calendar has is written as one.
fn check_time(time: WallTime) {
    let text = rfc3339(time);
    let in_calendar = (-62_167_219_200..253_402_300_800).contains(&time.secs);
    assert_eq!(text.is_empty(), !in_calendar, "{time:?}");
    assert!(text.is_empty() || (text.ends_with('Z') && text.as_bytes()[4] == b'-'), "{text}");
}
