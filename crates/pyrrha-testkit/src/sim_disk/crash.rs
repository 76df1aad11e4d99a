//! What is left after a power loss.

use std::collections::BTreeSet;

use super::tree::{Node, ROOT, State};

impl State {
    /// Keeps the durable part and an arbitrary part of the rest.
    pub(super) fn crash(&mut self) {
        let State { nodes, rng, .. } = self;
        for node in nodes.values_mut() {
            match node {
                Node::File(blob) => blob.crash(rng),
                Node::Dir(dir) => dir.crash(rng),
            }
        }
        self.restart();
    }

    /// A new process on the disk as it is.
    pub(super) fn restart(&mut self) {
        self.epoch += 1;
        self.locks.clear();
        self.faults.clear();
        self.collect();
    }

    /// Drops what no name leads to any more.
    fn collect(&mut self) {
        let (mut reached, mut open) = (BTreeSet::from([ROOT]), vec![ROOT]);
        while let Some(id) = open.pop() {
            if let Some(Node::Dir(dir)) = self.nodes.get(&id) {
                open.extend(dir.targets().filter(|&target| reached.insert(target)));
            }
        }
        self.nodes.retain(|id, _| reached.contains(id));
    }
}
