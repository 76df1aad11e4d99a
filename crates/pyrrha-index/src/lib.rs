//! Symbols, postings algebra and label matching, in memory and on disk.
//!
//! Both the head's index ([`MemIndex`]) and the index file of a block are a [`LabelIndex`]; one
//! algorithm, [`postings_for_matchers`], answers selectors over either.

mod error;
mod file;
mod mem;
mod posting_set;
mod postings;
mod select;
mod sorted_symbols;
mod symbol_pool;

pub use error::IndexError;
pub use file::{
    ChunkMeta, HeaderLayout, IndexHeader, IndexReader, IndexSalvage, IndexStats, IndexWriter, KnownLists,
    SeriesRow, TablesOrigin,
};
pub use mem::{MemIndex, MemPostings};
pub use posting_set::PostingSet;
pub use postings::{Postings, union};
pub use roaring::RoaringBitmap;
pub use select::{LabelIndex, label_names, label_values, postings_for_matchers};
pub use sorted_symbols::SortedSymbols;
pub use symbol_pool::SymbolPool;
