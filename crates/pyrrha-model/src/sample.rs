//! Samples: special values, series references and chunk encodings.

/// Reference to a series inside one head or block. Only valid for the source (and, in a head, the
/// start epoch) that gave it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesRef(pub u64);

/// Bits of the NaN that marks a series as gone stale (Prometheus `value.StaleNaN`).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The stale marker.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `value` is the stale marker, bit for bit.
pub fn is_stale_nan(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// Encoding byte of a chunk, as in Prometheus' chunk files (and Thanos' 0xFF).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ChunkEncoding {
    /// Gorilla XOR floats.
    Xor = 1,
    /// Integer native histograms.
    Histogram = 2,
    /// Float native histograms.
    FloatHistogram = 3,
    /// XOR2 floats, with start timestamps.
    Xor2 = 4,
    /// Integer native histograms with start timestamps.
    HistogramSt = 5,
    /// Float native histograms with start timestamps.
    FloatHistogramSt = 6,
    /// Pyrrha's own floats, in dense blocks only (docs/format/dense.md).
    Dense = 0xD1,
    /// Windows of downsampled samples, Pyrrha's own (docs/format/windows.md).
    Windows = 0xD2,
    /// Thanos' downsampled aggregate of up to five chunks.
    Aggregate = 0xFF,
}

impl ChunkEncoding {
    /// The encoding of a stored byte, if it is one that exists.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Xor,
            2 => Self::Histogram,
            3 => Self::FloatHistogram,
            4 => Self::Xor2,
            5 => Self::HistogramSt,
            6 => Self::FloatHistogramSt,
            0xD1 => Self::Dense,
            0xD2 => Self::Windows,
            0xFF => Self::Aggregate,
            _ => return None,
        })
    }

    /// Whether samples are floats (not histograms, not aggregates).
    pub fn is_float(self) -> bool {
        matches!(self, Self::Xor | Self::Xor2 | Self::Dense)
    }
}
