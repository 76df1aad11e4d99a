//! Blocks and marks as Thanos, Mimir and Cortex leave them in a bucket, made byte by byte from what is
//! known of the formats. Nothing of Pyrrha's own writers is used, so that a mistake in them shows.

mod chunks;
mod index;
mod mimir;

use std::path::Path;

pub use chunks::{ForeignChunk, ForeignHistogram, aggregate_chunk, histogram_aggregate_chunk, xor_chunk};
pub use mimir::{IndexedBlock, bucket_index, gzip};

/// Labels of a series, sorted by name.
pub type Pairs = Vec<(String, String)>;

/// A series of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignSeries {
    /// Its labels, sorted by name.
    pub labels: Pairs,
    /// Its chunks, by time.
    pub chunks: Vec<ForeignChunk>,
}

/// Labels from text pairs, sorted by name.
pub fn pairs(labels: &[(&str, &str)]) -> Pairs {
    let mut pairs: Pairs = labels.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
    pairs.sort();
    pairs
}

/// A block of another system.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignBlock {
    /// Its id, 26 characters.
    pub ulid: String,
    /// First millisecond.
    pub min_time: i64,
    /// The millisecond after the last.
    pub max_time: i64,
    /// Level of compaction.
    pub level: u32,
    /// The level-1 blocks that it was made from; itself if there are none.
    pub sources: Vec<String>,
    /// External labels.
    pub external: Pairs,
    /// Length of its windows, ms; 0 for samples.
    pub resolution: i64,
    /// What uploaded it: `sidecar`, `compactor`, `receive`...
    pub source: String,
    /// Its series, in any order.
    pub series: Vec<ForeignSeries>,
}

impl ForeignBlock {
    /// A block of samples that a sidecar uploaded.
    pub fn new(ulid: &str, min_time: i64, max_time: i64, external: &[(&str, &str)]) -> Self {
        Self {
            ulid: ulid.to_owned(),
            min_time,
            max_time,
            level: 1,
            sources: Vec::new(),
            external: pairs(external),
            resolution: 0,
            source: "sidecar".to_owned(),
            series: Vec::new(),
        }
    }

    /// The same as a compactor made it of others.
    pub fn compacted(mut self, level: u32, sources: &[&str]) -> Self {
        self.level = level;
        self.sources = sources.iter().map(|&s| s.to_owned()).collect();
        self.source = "compactor".to_owned();
        self
    }

    /// With a series of floats, in chunks of at most 120 samples.
    pub fn with_floats(mut self, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Self {
        let chunks = samples.chunks(120).map(xor_chunk).collect();
        self.series.push(ForeignSeries { labels: pairs(labels), chunks });
        self
    }

    /// With a series as a downsampler leaves it, of these samples.
    pub fn with_windows(mut self, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Self {
        let chunks = vec![aggregate_chunk(samples, self.resolution)];
        self.series.push(ForeignSeries { labels: pairs(labels), chunks });
        self
    }

    /// The same of native histograms.
    pub fn with_histogram_windows(
        mut self,
        labels: &[(&str, &str)],
        samples: &[(i64, ForeignHistogram)],
    ) -> Self {
        let chunks = vec![histogram_aggregate_chunk(samples, self.resolution)];
        self.series.push(ForeignSeries { labels: pairs(labels), chunks });
        self
    }

    /// Its files, `meta.json` last, as paths within the block.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut series = self.series.clone();
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        let (segment, references) = chunks::segment(&series);
        let index = index::index(&series, &references);
        let meta = self.meta(&series, index.len(), segment.len());
        vec![
            ("chunks/000001".to_owned(), segment),
            ("index".to_owned(), index),
            ("meta.json".to_owned(), meta.into_bytes()),
        ]
    }

    fn meta(&self, series: &[ForeignSeries], index: usize, segment: usize) -> String {
        let own = vec![self.ulid.clone()];
        let sources = if self.sources.is_empty() { &own } else { &self.sources };
        let sources: Vec<String> = sources.iter().map(|s| format!("\"{s}\"")).collect();
        let labels: Vec<String> = self.external.iter().map(|(n, v)| format!("\"{n}\": \"{v}\"")).collect();
        let chunks: usize = series.iter().map(|s| s.chunks.len()).sum();
        let samples: usize = series.iter().flat_map(|s| &s.chunks).map(|c| c.samples).sum();
        format!(
            r#"{{
	"ulid": "{}",
	"minTime": {},
	"maxTime": {},
	"stats": {{"numSamples": {samples}, "numSeries": {}, "numChunks": {chunks}}},
	"compaction": {{"level": {}, "sources": [{}]}},
	"version": 1,
	"thanos": {{
		"version": 1,
		"labels": {{{}}},
		"downsample": {{"resolution": {}}},
		"source": "{}",
		"segment_files": ["000001"],
		"files": [
			{{"rel_path": "chunks/000001", "size_bytes": {segment}}},
			{{"rel_path": "index", "size_bytes": {index}}},
			{{"rel_path": "meta.json"}}
		],
		"index_stats": {{}}
	}}
}}
"#,
            self.ulid,
            self.min_time,
            self.max_time,
            series.len(),
            self.level,
            sources.join(", "),
            labels.join(", "),
            self.resolution,
            self.source,
        )
    }
}

/// `deletion-mark.json` of a block, made at a time in seconds.
pub fn deletion_mark(ulid: &str, at: i64) -> Vec<u8> {
    format!(r#"{{"id":"{ulid}","version":1,"details":"source of compacted block","deletion_time":{at}}}"#)
        .into_bytes()
}

/// `no-compact-mark.json` of a block.
pub fn no_compact_mark(ulid: &str, at: i64) -> Vec<u8> {
    format!(
        r#"{{"id":"{ulid}","version":1,"details":"too large","no_compact_time":{at},"reason":"index-size-exceeding"}}"#
    )
    .into_bytes()
}

/// Objects of a bucket by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ForeignBucket {
    /// Keys and contents, in the order in which they are uploaded.
    pub objects: Vec<(String, Vec<u8>)>,
}

impl ForeignBucket {
    /// Adds a block under a directory ("" for none).
    pub fn add(&mut self, dir: &str, block: &ForeignBlock) -> &mut Self {
        for (name, bytes) in block.files() {
            self.put(&join(dir, &format!("{}/{name}", block.ulid)), bytes);
        }
        self
    }

    /// Adds an object.
    pub fn put(&mut self, key: &str, bytes: Vec<u8>) -> &mut Self {
        self.objects.push((key.to_owned(), bytes));
        self
    }

    /// Writes all of it to a directory.
    pub fn write_to(&self, dir: &Path) -> std::io::Result<()> {
        for (key, bytes) in &self.objects {
            let path = dir.join(key);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(path, bytes)?;
        }
        Ok(())
    }
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    reflected(0x82F6_3B78, bytes)
}

/// A reflected 32-bit CRC with this polynomial.
fn reflected(polynomial: u32, bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ polynomial } else { crc >> 1 };
    !bytes.iter().fold(!0u32, |crc, &b| (0..8).fold(crc ^ u32::from(b), step))
}

fn uvarint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint(value: i64, out: &mut Vec<u8>) {
    uvarint(((value << 1) ^ (value >> 63)) as u64, out);
}

#[cfg(test)]
mod tests;
