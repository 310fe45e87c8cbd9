use super::Inodes;
use crate::id::Ino;
use crate::port::meta_kv::Version;

#[test]
fn an_entry_made_anew_trusts_nothing_older_than_what_was_forgotten() {
    let mut inodes = Inodes::default();
    inodes.enter(Ino(5)).changed = Version(9);
    assert_eq!(inodes.release_unheld(Ino(5)), Some(false));
    inodes.forgotten = Version(9);
    let anew = inodes.enter(Ino(5));
    assert_eq!((anew.since, anew.changed), (Version(9), Version(9)));
    anew.changed = Version(12);
    assert_eq!(inodes.enter(Ino(5)).changed, Version(12), "an entry that is there stays as it is");
}
