//! What one request may ask of us.

/// Limits of one request and its series. They bound memory against hostile input; they are not a
/// tenant's quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestLimits {
    /// Most bytes of a request after decompression. Prometheus accepts 32 MiB.
    pub request_bytes_max: usize,
    /// Most bytes that a decoded request may take: an empty message is two bytes in the body and a
    /// hundred in memory.
    pub decoded_bytes_max: usize,
    /// Most labels of a series, its name included.
    pub labels_max: usize,
    /// Longest label name, bytes.
    pub label_name_bytes_max: usize,
    /// Longest label value, bytes.
    pub label_value_bytes_max: usize,
}

impl Default for IngestLimits {
    fn default() -> Self {
        Self {
            request_bytes_max: 32 << 20,
            decoded_bytes_max: 256 << 20,
            labels_max: 256,
            label_name_bytes_max: 4 << 10,
            label_value_bytes_max: 64 << 10,
        }
    }
}
