//! Which protocol a request speaks, by its headers.

/// A remote write protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `prometheus.WriteRequest`
    V1,
    /// `io.prometheus.write.v2.Request`
    V2,
}

/// Headers that we cannot serve; all mean 415.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// Not `application/x-protobuf`.
    #[error(
        "expected application/x-protobuf as the first (media) part, got {0:?} content-type; send \
         application/x-protobuf, optionally with proto=prometheus.WriteRequest or \
         proto=io.prometheus.write.v2.Request"
    )]
    ContentType(String),
    /// A message type that does not exist.
    #[error(
        "got unknown remote write protobuf message {0:?}; prometheus.WriteRequest and \
         io.prometheus.write.v2.Request are accepted"
    )]
    Message(String),
    /// A parameter without a value.
    #[error(
        "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, got {0:?} in content-type"
    )]
    Parameter(String),
    /// Not snappy.
    #[error("{0} encoding (compression) is not accepted by this server; only snappy is acceptable")]
    ContentEncoding(String),
}

impl Protocol {
    /// Negotiates by `Content-Type` (absent: 1.0) and `Content-Encoding` (absent or empty: snappy).
    pub fn negotiate(
        content_type: Option<&str>,
        content_encoding: Option<&str>,
    ) -> Result<Self, NegotiationError> {
        let protocol = Self::from_content_type(content_type.unwrap_or(""))?;
        match content_encoding.unwrap_or("") {
            "" | "snappy" => Ok(protocol),
            other => Err(NegotiationError::ContentEncoding(other.to_owned())),
        }
    }

    fn from_content_type(content_type: &str) -> Result<Self, NegotiationError> {
        let mut parts = content_type.split(';').map(str::trim);
        match parts.next() {
            None | Some("") => return Ok(Self::V1),
            Some("application/x-protobuf") => {}
            Some(_) => return Err(NegotiationError::ContentType(content_type.to_owned())),
        }
        for part in parts {
            let (key, value) =
                part.split_once('=').ok_or_else(|| NegotiationError::Parameter(part.to_owned()))?;
            if key.trim() == "proto" {
                return match value.trim() {
                    "prometheus.WriteRequest" => Ok(Self::V1),
                    "io.prometheus.write.v2.Request" => Ok(Self::V2),
                    other => Err(NegotiationError::Message(other.to_owned())),
                };
            }
        }
        Ok(Self::V1)
    }
}
