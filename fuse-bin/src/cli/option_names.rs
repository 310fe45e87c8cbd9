//! The mount options by name, for the manual, for suggestions, and for nothing else.

/// Name, what its value looks like, what it does.
pub(super) const OPTIONS: &[(&str, &str, &str)] = &[
    ("ro", "", "Refuse every change"),
    ("rw", "", "Allow changes (the default)"),
    ("noatime", "", "Keep no access times"),
    ("relatime", "", "Move access times as Linux' relatime does (the default)"),
    ("atime", "", "The same as relatime"),
    ("allow_other", "", "Let other users in (the default for root)"),
    ("noallow_other", "", "Let nobody else in"),
    ("suid", "", "Set-id bits of programs count (the default for root)"),
    ("nosuid", "", "They do not"),
    ("dev", "", "Device nodes can be opened (the default for root)"),
    ("nodev", "", "They cannot"),
    ("exec", "", "Programs can be run (the default)"),
    ("noexec", "", "They cannot"),
    ("auto_unmount", "", "Unmount when the daemon is gone, however it ended"),
    ("noauto_unmount", "", "Leave the mount, which then answers ENOTCONN (the default)"),
    (
        "capacity",
        "SIZE",
        "Most bytes that the volume may hold on this mount; `none` lifts its own limit",
    ),
    ("inodes", "NUMBER", "Most inodes that it may hold on this mount; `none` lifts its own limit"),
    ("dirty_max", "SIZE", "Memory for writes that are not stored yet (256M; at least 16M)"),
    ("flush_after", "DURATION", "Age at which buffered writes are stored without being asked (1s)"),
    (
        "sync_after",
        "DURATION",
        "Age at which what is stored is made durable without being asked (1s)",
    ),
    (
        "attr_timeout",
        "DURATION",
        "How long the kernel may trust attributes (a year: the mount is the only one)",
    ),
    ("entry_timeout", "DURATION", "How long it may trust names (likewise)"),
    ("negative_timeout", "DURATION", "How long it may trust that a name does not exist (likewise)"),
    ("read_ahead", "SIZE", "What the kernel reads ahead"),
    (
        "threads",
        "NUMBER",
        "Threads that keep the CPUs busy, 2 to 256 (one for each CPU); two more may wait for the disk",
    ),
    ("compaction", "", "Fold write logs in the background (the default)"),
    ("nocompaction", "", "Fold them only when `vellum compact` or `vellum gc` asks for it"),
    (
        "compaction.write_log_count",
        "NUMBER",
        "Entries in the write log of a region of 64 MiB that make it be folded (2147483647: never)",
    ),
    (
        "compaction.space_amplification_percent",
        "NUMBER",
        "Bytes written over, in percent of those visible, that make a region be folded (50)",
    ),
    ("compaction.min_file_size", "SIZE", "From which file size on that counts (64M)"),
    ("async", "", "Nothing; for fstab"),
    ("defaults", "", "Nothing; for fstab"),
];

/// Whether there is an option of this name.
pub(super) fn is_known(name: &str) -> bool {
    OPTIONS.iter().any(|(known, ..)| *known == name)
}

/// The option that was probably meant.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    OPTIONS
        .iter()
        .map(|(known, ..)| (strsim::jaro_winkler(known, name), *known))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// All names, in a line.
pub(super) fn list() -> String {
    let names: Vec<_> = OPTIONS.iter().map(|(name, ..)| *name).collect();
    names.join(", ")
}

/// What `vellum mount --help` and the manual say about them.
pub(super) fn help() -> String {
    let mut text = String::from("Mount options (-o):\n");
    for (name, value, what) in OPTIONS {
        let name = if value.is_empty() { (*name).to_owned() } else { format!("{name}={value}") };
        text.push_str(&format!("  {name:<28} {what}\n"));
    }
    text.push_str(
        "\nA SIZE is bytes, or has a unit: K, M, G, T (powers of 1024). A DURATION is seconds, or has a \
         unit: ms, s, m, h.\n",
    );
    text
}
