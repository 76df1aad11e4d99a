//! Names and directories of the simulated disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use pyrrha_env::DirEntry;

use super::blob::Blob;
use super::fault::{Faults, full};
use crate::SimRng;

/// The root directory's number.
pub(super) const ROOT: u64 = 0;

/// A change of names in a directory that was not synced yet.
#[derive(Debug, Clone)]
pub(super) enum NameOp {
    Link { name: String, id: u64 },
    Unlink { name: String },
    Rename { from: String, to: String, id: u64 },
}

#[derive(Debug, Default)]
pub(super) struct Dir {
    live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    pending: Vec<NameOp>,
}

impl Dir {
    fn change(&mut self, op: NameOp) {
        apply(&mut self.live, &op);
        self.pending.push(op);
    }

    fn sync(&mut self) {
        for op in self.pending.drain(..) {
            apply(&mut self.durable, &op);
        }
    }

    fn keep_some(&mut self, rng: &mut SimRng) {
        let mood = rng.below(4);
        let cut = rng.index(self.pending.len() + 1);
        for (i, op) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            let keep = match mood {
                0 => false,
                1 => true,
                2 => i < cut,
                _ => rng.percent(50),
            };
            if keep {
                apply(&mut self.durable, &op);
            }
        }
    }

    pub(super) fn crash(&mut self, rng: &mut SimRng) {
        self.keep_some(rng);
        self.live = self.durable.clone();
    }

    /// Every node that a name leads to, or may lead to after a crash.
    pub(super) fn targets(&self) -> impl Iterator<Item = u64> + '_ {
        let pending = self.pending.iter().filter_map(|op| match op {
            NameOp::Link { id, .. } | NameOp::Rename { id, .. } => Some(*id),
            NameOp::Unlink { .. } => None,
        });
        self.live.values().chain(self.durable.values()).copied().chain(pending)
    }
}

fn apply(names: &mut BTreeMap<String, u64>, op: &NameOp) {
    match op {
        NameOp::Link { name, id } => {
            names.insert(name.clone(), *id);
        }
        NameOp::Unlink { name } => {
            names.remove(name);
        }
        NameOp::Rename { from, to, id } => {
            names.remove(from);
            names.insert(to.clone(), *id);
        }
    }
}

#[derive(Debug)]
pub(super) enum Node {
    File(Blob),
    Dir(Dir),
}

/// The whole disk.
#[derive(Debug)]
pub(super) struct State {
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) faults: Faults,
    pub(super) rng: SimRng,
    pub(super) capacity: Option<u64>,
    /// Grows with every restart; files opened in an earlier epoch are stale.
    pub(super) epoch: u64,
    next: u64,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]),
            locks: BTreeSet::new(),
            faults: Faults::new(seed),
            rng: SimRng::new(seed),
            capacity: None,
            epoch: 0,
            next: ROOT + 1,
        }
    }

    pub(super) fn lookup(&self, path: &Path) -> io::Result<u64> {
        let mut id = ROOT;
        for name in names(path)? {
            id = *self.dir(id)?.live.get(&name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(id)
    }

    fn dir(&self, id: u64) -> io::Result<&Dir> {
        match self.nodes.get(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn dir_mut(&mut self, id: u64) -> io::Result<&mut Dir> {
        match self.nodes.get_mut(&id) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn file_mut(&mut self, id: u64) -> io::Result<&mut Blob> {
        Ok(self.file_and_rng(id)?.0)
    }

    pub(super) fn file_and_rng(&mut self, id: u64) -> io::Result<(&mut Blob, &mut SimRng)> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(blob)) => Ok((blob, &mut self.rng)),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn file_id(&mut self, path: &Path) -> io::Result<u64> {
        let id = self.lookup(path)?;
        self.file_mut(id)?;
        Ok(id)
    }

    pub(super) fn content(&mut self, path: &Path) -> io::Result<Bytes> {
        let id = self.lookup(path)?;
        Ok(self.file_mut(id)?.content())
    }

    /// The directory that holds a path, and the name in it.
    fn parent(&self, path: &Path) -> io::Result<(u64, String)> {
        let mut all = names(path)?;
        let name = all.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let mut id = ROOT;
        for name in all {
            id = *self.dir(id)?.live.get(&name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok((id, name))
    }

    fn add(&mut self, node: Node) -> u64 {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        id
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut at = ROOT;
        for name in names(path)? {
            at = match self.dir(at)?.live.get(&name) {
                Some(&id) => id,
                None => {
                    let id = self.add(Node::Dir(Dir::default()));
                    self.dir_mut(at)?.change(NameOp::Link { name, id });
                    id
                }
            };
        }
        self.dir(at).map(|_| ())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = self.dir(self.lookup(path)?)?;
        let entry = |(name, id): (&String, &u64)| {
            let (is_dir, len) = match self.nodes.get(id) {
                Some(Node::File(blob)) => (false, blob.len()),
                _ => (true, 0),
            };
            DirEntry { name: name.clone(), is_dir, len }
        };
        Ok(dir.live.iter().map(entry).collect())
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
        let (parent, name) = self.parent(path)?;
        if self.dir(parent)?.live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = self.add(Node::File(Blob::default()));
        self.dir_mut(parent)?.change(NameOp::Link { name, id });
        Ok(id)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.lookup(from)?;
        let ((from_dir, from), (to_dir, to)) = (self.parent(from)?, self.parent(to)?);
        if let Some(&old) = self.dir(to_dir)?.live.get(&to)
            && let Ok(old_dir) = self.dir(old)
        {
            if !old_dir.live.is_empty() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            if matches!(self.nodes.get(&id), Some(Node::File(_))) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
        }
        if from_dir == to_dir {
            self.dir_mut(to_dir)?.change(NameOp::Rename { from, to, id });
        } else {
            // Between directories the new name may be lost and the old one be gone only if the
            // program syncs the old directory first.
            self.dir_mut(to_dir)?.change(NameOp::Link { name: to, id });
            self.dir_mut(from_dir)?.change(NameOp::Unlink { name: from });
        }
        Ok(())
    }

    pub(super) fn hard_link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.file_id(from)?;
        let (parent, name) = self.parent(to)?;
        if self.dir(parent)?.live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.dir_mut(parent)?.change(NameOp::Link { name, id });
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.file_id(path)?;
        let (parent, name) = self.parent(path)?;
        self.dir_mut(parent)?.change(NameOp::Unlink { name });
        Ok(())
    }

    /// Removes each name on its own, so that a crash may leave any of them.
    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let id = match self.lookup(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        self.dir(id)?;
        self.empty_dir(id)?;
        let (parent, name) = self.parent(path)?;
        self.dir_mut(parent)?.change(NameOp::Unlink { name });
        Ok(())
    }

    fn empty_dir(&mut self, id: u64) -> io::Result<()> {
        for (name, child) in self.dir(id)?.live.clone() {
            if matches!(self.nodes.get(&child), Some(Node::Dir(_))) {
                self.empty_dir(child)?;
            }
            self.dir_mut(id)?.change(NameOp::Unlink { name });
        }
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let id = self.lookup(path)?;
        self.dir_mut(id)?.sync();
        Ok(())
    }

    pub(super) fn lock(&mut self, path: &Path) -> io::Result<u64> {
        if self.lookup(path).is_err() {
            self.create(path)?;
        }
        if !self.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(self.epoch)
    }

    pub(super) fn used(&self) -> u64 {
        let mut seen = BTreeSet::new();
        let dirs = self.nodes.values().filter_map(|n| if let Node::Dir(d) = n { Some(d) } else { None });
        let mut used = 0;
        for id in dirs.flat_map(|d| d.live.values()) {
            if let (Some(Node::File(blob)), true) = (self.nodes.get(id), seen.insert(*id)) {
                used += blob.len();
            }
        }
        used
    }

    pub(super) fn free(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    pub(super) fn reserve(&self, bytes: u64) -> io::Result<()> {
        if bytes > self.free() { Err(full()) } else { Ok(()) }
    }
}

/// The names along a path, from the root.
fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                names.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?.to_owned());
            }
            Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(names)
}
