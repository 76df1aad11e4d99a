//! Block ids: ULIDs, which sort by the time of their making.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

use pyrrha_env::Clock;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

/// Id and directory name of a block: a ULID in its canonical form of 26 upper-case characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(Ulid);

impl BlockId {
    /// A new id: wall clock and 80 random bits.
    pub fn new(clock: &dyn Clock) -> Self {
        let ms = u64::try_from(clock.now_ms()).unwrap_or(0);
        // Each state is keyed with fresh randomness of the operating system.
        let random = || u128::from(RandomState::new().hash_one(ms));
        Self(Ulid::from_parts(ms, random() << 64 | random()))
    }

    /// The id of these parts: 48 bits of time in ms, 80 of randomness.
    pub fn from_parts(ms: u64, random: u128) -> Self {
        Self(Ulid::from_parts(ms, random))
    }

    /// The id as a number, in the same order.
    pub fn number(&self) -> u128 {
        self.0.0
    }

    /// Time of its making by the maker's wall clock, ms since the epoch.
    pub fn timestamp_ms(&self) -> u64 {
        self.0.timestamp_ms()
    }
}

/// A text that is no block id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a block id")]
pub struct NotABlockId;

impl FromStr for BlockId {
    type Err = NotABlockId;

    fn from_str(text: &str) -> Result<Self, NotABlockId> {
        let id = Self(Ulid::from_string(text).map_err(|_| NotABlockId)?);
        // Other spellings of the same number would be other directories.
        if id.to_string() == text { Ok(id) } else { Err(NotABlockId) }
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockId({})", self.0)
    }
}

impl Serialize for BlockId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlockId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_is_an_id() {
        let id = BlockId::from_parts(1_700_000_000_000, 7);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 26);
        assert_eq!(id.timestamp_ms(), 1_700_000_000_000);
        for bad in
            ["", "wal", "../../etc/passwd", &id.to_string().to_lowercase(), "80000000000000000000000000"]
        {
            assert_eq!(bad.parse::<BlockId>(), Err(NotABlockId), "{bad}");
        }
    }
}
