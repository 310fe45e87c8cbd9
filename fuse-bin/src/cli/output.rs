//! What verbs print: one JSON object, or text for people.

use super::Global;
use serde::Serialize;

/// Version of the JSON that verbs print. Fields are added, never changed or removed.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// A verb's result with the version in front.
#[derive(Serialize)]
struct Versioned<'a, T> {
    schema_version: u32,
    #[serde(flatten)]
    body: &'a T,
}

/// Prints a result: JSON if asked for, else the text; nothing when quiet and not JSON.
pub(super) fn print<T: Serialize>(global: &Global, body: &T, text: impl FnOnce(&T) -> String) {
    use std::io::Write;
    let line = if global.json {
        match serde_json::to_string(&Versioned { schema_version: SCHEMA_VERSION, body }) {
            Ok(line) => line,
            Err(error) => return eprintln!("vellum: {error}"),
        }
    } else if global.quiet {
        return;
    } else {
        text(body)
    };
    // Whoever reads may have gone away.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Bytes as IEC, such as `1.5 MiB`.
pub(super) fn iec(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::iec;

    #[test]
    fn sizes_are_printed_as_iec() {
        assert_eq!(iec(0), "0 B");
        assert_eq!(iec(1023), "1023 B");
        assert_eq!(iec(1536), "1.5 KiB");
        assert_eq!(iec(u64::MAX), "16.0 EiB");
    }
}
