//! Extended attributes.

use crate::harness::{Expect, Mounted, fails, sh};
use rustix::fs::{
    XattrFlags, getxattr, lgetxattr, listxattr, llistxattr, lremovexattr, lsetxattr, removexattr,
    setxattr,
};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

fn set(path: &Path, name: &str, value: &[u8]) -> rustix::io::Result<()> {
    lsetxattr(path, name, value, XattrFlags::empty())
}

fn get(path: &Path, name: &str) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0; 1 << 16];
    let len = lgetxattr(path, name, &mut value)?;
    value.truncate(len);
    Ok(value)
}

/// Names, sorted, without the labels that a security module adds by itself.
fn list(path: &Path) -> Vec<String> {
    let mut list = vec![0; 1 << 16];
    let len = llistxattr(path, &mut list).expect("listxattr");
    let names = list[..len].split(|b| *b == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> =
        names.map(|name| String::from_utf8(name.to_vec()).expect("UTF-8")).collect();
    names.retain(|name| name != "security.selinux");
    names.sort();
    names
}

// [S-XATTR-1]
#[test]
fn attributes_of_every_namespace_read_back_from_everything() {
    let Some(mut m) = Mounted::new() else { return };
    let [file, dir, link, pipe] = ["f", "d", "s", "p"].map(|name| m.path(name));
    File::create(&file).expect("create");
    fs::create_dir(&dir).expect("mkdir");
    symlink("nowhere", &link).expect("symlink");
    Command::new("mkfifo").arg(&pipe).succeeds();
    for path in [&file, &dir, &link, &pipe] {
        set(path, "trusted.t", b"\0binary\xff").expect("trusted");
        set(path, "security.s", b"").expect("an empty value");
    }
    for path in [&file, &dir] {
        set(path, "user.u", b"1").expect("user");
        set(path, "user.u", b"2").expect("replaced");
    }
    for _ in 0..2 {
        for path in [&file, &dir, &link, &pipe] {
            assert_eq!(get(path, "trusted.t"), Ok(b"\0binary\xff".to_vec()));
            assert_eq!(get(path, "security.s"), Ok(Vec::new()));
            fails(get(path, "security.other"), Errno::NODATA);
        }
        assert_eq!(get(&file, "user.u"), Ok(b"2".to_vec()));
        assert_eq!(list(&dir), ["security.s", "trusted.t", "user.u"]);
        assert_eq!(list(&link), ["security.s", "trusted.t"]);
        m.remount();
    }
    lremovexattr(&link, "trusted.t").expect("remove");
    assert_eq!(list(&link), ["security.s"]);
    fails(lremovexattr(&link, "trusted.t"), Errno::NODATA);
    fails(set(&file, "system.other", b"1"), Errno::OPNOTSUPP);
    fails(set(&file, "nonsense", b"1"), Errno::OPNOTSUPP);
    fails(set(&link, "user.u", b"1"), Errno::PERM);
    fails(set(&pipe, "user.u", b"1"), Errno::PERM);
}

// [S-XATTR-2]
#[test]
fn create_and_replace_mean_what_they_say() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    File::create(&path).expect("create");
    fails(setxattr(&path, "user.a", b"1", XattrFlags::REPLACE), Errno::NODATA);
    setxattr(&path, "user.a", b"1", XattrFlags::CREATE).expect("create");
    fails(setxattr(&path, "user.a", b"2", XattrFlags::CREATE), Errno::EXIST);
    assert_eq!(get(&path, "user.a"), Ok(b"1".to_vec()));
    setxattr(&path, "user.a", b"2", XattrFlags::REPLACE).expect("replace");
    assert_eq!(get(&path, "user.a"), Ok(b"2".to_vec()));
}

// [S-XATTR-3]
#[test]
fn a_buffer_that_is_too_small_is_erange_and_none_asks_for_the_length() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    File::create(&path).expect("create");
    set(&path, "user.a", b"value").expect("set");
    fails(getxattr(&path, "user.a", &mut [0; 4]), Errno::RANGE);
    // These programs ask for the length first.
    assert_eq!(sh(&m, r#"getfattr --absolute-names --only-values -n user.a "$MNT/f""#), "value");
    assert!(sh(&m, r#"getfattr --absolute-names -m - "$MNT/f""#).contains("user.a"));
    fails(listxattr(&path, &mut [0; 3]), Errno::RANGE);
    set(&path, "trusted.hidden", b"1").expect("set");
    let listing = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"])
        .args(["getfattr", "-m", "-", "--absolute-names"])
        .arg(&path)
        .succeeds();
    assert!(listing.contains("user.a") && !listing.contains("trusted"), "{listing}");
}

// [S-XATTR-4]
#[test]
fn names_values_and_all_of_them_together_have_bounds() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    let path = m.path("f");
    File::create(&path).expect("create");
    let long = |n: usize| format!("user.{}", "x".repeat(n - 5));
    set(&path, &long(255), b"1").expect("the longest name");
    fails(set(&path, &long(256), b"1"), Errno::RANGE);
    let value: Vec<u8> = (0..1u32 << 16).map(|n| (n % 251) as u8).collect();
    set(&path, "user.large", &value).expect("the largest value");
    assert_eq!(get(&path, "user.large"), Ok(value.clone()));
    fails(set(&path, "user.large", &[&value[..], b"1"].concat()), Errno::TOOBIG);
    for n in 0..14 {
        set(&path, &format!("user.{n}"), &value).expect("a mebibyte in all");
    }
    fails(set(&path, "user.more", &value), Errno::NOSPC);
    set(&path, "user.more", &value[1..]).expect("a mebibyte in all");
    assert_eq!(get(&path, "user.large"), Ok(value));

    let full = m.path("g");
    File::create(&full).expect("create");
    for n in 0..256 {
        let name = format!("user.{n:03}{}", "x".repeat(247));
        set(&full, &name, b"").expect("a list of 64 KiB");
    }
    fails(set(&full, "user.more", b""), Errno::NOSPC);
    assert_eq!(list(&full).len(), 256);
    m.unmount();
    m.volume().is_sound();
}

// [S-XATTR-5]
#[test]
fn changing_an_attribute_moves_ctime_and_nothing_else() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    fs::write(&path, "x").expect("write");
    let times = || {
        let meta = fs::metadata(&path).expect("stat");
        let pair = |secs, nanos| (secs, nanos);
        (
            pair(meta.ctime(), meta.ctime_nsec()),
            [pair(meta.mtime(), meta.mtime_nsec()), pair(meta.atime(), meta.atime_nsec())],
        )
    };
    let (mut before, others) = times();
    let mut moved = |what: &str| {
        let (ctime, rest) = times();
        assert!(ctime > before, "{what} does not move ctime");
        assert_eq!(rest, others, "{what} moves another time");
        before = ctime;
        sleep(Duration::from_millis(20));
    };
    sleep(Duration::from_millis(20));
    set(&path, "user.a", b"1").expect("set");
    moved("setxattr");
    set(&path, "user.a", b"2").expect("set");
    moved("replacing");
    removexattr(&path, "user.a").expect("remove");
    moved("removexattr");
}

// [S-XATTR-6]
#[test]
fn attributes_survive_a_crash_with_their_file() {
    let Some(mut m) = Mounted::by_daemon() else { return };
    let path = m.path("f");
    let file = File::create(&path).expect("create");
    set(&path, "user.a", &[7; 20_000]).expect("set");
    file.sync_all().expect("fsync");
    drop(file);
    m.kill();
    m.mount_again();
    assert_eq!(get(&m.path("f"), "user.a"), Ok(vec![7; 20_000]));
    fs::remove_file(m.path("f")).expect("unlink");
    m.unmount();
    m.volume().is_sound();
}

// [S-XATTR-1] [S-ACL-1]
#[test]
fn archives_and_copies_bring_attributes_and_acls_along() {
    let Some(m) = Mounted::new() else { return };
    sh(
        &m,
        r#"
        cd "$MNT"; mkdir -p tree/sub; umask 027
        echo file > tree/f; echo "set" > tree/sub/g; ln tree/f tree/second; ln -s f tree/link
        setfattr -n user.note -v "some text" tree/f
        setfattr -n user.binary -v 0x00ff00 tree/sub
        setfattr -n trusted.t -v root tree/sub/g
        setfacl -m u:1234:rw,g:5678:r tree/f
        setfacl -m d:u:1234:rwx,d:g::rx tree/sub
        chmod 4750 tree/sub/g; chown 12:34 tree/second
        facts() { (cd "$1" && getfattr -R -h -d -m - . | sort && getfacl -R -n . &&
            find . -type f -printf '%p %m %U %G %s %T@\n' | sort &&
            find . ! -type f -printf '%p %y %m %U %G %l\n' | sort); }
        facts tree > expected
        cp -a tree copy; facts copy | diff expected -
        rsync -aHAX tree/ synced; facts synced | diff expected -
        tar --xattrs --xattrs-include='*' --acls -cf tree.tar -C tree .
        mkdir untarred; tar --xattrs --xattrs-include='*' --acls -xpf tree.tar -C untarred
        facts untarred | diff expected -
        getfattr -R -h -d -m - --absolute-names "$MNT/tree" > dump
        find tree -exec setfattr -h -x user.note {} \; 2> /dev/null || true
        setfattr -h --restore=dump; facts tree | diff expected -
        "#,
    );
}
