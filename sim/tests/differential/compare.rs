//! What is compared after each request, and now and then.

use super::{Op, Pair, time};
use vellum_core::id::Ino;
use vellum_core::port::kernel as k;
use vellum_model::{Kind, NodeId};

impl Pair {
    /// The content of every file, where something changes in how it is stored.
    pub(crate) fn compare_contents(&mut self) {
        for (ino, node) in self.files_with_a_name() {
            let file = self.world.open(ino).expect("open");
            for border in [0u64, 4096, 8192, 16 << 10, 64 << 10, 4 << 20, 64 << 20] {
                let (at, len) = (border.saturating_sub(400), 2000);
                let got = self.world.read_at(file, at, len).expect("read");
                let want = self.model.read(node, at, len as usize).expect("a file");
                assert!(
                    got == want,
                    "{ino} at {at}: {} bytes, the model {}",
                    got.len(),
                    want.len()
                );
            }
            self.world.close(file).expect("close");
        }
    }

    /// Every attribute of everything that is known.
    pub(crate) fn compare(&mut self, op: &Op) {
        for (ino, node) in self.of_kind(|_| true) {
            let got = self.world.attr(ino).unwrap_or_else(|e| panic!("after {op:?}: {ino}: {e:?}"));
            let want = self.model.getattr(node).expect("known");
            let seen =
                (got.mode & 0o7777, got.nlink, got.uid, got.gid, time(got.mtime), time(got.ctime));
            let meant =
                (u32::from(want.perm), want.nlink, want.uid, want.gid, want.mtime, want.ctime);
            assert_eq!(seen, meant, "after {op:?}: {ino} {:?}", want.kind);
            self.compare_xattrs(op, ino, node);
            if want.kind != Kind::Dir {
                assert_eq!(got.size, want.size, "after {op:?}: {ino}");
            }
            if want.kind == Kind::File {
                // Exactly what is visible, in pages: no more than the chunks, and no less than the bytes.
                let most = self.model.allocated(node).expect("a file") / 512;
                assert!(got.blocks <= most, "after {op:?}: {ino}: {} blocks of {most}", got.blocks);
                assert!(got.blocks > 0 || most == 0 || self.is_zeros(node), "after {op:?}: {ino}");
            }
        }
    }

    fn compare_xattrs(&mut self, op: &Op, ino: Ino, node: NodeId) {
        // What the privileged alone see is asked for by name.
        let hidden = |name: &[u8]| name.starts_with(b"trusted.");
        let want = self.model.listxattr(node).expect("known");
        let list: Vec<u8> =
            want.iter().filter(|n| !hidden(n)).flat_map(|n| n.iter().copied().chain([0])).collect();
        match self.world.ask(k::Operation::ListXattr { ino, room: 65_536 }) {
            Ok(k::Reply::Value(got)) => assert_eq!(got, list, "after {op:?}: {ino}"),
            other => panic!("after {op:?}: {ino}: {other:?}"),
        }
        for name in want {
            let value = self.model.getxattr(node, &name).expect("listed");
            let request = k::Operation::GetXattr { ino, name: name.into(), room: 65_536 };
            match self.world.ask(request) {
                Ok(k::Reply::Value(got)) => assert_eq!(got, value, "after {op:?}: {ino}"),
                other => panic!("after {op:?}: {ino}: {other:?}"),
            }
        }
    }

    fn is_zeros(&self, node: NodeId) -> bool {
        let mut at = 0;
        while let Ok(data) = self.model.seek_data(node, at) {
            at = self.model.seek_hole(node, data).expect("a hole at the end");
            let bytes = self.model.read(node, data, (at - data) as usize).expect("a file");
            if bytes.iter().any(|b| *b != 0) {
                return false;
            }
        }
        true
    }
}
