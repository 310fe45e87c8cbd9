//! Mount options: `-o key,key=value`, repeated or in comma lists.

use super::units::{parse_duration, parse_size};
use super::{Exit, Failure, option_names};
use std::time::Duration;
use vellum_core::client::ClientConfig;
use vellum_core::data::fold::Policy;
use vellum_core::limits::WRITE_BUFFER_MAX;
use vellum_core::port::control::Limit;

/// What `-o` may say. `None` leaves the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub(super) read_only: bool,
    pub(super) noatime: bool,
    pub(super) allow_other: Option<bool>,
    pub(super) suid: bool,
    pub(super) dev: bool,
    pub(super) exec: bool,
    pub(super) auto_unmount: bool,
    attr_timeout: Option<Duration>,
    entry_timeout: Option<Duration>,
    negative_timeout: Option<Duration>,
    limit: Limit,
    dirty_max: Option<u64>,
    flush_after: Option<Duration>,
    sync_after: Option<Duration>,
    pub(super) threads: Option<usize>,
    pub(super) read_ahead: Option<u64>,
    compaction: Policy,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            read_only: false,
            noatime: false,
            allow_other: None,
            suid: true,
            dev: true,
            exec: true,
            auto_unmount: false,
            attr_timeout: None,
            entry_timeout: None,
            negative_timeout: None,
            limit: Limit::default(),
            dirty_max: None,
            flush_after: None,
            sync_after: None,
            threads: None,
            read_ahead: None,
            compaction: Policy::default(),
        }
    }
}

impl Options {
    /// For looking only.
    pub fn read_only() -> Options {
        Options { read_only: true, ..Options::default() }
    }

    /// Parses the lists in order; a later option wins.
    ///
    /// # Errors
    /// Names the option; exit code 2.
    pub fn parse(lists: &[String]) -> Result<Options, Failure> {
        let mut options = Options::default();
        for item in lists.iter().flat_map(|list| split(list)) {
            if !item.is_empty() {
                options.set(&item).map_err(|text| Failure::new(Exit::Usage, text))?;
            }
        }
        Ok(options)
    }

    fn set(&mut self, item: &str) -> Result<(), String> {
        let (key, value) = match item.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (item, None),
        };
        let key = key.trim().replace('-', "_");
        match value {
            Some(value) => self.set_value(&key, value.trim()),
            None => self.set_flag(&key),
        }
        .map_err(|text| if text.is_empty() { complain(&key, value) } else { text })
    }

    /// An empty error stands for an unknown option.
    fn set_flag(&mut self, key: &str) -> Result<(), String> {
        match key {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "noatime" => self.noatime = true,
            "relatime" | "atime" => self.noatime = false,
            "allow_other" => self.allow_other = Some(true),
            "noallow_other" => self.allow_other = Some(false),
            "suid" => self.suid = true,
            "nosuid" => self.suid = false,
            "dev" => self.dev = true,
            "nodev" => self.dev = false,
            "exec" => self.exec = true,
            "noexec" => self.exec = false,
            "auto_unmount" => self.auto_unmount = true,
            "noauto_unmount" => self.auto_unmount = false,
            "compaction" => self.compaction.enabled = true,
            "nocompaction" => self.compaction.enabled = false,
            "async" | "defaults" => {}
            _ => return Err(String::new()),
        }
        Ok(())
    }

    fn set_value(&mut self, key: &str, value: &str) -> Result<(), String> {
        let with_key = |text: String| format!("-o {key}: {text}");
        let duration = || parse_duration(value).map(Some).map_err(with_key);
        let size = || parse_size(value).map_err(with_key);
        match key {
            "attr_timeout" => self.attr_timeout = duration()?,
            "entry_timeout" => self.entry_timeout = duration()?,
            "negative_timeout" => self.negative_timeout = duration()?,
            "flush_after" => self.flush_after = duration()?,
            "sync_after" => self.sync_after = duration()?,
            "capacity" => self.limit.bytes = Some(bound(value, parse_size).map_err(with_key)?),
            "inodes" => self.limit.inodes = Some(bound(value, parse_count).map_err(with_key)?),
            "read_ahead" => self.read_ahead = Some(size()?),
            "compaction.write_log_count" => {
                self.compaction.write_log_count = at_least_one(value).map_err(with_key)?;
            }
            "compaction.space_amplification_percent" => {
                self.compaction.space_amplification_percent =
                    at_least_one(value).map_err(with_key)?;
            }
            "compaction.min_file_size" => self.compaction.min_file_size = size()?,
            "dirty_max" => {
                let bytes = size()?;
                if bytes < WRITE_BUFFER_MAX {
                    return Err(with_key("must be at least 16M, one file's buffer".into()));
                }
                self.dirty_max = Some(bytes);
            }
            "threads" => match value.parse() {
                Ok(n @ 2..=256) => self.threads = Some(n),
                _ => return Err(with_key("a number from 2 to 256 is needed".into())),
            },
            _ => return Err(String::new()),
        }
        Ok(())
    }

    /// Writes what was said over the defaults.
    pub fn apply(&self, config: &mut ClientConfig) {
        fn over<T: Copy>(target: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *target = value;
            }
        }
        config.read_only = self.read_only;
        config.noatime = self.noatime;
        over(&mut config.attr_valid, self.attr_timeout);
        over(&mut config.entry_valid, self.entry_timeout);
        over(&mut config.negative_valid, self.negative_timeout);
        config.limit = self.limit;
        over(&mut config.dirty_max, self.dirty_max);
        over(&mut config.flush_after, self.flush_after);
        over(&mut config.sync_after, self.sync_after);
        config.compaction = self.compaction;
    }
}

/// A limit; `none` lifts the one that the volume has.
fn bound(value: &str, parse: impl Fn(&str) -> Result<u64, String>) -> Result<u64, String> {
    if value == "none" { Ok(u64::MAX) } else { parse(value) }
}

fn parse_count(value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("`{value}` is no number"))
}

fn at_least_one(value: &str) -> Result<u64, String> {
    match parse_count(value)? {
        0 => Err("must be at least 1".into()),
        n => Ok(n),
    }
}

/// Splits at commas; `\,` is a comma that belongs to a value.
fn split(list: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ',' => items.push(String::new()),
            '\\' if chars.peek() == Some(&',') => {
                chars.next();
                items.last_mut().expect("never empty").push(',');
            }
            c => items.last_mut().expect("never empty").push(c),
        }
    }
    items
}

fn complain(key: &str, value: Option<&str>) -> String {
    if option_names::is_known(key) {
        return match value {
            Some(_) => format!("-o {key} takes no value"),
            None => format!("-o {key} needs a value: -o {key}=..."),
        };
    }
    match option_names::nearest(key) {
        Some(name) => format!("unknown mount option `{key}`; did you mean `{name}`?"),
        None => format!("unknown mount option `{key}`; known ones are {}", option_names::list()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vellum_core::id::SessionId;

    fn parse(lists: &[&str]) -> Result<Options, String> {
        let lists: Vec<String> = lists.iter().map(ToString::to_string).collect();
        Options::parse(&lists).map_err(|failure| {
            assert_eq!(failure.exit, Exit::Usage);
            failure.text
        })
    }

    #[test]
    fn lists_and_repetition_are_the_same_and_the_later_wins() {
        let one = parse(&["ro,nosuid,attr-timeout=1.5,dirty_max=64M"]).expect("valid");
        let two =
            parse(&["rw,ro", "nosuid", "attr_timeout=1500ms", "dirty_max=64MiB,"]).expect("valid");
        assert_eq!(one, two);
        assert!(one.read_only && !one.suid && one.dev && one.exec);
    }

    #[test]
    fn what_was_said_reaches_the_machine_and_the_rest_keeps_its_default() {
        let mut config = ClientConfig::sole(SessionId(1), 1);
        let default = config.clone();
        parse(&["ro,noatime,sync_after=2s,dirty_max=1G"]).expect("valid").apply(&mut config);
        assert!(config.read_only && config.noatime);
        assert_eq!(config.sync_after, Duration::from_secs(2));
        assert_eq!(config.dirty_max, 1 << 30);
        assert_eq!(config.flush_after, default.flush_after);
        assert_eq!(config.attr_valid, default.attr_valid);
    }

    #[test]
    fn an_unknown_option_is_refused_with_a_suggestion() {
        assert!(parse(&["noatme"]).unwrap_err().contains("`noatime`"));
        assert!(parse(&["dirty_mx=1G"]).unwrap_err().contains("`dirty_max`"));
        assert!(parse(&["zzz"]).unwrap_err().contains("known ones"));
        assert!(parse(&["ro=1"]).unwrap_err().contains("takes no value"));
        assert!(parse(&["threads"]).unwrap_err().contains("needs a value"));
        assert!(parse(&["threads=1"]).unwrap_err().contains("2 to 256"));
        assert!(parse(&["dirty_max=1M"]).unwrap_err().contains("at least"));
        assert!(parse(&["flush_after=soon"]).unwrap_err().contains("soon"));
    }

    #[test]
    fn an_escaped_comma_belongs_to_the_value() {
        assert_eq!(split(r"a,b=c\,d,e\f"), ["a", "b=c,d", r"e\f"]);
    }

    #[test]
    fn every_option_of_the_manual_is_one_and_takes_the_value_that_it_says() {
        for (name, value, what) in option_names::OPTIONS {
            assert!(!what.is_empty() && option_names::help().contains(what));
            let example = match *value {
                "" => (*name).to_owned(),
                "SIZE" => format!("{name}=64M"),
                "DURATION" => format!("{name}=2s"),
                "NUMBER" => format!("{name}=8"),
                other => panic!("{name} takes {other}?"),
            };
            parse(&[&example]).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }
}
