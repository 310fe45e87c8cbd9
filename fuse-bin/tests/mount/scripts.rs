//! Six scripts a user would type to see that a filesystem is one; before and after a new mount.

use crate::harness::{Mounted, sh};

#[test]
fn a_file_written_by_one_process_is_read_by_another() {
    let Some(mut m) = Mounted::new() else { return };
    sh(&m, r#"mkdir -p "$MNT/test"; echo "hello posix write cache" > "$MNT/test/posix-test.txt""#);
    for _ in 0..2 {
        assert_eq!(sh(&m, r#"cat "$MNT/test/posix-test.txt""#), "hello posix write cache\n");
        m.remount();
    }
}

#[test]
fn an_overwrite_in_the_middle_is_read_back() {
    let Some(mut m) = Mounted::new() else { return };
    sh(
        &m,
        r#"mkdir -p "$MNT/test"; dd if=/dev/urandom of="$MNT/test/random.bin" bs=1M count=10 status=none"#,
    );
    sh(
        &m,
        r#"echo "overwritten" | dd of="$MNT/test/random.bin" bs=1 seek=4194304 conv=notrunc status=none"#,
    );
    for _ in 0..2 {
        let read = r#"dd if="$MNT/test/random.bin" bs=1 skip=4194304 count=11 status=none"#;
        assert_eq!(sh(&m, read), "overwritten");
        assert_eq!(sh(&m, r#"stat -c %s "$MNT/test/random.bin""#), "10485760\n");
        m.remount();
    }
}

#[test]
fn a_save_by_rename_replaces_the_file() {
    let Some(mut m) = Mounted::new() else { return };
    sh(
        &m,
        r#"mkdir -p "$MNT/test"; cd "$MNT/test"; echo "old" > config.yaml
           echo "atomic save" > config.yaml.tmp; mv config.yaml.tmp config.yaml"#,
    );
    for _ in 0..2 {
        assert_eq!(
            sh(&m, r#"cat "$MNT/test/config.yaml"; ls "$MNT/test""#),
            "atomic save\nconfig.yaml\n"
        );
        m.remount();
    }
}

#[test]
fn a_truncated_file_has_the_new_size() {
    let Some(mut m) = Mounted::new() else { return };
    sh(
        &m,
        r#"mkdir -p "$MNT/test"; printf "some content here\n" > "$MNT/test/t.txt"; truncate -s 4 "$MNT/test/t.txt""#,
    );
    for _ in 0..2 {
        assert_eq!(sh(&m, r#"wc -c < "$MNT/test/t.txt"; cat "$MNT/test/t.txt""#), "4\nsome");
        m.remount();
    }
}

#[test]
fn a_renamed_directory_keeps_what_is_below() {
    let Some(mut m) = Mounted::new() else { return };
    sh(
        &m,
        r#"mkdir -p "$MNT/test/dir-a/sub"; touch "$MNT/test/dir-a/sub/file.txt"
           mv "$MNT/test/dir-a" "$MNT/test/dir-b""#,
    );
    for _ in 0..2 {
        assert_eq!(sh(&m, r#"ls "$MNT/test/dir-b/sub/"; ls "$MNT/test""#), "file.txt\ndir-b\n");
        m.remount();
    }
}

#[test]
fn a_symlink_with_an_absolute_target_leads_there() {
    let Some(mut m) = Mounted::new() else { return };
    sh(
        &m,
        r#"mkdir -p "$MNT/test"; echo "link target" > "$MNT/test/original.txt"
           ln -s "$MNT/test/original.txt" "$MNT/test/link.txt""#,
    );
    let expected = format!("link target\n{}\n", m.path("test/original.txt").display());
    for _ in 0..2 {
        assert_eq!(sh(&m, r#"cat "$MNT/test/link.txt"; readlink "$MNT/test/link.txt""#), expected);
        m.remount();
    }
}
