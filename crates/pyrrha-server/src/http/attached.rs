//! `GET /api/v1/status/attached`: the buckets of others that queries span, and what is read of them.

use std::collections::BTreeMap;

use axum::response::Response;
use pyrrha_bucket::attach::{AttachedBucket, HiddenBlock, SeenBlock};
use pyrrha_model::{TenantId, rfc3339};
use serde::Serialize;
use serde_json::json;

use super::envelope::{NoticeLists, success};
use super::request::ApiRequest;

/// A bucket as a tenant sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bucket {
    name: String,
    /// When it was looked at last; absent if it could not be yet.
    looked_at: Option<String>,
    looks: u64,
    failed_looks: u64,
    /// Why the last look failed, if it did.
    last_error: Option<String>,
    /// Blocks of the tenant.
    blocks: Vec<Block>,
    /// Blocks that are not read and are the tenant's, or of which it is not known whose they are.
    hidden: Vec<Hidden>,
    /// Blocks of all tenants that are not read, by why.
    hidden_by_reason: BTreeMap<&'static str, usize>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    ulid: String,
    dir: String,
    min_time: i64,
    max_time: i64,
    resolution: i64,
    series: u64,
    samples: u64,
    labels: BTreeMap<String, String>,
    /// Why nobody should merge it, if a mark says so.
    no_compact: Option<String>,
    /// When it was marked for deletion, ms.
    marked_at: Option<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hidden {
    dir: String,
    why: &'static str,
    detail: String,
}

/// `GET /api/v1/status/attached`
pub(crate) async fn attached(request: ApiRequest) -> Response {
    let buckets: Vec<Bucket> =
        request.store.attached_buckets().iter().map(|bucket| show(bucket, &request.tenant)).collect();
    success(&json!({"buckets": buckets}), &NoticeLists::default())
}

fn show(bucket: &AttachedBucket, tenant: &TenantId) -> Bucket {
    let (view, looks) = (bucket.view(), bucket.looks());
    let mine = |hidden: &&HiddenBlock| hidden.tenant.as_ref().is_none_or(|own| own == tenant);
    Bucket {
        name: bucket.name().to_owned(),
        looked_at: (view.looked_at != 0).then(|| rfc3339::format(view.looked_at)),
        looks: looks.done,
        failed_looks: looks.failed,
        last_error: looks.last_error,
        blocks: view.seen.iter().filter(|block| block.tenant == *tenant).map(block).collect(),
        hidden: view.hidden.iter().filter(mine).map(hidden).collect(),
        hidden_by_reason: view.hidden_by_reason(),
    }
}

fn block(seen: &SeenBlock) -> Block {
    Block {
        ulid: seen.entry.ulid.to_string(),
        dir: seen.dir.clone(),
        min_time: seen.entry.min_time,
        max_time: seen.entry.max_time,
        resolution: seen.entry.resolution,
        series: seen.entry.series,
        samples: seen.entry.samples,
        labels: seen.labels.clone(),
        no_compact: seen.no_compact.clone(),
        marked_at: seen.deletion,
    }
}

fn hidden(hidden: &HiddenBlock) -> Hidden {
    Hidden { dir: hidden.dir.clone(), why: hidden.why.word(), detail: hidden.why.to_string() }
}
