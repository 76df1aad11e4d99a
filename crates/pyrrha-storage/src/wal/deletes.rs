//! Deletes in the log and in checkpoints: what was deleted, and which samples of the head that hides.

use pyrrha_encoding::DecodeError;
use pyrrha_encoding::column::{MAX_COLUMN, decode_times, decode_u32_column, encode_times, encode_u32_column};
use pyrrha_encoding::varint::{
    put_uvarint, put_varint, take_array, take_count, take_length_prefixed, take_u8, take_uvarint32,
    take_varint,
};
use pyrrha_model::contract::{Delete, DeleteId};
use pyrrha_model::{MatchOp, Matcher, TimeRange, Timestamp};

/// What happens to deletes.
#[derive(Debug, Clone, PartialEq)]
pub enum LogDelete {
    /// A delete comes into force.
    Add {
        /// What is deleted.
        delete: Delete,
        /// For each series of the head that has samples to hide: its reference, and the time of the
        /// last one, ms. Later samples of the series came, or will come, after the delete.
        hidden: Vec<(u32, Timestamp)>,
    },
    /// A delete is in force, as it was logged before; the log has no samples left that it hides.
    Stands(Delete),
    /// A delete was taken back.
    Undo(DeleteId),
    /// A delete can no more be taken back.
    Final(DeleteId),
    /// Nothing is left of what a delete hid.
    Done(DeleteId),
}

const ADD: u8 = 0;
const STANDS: u8 = 1;
const UNDO: u8 = 2;
const FINAL: u8 = 3;
const DONE: u8 = 4;

impl LogDelete {
    /// Bytes it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Add { delete, hidden } => delete_bytes(delete) + hidden.len() * 16,
            Self::Stands(delete) => delete_bytes(delete),
            Self::Undo(_) | Self::Final(_) | Self::Done(_) => 32,
        }
    }

    /// Series whose samples it hides.
    pub(crate) fn hidden_mut(&mut self) -> Option<&mut Vec<(u32, Timestamp)>> {
        match self {
            Self::Add { hidden, .. } => Some(hidden),
            Self::Stands(_) | Self::Undo(_) | Self::Final(_) | Self::Done(_) => None,
        }
    }

    /// The same, to look at.
    pub(crate) fn hidden(&self) -> &[(u32, Timestamp)] {
        match self {
            Self::Add { hidden, .. } => hidden,
            Self::Stands(_) | Self::Undo(_) | Self::Final(_) | Self::Done(_) => &[],
        }
    }
}

fn delete_bytes(delete: &Delete) -> usize {
    let matcher = |m: &Matcher| m.name.len() + m.value.len() + size_of::<Matcher>();
    128 + delete.matcher_sets.iter().flatten().map(matcher).sum::<usize>()
}

pub(super) fn put_deletes(out: &mut Vec<u8>, deletes: &[LogDelete]) {
    put_uvarint(out, deletes.len() as u64);
    for delete in deletes {
        match delete {
            LogDelete::Add { delete, hidden } => {
                out.push(ADD);
                put_delete(out, delete);
                put_hidden(out, hidden);
            }
            LogDelete::Stands(delete) => {
                out.push(STANDS);
                put_delete(out, delete);
            }
            LogDelete::Undo(id) => put_id(out, UNDO, *id),
            LogDelete::Final(id) => put_id(out, FINAL, *id),
            LogDelete::Done(id) => put_id(out, DONE, *id),
        }
    }
}

pub(super) fn take_deletes(mut input: &[u8]) -> Result<Vec<LogDelete>, DecodeError> {
    let input = &mut input;
    let mut deletes = Vec::new();
    for _ in 0..take_count(input, 17)? {
        deletes.push(match take_u8(input)? {
            ADD => LogDelete::Add { delete: take_delete(input)?, hidden: take_hidden(input)? },
            STANDS => LogDelete::Stands(take_delete(input)?),
            UNDO => LogDelete::Undo(take_id(input)?),
            FINAL => LogDelete::Final(take_id(input)?),
            DONE => LogDelete::Done(take_id(input)?),
            _ => return Err(DecodeError::Malformed { part: "kind of delete" }),
        });
    }
    Ok(deletes)
}

fn put_id(out: &mut Vec<u8>, kind: u8, id: DeleteId) {
    out.push(kind);
    out.extend_from_slice(&id.0.to_be_bytes());
}

fn take_id(input: &mut &[u8]) -> Result<DeleteId, DecodeError> {
    Ok(DeleteId(u128::from_be_bytes(take_array(input)?)))
}

/// Appends a delete.
pub(crate) fn put_delete(out: &mut Vec<u8>, delete: &Delete) {
    out.extend_from_slice(&delete.id.0.to_be_bytes());
    put_varint(out, delete.at);
    put_varint(out, delete.range.start);
    put_varint(out, delete.range.end);
    out.push(u8::from(delete.is_final));
    put_uvarint(out, delete.matcher_sets.len() as u64);
    for set in &delete.matcher_sets {
        put_uvarint(out, set.len() as u64);
        for matcher in set {
            out.push(match matcher.op {
                MatchOp::Equal => 0,
                MatchOp::NotEqual => 1,
                MatchOp::Regex => 2,
                MatchOp::NotRegex => 3,
            });
            for text in [&matcher.name, &matcher.value] {
                put_uvarint(out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

/// Reads a delete.
pub(crate) fn take_delete(input: &mut &[u8]) -> Result<Delete, DecodeError> {
    let id = take_id(input)?;
    let at = take_varint(input)?;
    let range = TimeRange::new(take_varint(input)?, take_varint(input)?);
    let is_final = take_u8(input)? != 0;
    let mut matcher_sets = Vec::new();
    for _ in 0..take_count(input, 1)? {
        let mut set = Vec::new();
        for _ in 0..take_count(input, 3)? {
            set.push(take_matcher(input)?);
        }
        matcher_sets.push(set);
    }
    Ok(Delete { id, matcher_sets, range, at, is_final })
}

fn take_matcher(input: &mut &[u8]) -> Result<Matcher, DecodeError> {
    let malformed = || DecodeError::Malformed { part: "matcher" };
    let op = match take_u8(input)? {
        0 => MatchOp::Equal,
        1 => MatchOp::NotEqual,
        2 => MatchOp::Regex,
        3 => MatchOp::NotRegex,
        _ => return Err(malformed()),
    };
    let mut text = || std::str::from_utf8(take_length_prefixed(input)?).map_err(|_| malformed());
    let (name, value) = (text()?, text()?);
    Matcher::new(op, name, value).map_err(|_| malformed())
}

/// Most series that one delete can hide in a head.
pub(crate) const MAX_HIDDEN: usize = MAX_COLUMN;

/// Appends series, at most [`MAX_HIDDEN`], with the times of the last samples that are hidden.
pub(crate) fn put_hidden(out: &mut Vec<u8>, hidden: &[(u32, Timestamp)]) {
    put_uvarint(out, hidden.len() as u64);
    if !hidden.is_empty() {
        encode_u32_column(&hidden.iter().map(|h| h.0).collect::<Vec<_>>(), out);
        encode_times(&hidden.iter().map(|h| h.1).collect::<Vec<_>>(), out);
    }
}

/// Reads what [`put_hidden`] wrote.
pub(crate) fn take_hidden(input: &mut &[u8]) -> Result<Vec<(u32, Timestamp)>, DecodeError> {
    let count = take_uvarint32(input)? as usize;
    if count > MAX_HIDDEN {
        return Err(DecodeError::Malformed { part: "hidden series" });
    }
    let (mut series, mut ends) = (Vec::new(), Vec::new());
    if count > 0 {
        decode_u32_column(input, count, &mut series)?;
        decode_times(input, count, &mut ends)?;
    }
    Ok(series.into_iter().zip(ends).collect())
}
