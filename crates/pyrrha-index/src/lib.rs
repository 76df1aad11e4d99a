//! Symbols, postings algebra and label matching, in memory and on disk.
