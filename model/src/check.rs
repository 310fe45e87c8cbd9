//! The model's own invariants.

use std::collections::BTreeMap;

use crate::attr::{Kind, NodeId};
use crate::fs::{Body, Fs};

impl Fs {
    /// Every broken invariant in words; empty if the model is sound.
    pub fn check(&self) -> Vec<String> {
        let names = self.count_names();
        let mut broken = Vec::new();
        for (id, node) in &self.nodes {
            let named = names.get(id).copied().unwrap_or(0);
            let expected = match &node.body {
                Body::Dir { entries, .. } if named > 0 || *id == NodeId::ROOT => {
                    2 + entries.values().filter(|child| self.is_dir(**child)).count() as u32
                }
                _ => named,
            };
            if node.nlink != expected {
                broken.push(format!("{id:?} has {} links, not {expected}", node.nlink));
            }
            if named == 0 && *id != NodeId::ROOT && !node.is_held() {
                broken.push(format!("{id:?} is neither named nor held"));
            }
            if node.kind() == Kind::Dir && named > 1 {
                broken.push(format!("directory {id:?} has {named} names"));
            }
            self.check_body(*id, &node.body, named, &mut broken);
        }
        broken
    }

    fn check_body(&self, id: NodeId, body: &Body, named: u32, broken: &mut Vec<String>) {
        match body {
            Body::File(data) if !data.is_clean_behind_end() => {
                broken.push(format!("{id:?} has bytes behind its end"));
            }
            Body::Dir { up, entries } => {
                for (name, child) in entries {
                    match self.nodes.get(child).map(|n| &n.body) {
                        None => broken.push(format!("{id:?} names the missing {child:?}")),
                        Some(Body::Dir { up, .. }) if *up != id => {
                            broken
                                .push(format!("{child:?} is in {id:?} and says {up:?}: {name:?}"));
                        }
                        Some(_) => {}
                    }
                }
                if named > 0 && !self.is_within(*up, NodeId::ROOT) {
                    broken.push(format!("{id:?} does not lead up to the root"));
                }
                if named == 0 && id != NodeId::ROOT && !entries.is_empty() {
                    broken.push(format!("the removed {id:?} has entries"));
                }
            }
            _ => {}
        }
    }

    fn count_names(&self) -> BTreeMap<NodeId, u32> {
        let mut names = BTreeMap::new();
        for node in self.nodes.values() {
            if let Body::Dir { entries, .. } = &node.body {
                for child in entries.values() {
                    *names.entry(*child).or_insert(0) += 1;
                }
            }
        }
        names
    }
}
