//! Shards: which of all series a block has, told by a hash of their labels. Pure.
//!
//! A block whose external label `__compactor_shard_id__` is `i_of_N` has series whose hash is `i - 1` modulo
//! `N`, and no others. It is Mimir's label, and the hash that its compactor splits by: xxHash64 over names and
//! values, each with 0xFF after it, of the labels that series have in the block.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyrrha_model::Labels;
use pyrrha_storage::block::{BlockMeta, ThanosMeta};
use pyrrha_storage::manifest::BlockEntry;
use xxhash_rust::xxh64::xxh64;

use crate::block_files::{external_label, external_labels, files};

/// The external label with the shard of a block, `i_of_N`.
pub(crate) const SHARD_LABEL: &str = "__compactor_shard_id__";
/// Its old name.
const OLD_SHARD_LABEL: &str = "__shard_id__";
/// More shards than anybody makes.
const COUNT_MAX: u32 = 4096;
/// Shards of different counts are told apart series by series up to this common count.
const COMMON_MAX: u64 = 1 << 14;
/// Most blocks that one job makes: each is open while it is written.
const PARTS_MAX: u32 = 64;
/// Least series of a shard, on average.
const SERIES_MIN: u64 = 16;

/// Series whose hash is `index` modulo `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Shard {
    index: u32,
    count: u32,
}

/// The hash that tells to which shard a series belongs.
pub(crate) fn stable_hash(labels: &Labels) -> u64 {
    let mut bytes = Vec::with_capacity(256);
    for label in labels {
        bytes.extend_from_slice(label.name.as_bytes());
        bytes.push(0xFF);
        bytes.extend_from_slice(label.value.as_bytes());
        bytes.push(0xFF);
    }
    xxh64(&bytes, 0)
}

impl Shard {
    /// All series.
    pub(crate) const WHOLE: Self = Self { index: 0, count: 1 };

    /// That of a block by its external labels; `None` if they name none, or what they say does not read.
    pub(crate) fn named(labels: &BTreeMap<String, String>) -> Option<Self> {
        Self::read(labels.get(SHARD_LABEL).or_else(|| labels.get(OLD_SHARD_LABEL))?)
    }

    fn read(text: &str) -> Option<Self> {
        let (i, count) = text.split_once("_of_")?;
        let (i, count): (u32, u32) = (i.parse().ok()?, count.parse().ok()?);
        ((1..=count).contains(&i) && count <= COUNT_MAX).then(|| Self { index: i - 1, count })
    }

    /// That of a live block.
    pub(crate) fn of(entry: &BlockEntry) -> Self {
        let text = external_label(entry, SHARD_LABEL).or_else(|| external_label(entry, OLD_SHARD_LABEL));
        text.and_then(Self::read).unwrap_or(Self::WHOLE)
    }

    /// What its label says; `None` if it needs none.
    pub(crate) fn text(self) -> Option<String> {
        (self.count > 1).then(|| format!("{}_of_{}", self.index + 1, self.count))
    }

    /// External labels, with this shard and no other.
    pub(crate) fn name(self, labels: &mut BTreeMap<String, String>) {
        unname(labels);
        labels.extend(self.text().map(|text| (SHARD_LABEL.to_owned(), text)));
    }

    /// Whether series may belong to both.
    pub(crate) fn meets(self, other: Self) -> bool {
        let common = gcd(self.count, other.count);
        self.index % common == other.index % common
    }

    /// Whether all series of the other belong to it.
    pub(crate) fn has(self, other: Self) -> bool {
        other.count.is_multiple_of(self.count) && other.index % self.count == self.index
    }

    /// Whether series with a hash that is `residue`, modulo a multiple of its count, belong to it.
    pub(crate) fn has_residue(self, residue: u64) -> bool {
        residue % u64::from(self.count) == u64::from(self.index)
    }

    /// The smallest one that has all series of these.
    pub(crate) fn around(shards: impl IntoIterator<Item = Self>) -> Self {
        let around = |a: Self, b: Self| {
            let count = gcd(gcd(a.count, b.count), a.index.abs_diff(b.index));
            Self { index: a.index % count, count }
        };
        shards.into_iter().reduce(around).unwrap_or(Self::WHOLE)
    }
}

/// External labels without what says which shard a block is.
pub(crate) fn unname(labels: &mut BTreeMap<String, String>) {
    labels.remove(SHARD_LABEL);
    labels.remove(OLD_SHARD_LABEL);
}

/// The external labels of a block, but for its shard: shards of one block are of one stream.
pub(crate) fn stream_labels(entry: &BlockEntry) -> BTreeMap<String, String> {
    let mut labels = external_labels(entry);
    unname(&mut labels);
    labels
}

/// The meta, of a block that has this shard.
pub(crate) fn name_shard(meta: &mut BlockMeta, shard: Shard) {
    if meta.thanos.is_none() && shard != Shard::WHOLE {
        meta.thanos = Some(ThanosMeta { version: 1, ..ThanosMeta::default() });
    }
    if let Some(thanos) = &mut meta.thanos {
        shard.name(thanos.labels.get_or_insert_default());
    }
}

/// Whether each series of `own` belongs to one of these.
pub(crate) fn cover(holders: impl IntoIterator<Item = Shard>, own: Shard) -> bool {
    let near: Vec<Shard> = holders.into_iter().filter(|holder| holder.meets(own)).collect();
    if near.iter().any(|holder| holder.has(own)) {
        return true;
    }
    let Some(common) = common_count(near.iter().copied().chain([own])) else { return false };
    let mut residues = (0..common).skip(own.index as usize).step_by(own.count as usize);
    residues.all(|residue| near.iter().any(|holder| holder.has_residue(residue)))
}

/// A count of which the counts of all of these are parts; `None` if it is larger than anybody needs.
pub(crate) fn common_count(shards: impl IntoIterator<Item = Shard>) -> Option<u64> {
    shards.into_iter().try_fold(1u64, |common, shard| {
        let count = u64::from(shard.count);
        let lcm = common / gcd64(common, count) * count;
        (lcm <= COMMON_MAX).then_some(lcm)
    })
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn gcd64(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd64(b, a % b) }
}

/// Some of the series of a block: those whose hash has one of these residues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Residues {
    modulus: u64,
    /// Sorted.
    residues: Arc<[u64]>,
}

impl Residues {
    /// Of sorted residues.
    pub(crate) fn new(modulus: u64, residues: Vec<u64>) -> Self {
        Self { modulus, residues: residues.into() }
    }

    /// Whether a series is one of them.
    pub(crate) fn has(&self, labels: &Labels) -> bool {
        self.residues.binary_search(&(stable_hash(labels) % self.modulus.max(1))).is_ok()
    }
}

/// The residues, modulo a count that is a multiple of its own, of a shard's series.
pub(crate) fn residues(shard: Shard, modulus: u64) -> impl Iterator<Item = u64> {
    (0..modulus).skip(shard.index as usize).step_by(shard.count as usize)
}

/// How what a job makes is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split {
    base: Shard,
    parts: u32,
}

impl Split {
    /// Into so many blocks, of what these shards have.
    pub(crate) fn new(inputs: impl IntoIterator<Item = Shard>, parts: usize) -> Self {
        let base = Shard::around(inputs);
        let most = (COUNT_MAX / base.count).max(1);
        Self { base, parts: u32::try_from(parts).unwrap_or(most).clamp(1, most) }
    }

    /// Into as few blocks as keep shards apart that the inputs keep apart.
    pub(crate) fn least(inputs: impl IntoIterator<Item = Shard> + Clone) -> Self {
        let base = Shard::around(inputs.clone());
        let finest = || inputs.clone().into_iter().map(|shard| shard.count).max().unwrap_or(1);
        let count = common_count(inputs.clone()).and_then(|count| u32::try_from(count).ok());
        let most = PARTS_MAX.min((COUNT_MAX / base.count).max(1));
        let parts = count.map(|count| count / base.count).filter(|parts| *parts <= most);
        Self { base, parts: parts.unwrap_or_else(|| (finest() / base.count).clamp(1, most)) }
    }

    /// How many blocks it makes.
    pub(crate) fn parts(self) -> usize {
        self.parts as usize
    }

    /// All that they have together.
    pub(crate) fn whole(self) -> Shard {
        self.base
    }

    /// The shard of one of them.
    pub(crate) fn shard(self, part: usize) -> Shard {
        let part = u32::try_from(part).unwrap_or(0) % self.parts;
        Shard { index: self.base.index + self.base.count * part, count: self.base.count * self.parts }
    }

    /// Where a series belongs. One that is in an input although it does not belong there goes somewhere, too.
    pub(crate) fn part_of(self, labels: &Labels) -> usize {
        if self.parts == 1 {
            return 0;
        }
        (stable_hash(labels) / u64::from(self.base.count) % u64::from(self.parts)) as usize
    }
}

/// How large merged blocks become, before they are split by the hash of their series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockTargets {
    /// Bytes of a block's index, reckoned as those of all that it is made of together; 0: no matter how large.
    ///
    /// Limits of the format are 64 GiB for series, and 4 GiB each for symbols and for the table of postings.
    pub index_bytes: u64,
    /// Series of a block, reckoned as those of blocks that overlap; 0: no matter how many.
    pub series: u64,
    /// Whether what would be larger is split. If not, it is not merged.
    pub splits: bool,
}

impl Default for BlockTargets {
    /// 8 GiB of index: a table of postings of more than half of it is not known.
    fn default() -> Self {
        Self { index_bytes: 8 << 30, series: 0, splits: true }
    }
}

impl BlockTargets {
    /// Whether these blocks may be merged.
    pub(crate) fn allow(&self, inputs: &[Arc<BlockEntry>]) -> bool {
        let least = || Split::least(inputs.iter().map(|input| Shard::of(input)).collect::<Vec<_>>());
        self.splits || self.split(inputs).parts() == least().parts()
    }

    /// How the merge of these blocks is split.
    pub(crate) fn split(&self, inputs: &[Arc<BlockEntry>]) -> Split {
        let least = Split::least(inputs.iter().map(|input| Shard::of(input)).collect::<Vec<_>>());
        let bytes = inputs.iter().map(|input| index_bytes(input)).fold(0, u64::saturating_add);
        let over = |whole: u64, target: u64| if target == 0 { 1 } else { whole.div_ceil(target) };
        let wanted = over(bytes, self.index_bytes).max(over(series_at_once(inputs), self.series));
        let each = wanted.div_ceil(u64::from(least.parts)).min(u64::from(PARTS_MAX)).next_power_of_two();
        // So few series that a shard might get none are not worth it.
        let series = inputs.iter().map(|input| input.series).max().unwrap_or(0) / SERIES_MIN;
        let enough = u32::try_from(series).unwrap_or(u32::MAX);
        let most = PARTS_MAX.min(COUNT_MAX / least.base.count).min(enough).max(1);
        let mut parts = least.parts;
        for _ in 0..each.trailing_zeros() {
            parts = if parts * 2 <= most { parts * 2 } else { parts };
        }
        Split { parts, ..least }
    }
}

/// Bytes of a block's index; where nobody says, a tenth of the block.
fn index_bytes(entry: &BlockEntry) -> u64 {
    let index = files(entry).into_iter().find(|file| file.name == "index");
    index.map_or(entry.bytes / 10, |file| file.bytes)
}

/// The most series that blocks of one moment have together.
fn series_at_once(inputs: &[Arc<BlockEntry>]) -> u64 {
    let at = |moment: i64| {
        let there = inputs.iter().filter(|b| b.min_time <= moment && moment < b.max_time.max(b.min_time + 1));
        there.map(|b| b.series).fold(0, u64::saturating_add)
    };
    inputs.iter().map(|b| at(b.min_time)).max().unwrap_or(0)
}

/// The places of `items` that are linked, directly or by way of others, each group in ascending order.
pub(crate) fn linked<T>(items: &[T], link: impl Fn(&T, &T) -> bool) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let (near, far): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| group.iter().any(|&j| link(&items[j], item)));
        let mut group: Vec<usize> = near.into_iter().flatten().chain([i]).collect();
        group.sort_unstable();
        groups = far;
        groups.push(group);
    }
    groups.sort();
    groups
}

#[cfg(test)]
mod tests;
