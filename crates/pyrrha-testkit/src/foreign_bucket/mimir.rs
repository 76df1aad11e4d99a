//! Mimir's bucket index, packed as a gzip file of stored blocks.

use super::reflected;

/// A block as the bucket index names it.
#[derive(Debug, Clone)]
pub struct IndexedBlock {
    /// Its id.
    pub ulid: String,
    /// First millisecond.
    pub min_time: i64,
    /// The millisecond after the last.
    pub max_time: i64,
    /// When it was uploaded, seconds.
    pub uploaded_at: i64,
    /// `i_of_N`, if it is one of several shards.
    pub shard: Option<String>,
    /// When it was marked for deletion, seconds, if it was.
    pub deleted_at: Option<i64>,
}

/// `bucket-index.json.gz`, written at a time in seconds.
pub fn bucket_index(blocks: &[IndexedBlock], updated_at: i64) -> Vec<u8> {
    let entry = |b: &IndexedBlock| {
        let shard = b.shard.as_ref().map(|s| format!(r#","compactor_shard_id":"{s}""#)).unwrap_or_default();
        format!(
            r#"{{"block_id":"{}","min_time":{},"max_time":{},"segments_format":"1b6d","segments_num":1,"uploaded_at":{}{shard}}}"#,
            b.ulid, b.min_time, b.max_time, b.uploaded_at
        )
    };
    let mark = |b: &IndexedBlock| {
        b.deleted_at.map(|at| format!(r#"{{"block_id":"{}","deletion_time":{at}}}"#, b.ulid))
    };
    let entries: Vec<String> = blocks.iter().map(entry).collect();
    let marks: Vec<String> = blocks.iter().filter_map(mark).collect();
    let json = format!(
        r#"{{"version":2,"blocks":[{}],"block_deletion_marks":[{}],"updated_at":{updated_at}}}"#,
        entries.join(","),
        marks.join(",")
    );
    gzip(json.as_bytes())
}

/// A gzip file that holds the bytes as they are.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let pieces: Vec<&[u8]> = if bytes.is_empty() { vec![&[]] } else { bytes.chunks(0xffff).collect() };
    for (i, piece) in pieces.iter().enumerate() {
        out.push(u8::from(i + 1 == pieces.len()));
        out.extend_from_slice(&(piece.len() as u16).to_le_bytes());
        out.extend_from_slice(&(!(piece.len() as u16)).to_le_bytes());
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(&reflected(0xEDB8_8320, bytes).to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out
}
