//! Sizes and durations as people write them.

use std::time::Duration;

/// Bytes. `K M G T P` and `KiB MiB ..` are powers of 1024, `KB MB ..` powers of 1000.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let bad =
        || format!("`{text}` is no size; write a number with K, M, G, T, KiB, MB or the like");
    let (number, unit) = split(text).ok_or_else(bad)?;
    let unit = unit.to_ascii_lowercase();
    let power = match unit.bytes().next() {
        None => return whole(number, 1).ok_or_else(bad),
        Some(b'b') if unit == "b" => return whole(number, 1).ok_or_else(bad),
        Some(first) => match b"kmgtpe".iter().position(|u| *u == first) {
            Some(at) => at as u32 + 1,
            None => return Err(bad()),
        },
    };
    let base: u64 = match &unit[1..] {
        "" | "ib" => 1024,
        "b" => 1000,
        _ => return Err(bad()),
    };
    base.checked_pow(power).and_then(|scale| whole(number, scale)).ok_or_else(bad)
}

/// A span of time: a number with `us`, `ms`, `s`, `m`, `h` or `d`; seconds without a unit.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no duration; write a number with ms, s, m, h or d");
    let (number, unit) = split(text).ok_or_else(bad)?;
    let nanos: u64 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "" | "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return Err(bad()),
    };
    whole(number, nanos).map(Duration::from_nanos).ok_or_else(bad)
}

/// The number and the unit of `1.5MiB`; the number is not empty.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (!number.is_empty()).then(|| (number, unit.trim_start()))
}

/// `number` times `scale` without rounding errors; a fraction is cut to a whole result.
fn whole(number: &str, scale: u64) -> Option<u64> {
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (integer.is_empty() && fraction.is_empty()) {
        return None;
    }
    let integer: u64 = if integer.is_empty() { 0 } else { integer.parse().ok()? };
    let mut result = integer.checked_mul(scale)?;
    // Digit by digit from the last one on: cutting each step cuts the whole once.
    let part = fraction
        .bytes()
        .rev()
        .fold(0, |rest, digit| (u128::from(digit - b'0') * u128::from(scale) + rest) / 10);
    result = result.checked_add(u64::try_from(part).ok()?)?;
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let good = [
            ("0", 0),
            ("4096", 4096),
            ("17B", 17),
            ("1K", 1024),
            ("1k", 1024),
            ("128KiB", 128 << 10),
            ("128KB", 128_000),
            ("1.5M", 3 << 19),
            ("50G", 50 << 30),
            ("2 MiB", 2 << 20),
            ("16TB", 16_000_000_000_000),
            (".5G", 1 << 29),
            // A fraction counts to its last digit.
            ("0.0000000001E", 115_292_150),
            ("0.99999999999999999999G", (1 << 30) - 1),
        ];
        for (text, bytes) in good {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "1X", "1KiX", "-1", "1.2.3", ".", "99999999999999999999", "20E"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        let good = [
            ("0", Duration::ZERO),
            ("1", Duration::from_secs(1)),
            ("1.5", Duration::from_millis(1500)),
            ("250ms", Duration::from_millis(250)),
            ("10us", Duration::from_micros(10)),
            ("2m", Duration::from_secs(120)),
            ("24h", Duration::from_secs(86_400)),
            ("1d", Duration::from_secs(86_400)),
        ];
        for (text, time) in good {
            assert_eq!(parse_duration(text), Ok(time), "{text}");
        }
        for text in ["", "s", "1 fortnight", "-1s", "1.2.3s", "1000000000h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
