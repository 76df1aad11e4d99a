//! Any bytes as a remote write message: no panic; what is stored is what prost reads, and nothing
//! is stored of what prost refuses for more than its UTF-8.
//!
//! Input: `version u8 | protobuf`.
#![no_main]

use std::collections::BTreeSet;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use prost::Message;
use pyrrha_ingest::remote_write::{Protocol, RemoteWriter};
use pyrrha_ingest::{IngestLimits, proto};
use pyrrha_model::TenantId;
use pyrrha_model::contract::Value;
use pyrrha_testkit::ModelDb;

/// Float samples of a message: (time, value bits).
type Floats = Vec<(i64, u64)>;

fn oracle(protocol: Protocol, message: &[u8]) -> Result<Floats, String> {
    let floats = match protocol {
        Protocol::V1 => proto::v1::WriteRequest::decode(message).map(|r| {
            r.timeseries.iter().flat_map(|s| &s.samples).map(|s| (s.timestamp, s.value.to_bits())).collect()
        }),
        Protocol::V2 => proto::v2::Request::decode(message).map(|r| {
            r.timeseries.iter().flat_map(|s| &s.samples).map(|s| (s.timestamp, s.value.to_bits())).collect()
        }),
    };
    floats.map_err(|e| e.to_string())
}

fn writer() -> &'static RemoteWriter {
    static WRITER: OnceLock<RemoteWriter> = OnceLock::new();
    WRITER.get_or_init(|| {
        RemoteWriter::new(IngestLimits { request_bytes_max: 1 << 20, ..IngestLimits::default() })
    })
}

fuzz_target!(|input: &[u8]| {
    let [version, message @ ..] = input else { return };
    let protocol = if version & 1 == 0 { Protocol::V1 } else { Protocol::V2 };
    // The bytes as a compressed body, too.
    let _ = writer().write(&ModelDb::new(), &TenantId::anonymous(), protocol, message);
    let body = snap::raw::Encoder::new().compress_vec(message).expect("small enough");
    let store = ModelDb::new();
    let Ok(outcome) = writer().write(&store, &TenantId::anonymous(), protocol, &body) else {
        assert!(
            store.dump(&TenantId::anonymous()).values().all(Vec::is_empty),
            "an error, and something was stored"
        );
        return;
    };
    let stored: Floats = store
        .dump(&TenantId::anonymous())
        .values()
        .flatten()
        .filter_map(|(_, t, value)| if let Value::Float(v) = value { Some((*t, v.to_bits())) } else { None })
        .collect();
    match oracle(protocol, message) {
        Ok(sent) => {
            let all = outcome.refused().next().is_none();
            assert!(!all || outcome.stats.samples == sent.len() as u64, "{outcome:?} of {sent:?}");
            let sent: BTreeSet<_> = sent.into_iter().collect();
            assert!(stored.iter().all(|s| sent.contains(s)), "{stored:?} of {sent:?}");
        }
        Err(error) => assert!(error.contains("UTF-8"), "{error}: {outcome:?}"),
    }
});
