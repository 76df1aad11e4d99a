//! Blocks of one origin, which answer together: those with the same external labels, shards aside. Which of them answer a
//! query, samples or windows, is chosen among themselves: that one cluster is downsampled says nothing of
//! another.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use pyrrha_model::TenantId;
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{BlockEntry, ManifestState};

use crate::downsample::Origin;
use crate::shard::stream_labels;

/// The streams of tenants, as of the states that were asked for last.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<HashMap<TenantId, Known>>);

/// A state and its streams.
type Known = (Arc<ManifestState>, Arc<[Arc<ManifestState>]>);

impl Streams {
    /// The streams of a state.
    pub(super) fn of(
        &self,
        tenant: &TenantId,
        state: &Arc<ManifestState>,
        replica_labels: &[String],
    ) -> Arc<[Arc<ManifestState>]> {
        if let Some((known, streams)) = self.0.lock().get(tenant)
            && Arc::ptr_eq(known, state)
        {
            return streams.clone();
        }
        let split = streams_of(state, &[]);
        let streams: Arc<[Arc<ManifestState>]> = match split.len() {
            0 | 1 => Arc::from([state.clone()]),
            _ => without_merged(split, replica_labels).into(),
        };
        self.0.lock().insert(tenant.clone(), (state.clone(), streams.clone()));
        streams
    }
}

/// A state's blocks by their external labels, those `without` aside.
pub(crate) fn streams_of<'s>(state: &'s ManifestState, without: &[String]) -> Vec<Cow<'s, ManifestState>> {
    let mut split: BTreeMap<BTreeMap<String, String>, ManifestState> = BTreeMap::new();
    for (id, entry) in &state.blocks {
        let mut labels = stream_labels(entry);
        labels.retain(|name, _| !without.contains(name));
        let stream = split.entry(labels).or_insert_with(|| {
            let mut stream = ManifestState::default();
            (stream.number, stream.deletes) = (state.number, state.deletes.clone());
            stream
        });
        stream.blocks.insert(*id, entry.clone());
    }
    match split.len() {
        0 | 1 => vec![Cow::Borrowed(state)],
        _ => split.into_values().map(Cow::Owned).collect(),
    }
}

/// Of each stream, given by its external labels and its blocks, the windows that others made of one replica
/// where the replicas were merged since: the samples of all are there, and windows are made of them.
pub(crate) fn merged_since(
    streams: &[(BTreeMap<String, String>, &ManifestState)],
    replica_labels: &[String],
) -> Vec<Vec<BlockId>> {
    let homes: HashMap<&BTreeMap<String, String>, &ManifestState> =
        streams.iter().map(|(key, stream)| (key, *stream)).collect();
    let gone = |(own, stream): &(BTreeMap<String, String>, &ManifestState)| {
        if !replica_labels.iter().any(|name| own.contains_key(name)) {
            return Vec::new();
        }
        let mut merged = own.clone();
        merged.retain(|name, _| !replica_labels.contains(name));
        let Some(home) = homes.get(&merged) else { return Vec::new() };
        let raw: Vec<_> = home.blocks.values().filter(|b| b.resolution == 0).collect();
        let is_gone = |b: &&Arc<BlockEntry>| {
            let theirs = b.resolution > 0 && Origin::of(b).is_none() && !b.sources.is_empty();
            theirs && raw.iter().any(|r| b.sources.iter().all(|s| r.sources.contains(s)))
        };
        stream.blocks.values().filter(is_gone).map(|b| b.ulid).collect()
    };
    streams.iter().map(gone).collect()
}

/// The same streams without those windows.
fn without_merged(split: Vec<Cow<'_, ManifestState>>, replica_labels: &[String]) -> Vec<Arc<ManifestState>> {
    let labels = |stream: &ManifestState| {
        stream.blocks.values().next().map(|entry| stream_labels(entry)).unwrap_or_default()
    };
    let keyed: Vec<_> = split.iter().map(|stream| (labels(stream), &**stream)).collect();
    let gone = merged_since(&keyed, replica_labels);
    let left = |(stream, gone): (Cow<'_, ManifestState>, Vec<BlockId>)| {
        let mut stream = stream.into_owned();
        stream.blocks.retain(|id, _| !gone.contains(id));
        Arc::new(stream)
    };
    split.into_iter().zip(gone).map(left).collect()
}

#[cfg(test)]
mod tests {
    use pyrrha_storage::block::BlockMeta;

    use super::*;
    use crate::block_files;

    fn add(state: &mut ManifestState, n: u64, resolution: i64, sources: &[u64], labels: &[(&str, &str)]) {
        let id = |n| BlockId::from_parts(n, 1);
        let mut entry = BlockEntry::of(&BlockMeta::of_head(id(n), 0, 7_200_000), 1);
        entry.resolution = resolution;
        entry.sources = sources.iter().map(|&n| id(n)).collect();
        let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let entry = block_files::adopted(&entry, None, &labels);
        state.blocks.insert(entry.ulid, Arc::new(entry));
    }

    #[test]
    fn windows_of_a_replica_go_when_the_replicas_are_merged() {
        let mut state = ManifestState::default();
        add(&mut state, 1, 0, &[1], &[("c", "eu"), ("replica", "a")]);
        add(&mut state, 2, 300_000, &[1], &[("c", "eu"), ("replica", "a")]);
        add(&mut state, 3, 0, &[3], &[("c", "us")]);
        let (tenant, replica) = (TenantId::anonymous(), ["replica".to_owned()]);
        let count = |state: &ManifestState| -> Vec<usize> {
            let streams = Streams::default().of(&tenant, &Arc::new(state.clone()), &replica);
            streams.iter().map(|s| s.blocks.len()).collect()
        };
        assert_eq!(count(&state), [2, 1]);
        state.blocks.remove(&BlockId::from_parts(1, 1));
        add(&mut state, 4, 0, &[1, 2], &[("c", "eu")]);
        assert_eq!(count(&state), [1, 0, 1], "merged with the other replica");
        assert_eq!(streams_of(&state, &replica).len(), 2);
    }
}
