//! Remote write requests, as a sender makes them.

use std::io;

use prost::Message;
use pyrrha_ingest::proto::v1;

use crate::http::{self, Response as Answer};

pub(crate) const PROTOBUF: (&str, &str) = ("Content-Type", "application/x-protobuf");
pub(crate) const SNAPPY: (&str, &str) = ("Content-Encoding", "snappy");

/// One series with its samples (t in ms, value); labels are sent in the order given.
pub(crate) fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> v1::TimeSeries {
    v1::TimeSeries {
        labels: labels.iter().map(|(n, v)| v1::Label { name: (*n).into(), value: (*v).into() }).collect(),
        samples: samples.iter().map(|&(timestamp, value)| v1::Sample { value, timestamp }).collect(),
        ..Default::default()
    }
}

pub(crate) fn body(timeseries: Vec<v1::TimeSeries>) -> Vec<u8> {
    let request = v1::WriteRequest { timeseries, ..Default::default() };
    compress(&request.encode_to_vec())
}

pub(crate) fn compress(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

pub(crate) fn post(address: &str, tenant: &str, body: &[u8]) -> io::Result<Answer> {
    let headers = [PROTOBUF, SNAPPY, ("X-Scope-OrgID", tenant)];
    http::request(address, "POST", "/api/v1/write", &headers, body)
}
