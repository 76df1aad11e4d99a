//! `pyrrha tsdb`, `import` and `export` beside promtool and a real Prometheus, and what works on buckets over
//! directories and a real S3 server. Skipped, with a word, where these are not on the path.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "tools/backup.rs"]
mod backup;
#[path = "tools/bucket.rs"]
mod bucket;
#[path = "tools/import.rs"]
mod import;
#[path = "tools/look.rs"]
mod look;
#[path = "tools/marks.rs"]
mod marks;
#[path = "tools/migrate.rs"]
mod migrate;
#[path = "tools/place.rs"]
mod place;
#[path = "tools/rewrite.rs"]
mod rewrite;
#[path = "tools/run.rs"]
mod run;
