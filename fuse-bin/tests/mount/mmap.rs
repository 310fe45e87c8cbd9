//! Maps of files. The calls are made by Python, because a map is not safe Rust.

use crate::harness::{Mounted, python};
use std::fs;

// [S-MMAP-1]
#[test]
fn a_shared_map_and_descriptors_see_each_other() {
    let Some(mut m) = Mounted::new() else { return };
    let path = m.path("f");
    fs::write(&path, vec![b'.'; 3 * 4096 + 100]).expect("write");
    python(
        r"
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
view = mmap.mmap(fd, 0, mmap.MAP_SHARED)
view[4090:4100] = b'ABCDEFGHIJ'
assert os.pread(fd, 10, 4090) == b'ABCDEFGHIJ', 'a map write is not seen by pread'
os.pwrite(fd, b'through', 9000)
assert view[9000:9007] == b'through', 'a pwrite is not seen in the map'
view[3 * 4096:3 * 4096 + 3] = b'end'
view.flush()
other = os.open(sys.argv[1], os.O_RDONLY)
assert os.pread(other, 10, 4090) == b'ABCDEFGHIJ', 'after msync another descriptor sees old bytes'
view.close()
os.fsync(fd)
",
        &[&path],
    );
    for _ in 0..2 {
        let bytes = fs::read(&path).expect("read");
        assert_eq!(bytes.len(), 3 * 4096 + 100);
        assert_eq!(&bytes[4090..4100], b"ABCDEFGHIJ");
        assert_eq!(&bytes[9000..9007], b"through");
        assert_eq!(&bytes[3 * 4096..3 * 4096 + 4], b"end.");
        m.remount();
    }
}

#[test]
fn two_processes_share_a_map() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    fs::write(&path, vec![0; 8192]).expect("write");
    python(
        r"
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
view = mmap.mmap(fd, 0, mmap.MAP_SHARED)
child = os.fork()
if child == 0:
    mine = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 0, mmap.MAP_SHARED)
    mine[5000:5005] = b'child'
    mine.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert view[5000:5005] == b'child'
",
        &[&path],
    );
    assert_eq!(&fs::read(&path).expect("read")[5000..5005], b"child");
}

#[test]
fn a_private_map_changes_nothing() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    fs::write(&path, vec![b'x'; 4096]).expect("write");
    python(
        r"
import mmap, os, sys
view = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 0, mmap.MAP_PRIVATE)
view[0:3] = b'yyy'
view.close()
",
        &[&path],
    );
    assert_eq!(fs::read(&path).expect("read"), vec![b'x'; 4096]);
}

// [S-MMAP-2]
#[test]
fn a_map_outlives_its_descriptor_and_its_name() {
    let Some(m) = Mounted::new() else { return };
    let path = m.path("f");
    fs::write(&path, vec![b'a'; 2 << 20]).expect("write");
    python(
        r"
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
view = mmap.mmap(fd, 0, mmap.MAP_SHARED)
os.close(fd)
os.unlink(sys.argv[1])
assert view[0] == ord('a') and view[(2 << 20) - 1] == ord('a')
view[1 << 20] = ord('b')
view.flush()
assert view[1 << 20] == ord('b')
",
        &[&path],
    );
    assert!(!path.exists());
}

#[test]
fn programs_run_from_the_mount() {
    use crate::harness::sh;
    let Some(m) = Mounted::new() else { return };
    assert_eq!(sh(&m, r#"cp /bin/true "$MNT/program"; "$MNT/program" && echo ran"#), "ran\n");
}
