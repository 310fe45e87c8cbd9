//! Mount options, sizes and durations: any text is parsed or refused with a sentence, and means one thing.

use std::time::Duration;
use vellum::cli::options::Options;
use vellum::cli::units::{parse_duration, parse_size};
use vellum_core::client::ClientConfig;
use vellum_core::id::SessionId;
use vellum_core::limits::WRITE_BUFFER_MAX;

/// Takes `input` for lists of options, one on each line, and each word for a size and a duration.
pub fn fuzz_one(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let lists: Vec<String> = text.lines().map(str::to_owned).collect();
    check_options(&lists);
    for word in text.split(['\n', ',', '=']) {
        check_size(word);
        check_duration(word);
    }
}

/// Every option, and numbers of every form.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let texts = [
        "ro,noatime,allow_other,nosuid,nodev,noexec,auto_unmount",
        "rw,relatime,atime,noallow_other,suid,dev,exec,noauto_unmount,async,defaults",
        "capacity=10G,inodes=100,dirty_max=64MiB,read_ahead=128KB\nthreads=8",
        "attr-timeout=1.5s,entry_timeout=250ms,negative_timeout=2m\nflush_after=1h,sync_after=1d",
        "capacity=none,inodes=none",
        r"threads=8\,9,noatme",
        "1.5M\n16TB\n.5G\n20E\n0.0000000001E\n17B\n2 MiB",
        "10us\n99999999999h\n1min\n0.5",
    ];
    texts
        .iter()
        .zip('a'..)
        .map(|(text, n)| (format!("text_{n}"), text.as_bytes().to_vec()))
        .collect()
}

fn check_options(lists: &[String]) {
    let parsed = match Options::parse(lists) {
        Ok(parsed) => parsed,
        Err(failure) => return assert!(!failure.text.is_empty()),
    };
    let twice = [lists, lists].concat();
    assert_eq!(Options::parse(&twice).expect("valid"), parsed, "the later one wins");
    let joined = [lists.join(",")];
    assert_eq!(
        Options::parse(&joined).expect("valid"),
        parsed,
        "lists and repetition are the same"
    );
    let mut config = ClientConfig::sole(SessionId(1), 1);
    parsed.apply(&mut config);
    assert!(config.dirty_max >= WRITE_BUFFER_MAX);
    let last_of = |on: &str, off: &str| {
        let mut items = lists.iter().flat_map(|list| list.split(',')).map(str::trim);
        items.rfind(|item| [on, off].contains(item)).map(|item| item == on)
    };
    let escaped = lists.iter().any(|list| list.contains('\\'));
    assert!(escaped || config.read_only == last_of("ro", "rw").unwrap_or(false));
}

/// Digits and fraction digits of `1.5MiB`, and the unit.
fn take_apart(text: &str) -> Option<(u128, u128, u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (whole, fraction) = text[..end].split_once('.').unwrap_or((&text[..end], ""));
    // What an exact reckoning can hold.
    if whole.len() > 18
        || fraction.len() > 18
        || fraction.contains('.')
        || end == 0
        || &text[..end] == "."
    {
        return None;
    }
    let number = |digits: &str| digits.parse().unwrap_or(0);
    Some((number(whole), number(fraction), fraction.len() as u32, text[end..].trim_start()))
}

/// The number times the scale, cut to a whole one.
fn exact((whole, fraction, digits, _): (u128, u128, u32, &str), scale: u64) -> Option<u64> {
    let scale = u128::from(scale);
    u64::try_from(whole * scale + fraction * scale / 10u128.pow(digits)).ok()
}

fn check_size(text: &str) {
    const UNITS: [&str; 6] = ["k", "m", "g", "t", "p", "e"];
    let parsed = parse_size(text);
    let Some(parts) = take_apart(text) else {
        return assert!(parsed.is_ok() || parsed.is_err_and(|why| why.contains("no size")));
    };
    let unit = parts.3.to_ascii_lowercase();
    let scale = UNITS.iter().zip(1u32..).find_map(|(name, power)| match unit.strip_prefix(name) {
        Some("" | "ib") => 1024u64.checked_pow(power),
        Some("b") => 1000u64.checked_pow(power),
        _ => None,
    });
    let scale = if matches!(&unit[..], "" | "b") { Some(1) } else { scale };
    assert_eq!(parsed.ok(), scale.and_then(|scale| exact(parts, scale)), "{text}");
}

fn check_duration(text: &str) {
    let parsed = parse_duration(text);
    let Some(parts) = take_apart(text) else {
        return assert!(parsed.is_ok() || parsed.is_err_and(|why| why.contains("no duration")));
    };
    let second = 1_000_000_000;
    let scale = match parts.3 {
        "us" => Some(1_000),
        "ms" => Some(1_000_000),
        "" | "s" => Some(second),
        "m" | "min" => Some(60 * second),
        "h" => Some(3_600 * second),
        "d" => Some(86_400 * second),
        _ => None,
    };
    let meant = scale.and_then(|scale| exact(parts, scale)).map(Duration::from_nanos);
    assert_eq!(parsed.ok(), meant, "{text}");
}
