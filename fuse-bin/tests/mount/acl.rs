//! POSIX ACLs, set with the tools of the package acl.

use crate::harness::{Expect, Mounted, fails, sh};
use rustix::fs::{XattrFlags, lsetxattr};
use rustix::io::Errno;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

fn setfacl(entries: &str, path: &Path) {
    Command::new("setfacl").args(["-m", entries]).arg(path).succeeds();
}

/// The entries, on one line.
fn getfacl(path: &Path) -> String {
    let text = Command::new("getfacl").args(["-nscpE", "--omit-header"]).arg(path).succeeds();
    text.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>().join(",")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("stat").mode() & 0o7777
}

/// Runs a command as a user, with one group.
fn run_as(user: u32, group: u32, command: &[&str]) -> Command {
    let mut run = Command::new("setpriv");
    run.args([&format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups", "--"]);
    run.args(command);
    run
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

// [S-ACL-1]
#[test]
fn an_acl_sets_the_mode_and_a_chmod_sets_its_mask() {
    let Some(mut m) = Mounted::new() else { return };
    let path = m.path("f");
    fs::write(&path, "x").expect("write");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("chmod");
    setfacl("u:1000:rwx", &path);
    assert_eq!(mode(&path), 0o670, "the group's bits are the mask");
    fs::set_permissions(&path, Permissions::from_mode(0o604)).expect("chmod");
    let expected = "user::rw-,user:1000:rwx,group::r--,mask::---,other::r--";
    for _ in 0..2 {
        assert_eq!(getfacl(&path), expected);
        assert_eq!(mode(&path), 0o604);
        m.remount();
    }
    Command::new("setfacl").arg("-b").arg(&path).succeeds();
    assert_eq!(getfacl(&path), "", "nothing but the mode is left");
    assert_eq!(mode(&path), 0o604, "what setfacl -b sets");
}

// [S-ACL-2]
#[test]
fn users_and_groups_get_what_the_acl_gives_them() {
    let Some(m) = Mounted::new() else { return };
    fs::set_permissions(m.root(), Permissions::from_mode(0o755)).expect("chmod");
    let path = m.path("f");
    fs::write(&path, "secret").expect("write");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("chmod");
    run_as(1000, 1000, &["cat", text(&path)]).exits_with(1);
    setfacl("u:1000:r", &path);
    run_as(1000, 1000, &["cat", text(&path)]).succeeds();
    run_as(1001, 1000, &["cat", text(&path)]).exits_with(1);
    run_as(1000, 1000, &["sh", "-c", r#"echo x >> "$0""#, text(&path)]).exits_with(2);
    setfacl("g:1000:rw", &path);
    run_as(1001, 1000, &["sh", "-c", r#"echo x >> "$0""#, text(&path)]).succeeds();
    setfacl("m::-", &path);
    run_as(1000, 1000, &["cat", text(&path)]).exits_with(1);
    run_as(1001, 1000, &["cat", text(&path)]).exits_with(1);
    let dir = m.path("d");
    fs::create_dir(&dir).expect("mkdir");
    fs::set_permissions(&dir, Permissions::from_mode(0o700)).expect("chmod");
    run_as(1000, 1000, &["touch", text(&dir.join("a"))]).exits_with(1);
    setfacl("u:1000:rwx", &dir);
    run_as(1000, 1000, &["touch", text(&dir.join("a"))]).succeeds();
    run_as(1000, 1000, &["setfacl", "-m", "u:1001:rwx", text(&dir)]).exits_with(1);
}

// [S-ACL-3]
#[test]
fn a_default_acl_goes_down_the_tree_in_place_of_the_umask() {
    let Some(m) = Mounted::new() else { return };
    let dir = m.path("d");
    fs::create_dir(&dir).expect("mkdir");
    setfacl("d:u::rwx,d:u:1000:rwx,d:g::r-x,d:o::-", &dir);
    let inherited = "user::rw-,user:1000:rwx,group::r-x,mask::rw-,other::---";
    sh(&m, r#"cd "$MNT/d"; umask 077; touch f; mkdir sub; mkfifo p; ln -s f s; echo > sub/g"#);
    for name in ["f", "sub/g", "p"] {
        assert_eq!(getfacl(&dir.join(name)), inherited, "{name}");
        assert_eq!(mode(&dir.join(name)), 0o660, "{name}");
    }
    let default = "default:user::rwx,default:user:1000:rwx,default:group::r-x,default:mask::rwx,\
                   default:other::---";
    let access = "user::rwx,user:1000:rwx,group::r-x,mask::rwx,other::---";
    assert_eq!(getfacl(&dir.join("sub")), format!("{access},{default}"));
    let meta = fs::symlink_metadata(dir.join("s")).expect("lstat");
    assert_eq!(meta.mode() & 0o777, 0o777);
    Command::new("setfacl").arg("-k").arg(&dir).succeeds();
    sh(&m, r#"cd "$MNT/d"; umask 027; touch plain; mkdir plaindir"#);
    assert_eq!((mode(&dir.join("plain")), mode(&dir.join("plaindir"))), (0o640, 0o750));
    assert_eq!(getfacl(&dir.join("plain")), "");
}

// [S-ACL-4]
#[test]
fn acls_are_refused_where_they_mean_nothing() {
    let Some(m) = Mounted::new() else { return };
    let (file, link) = (m.path("f"), m.path("s"));
    File::create(&file).expect("create");
    symlink("f", &link).expect("symlink");
    let minimal: Vec<u8> = [
        &[2, 0, 0, 0][..],
        &[1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff],
        &[4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff],
        &[32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    ]
    .concat();
    let set =
        |path: &Path, name: &str, value: &[u8]| lsetxattr(path, name, value, XattrFlags::empty());
    fails(set(&file, DEFAULT, &minimal), Errno::ACCESS);
    fails(set(&link, ACCESS, &minimal), Errno::OPNOTSUPP);
    fails(set(&file, ACCESS, &minimal[..11]), Errno::INVAL);
    fails(set(&file, ACCESS, &minimal[..20]), Errno::INVAL);
    set(&file, ACCESS, &minimal).expect("it says what a mode says");
    assert_eq!((mode(&file), getfacl(&file)), (0o640, String::new()));
}

// [S-ACL-1]
#[test]
fn set_group_id_goes_when_somebody_outside_of_the_group_sets_an_acl() {
    let Some(m) = Mounted::new() else { return };
    fs::set_permissions(m.root(), Permissions::from_mode(0o755)).expect("chmod");
    let path = m.path("f");
    File::create(&path).expect("create");
    chown(&path, Some(1000), Some(4321)).expect("chown");
    let set = || fs::set_permissions(&path, Permissions::from_mode(0o2755)).expect("chmod");
    set();
    run_as(1000, 4321, &["setfacl", "-m", "u:7:r", text(&path)]).succeeds();
    assert_eq!(mode(&path), 0o2755);
    run_as(1000, 1000, &["setfacl", "-m", "u:7:rx", text(&path)]).succeeds();
    assert_eq!(mode(&path), 0o755);
}
