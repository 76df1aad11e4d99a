//! A server that takes over a bucket of Thanos, while its sidecars go on uploading.

use pyrrha_testkit::foreign_bucket::{ForeignBlock, ForeignBucket};
use pyrrha_testkit::object_stores::directory_yml;

use crate::bucket::wait_until;
use crate::process::{Server, directory, pyrrha};

const HOUR: i64 = 3_600_000;

fn upload(bucket: &std::path::Path, ulid: &str, cluster: &str) {
    let samples: Vec<(i64, f64)> = (0..120).map(|i| (i * 60_000, i as f64)).collect();
    let block = ForeignBlock::new(ulid, 0, 2 * HOUR, &[("cluster", cluster)]);
    let mut foreign = ForeignBucket::default();
    foreign.add("", &block.with_floats(&[("__name__", "requests_total"), ("job", "api")], &samples));
    foreign.write_to(bucket).unwrap();
}

#[test]
fn what_others_upload_is_adopted_without_a_command() {
    let (_guard, dir) = directory();
    let (bucket, objstore, file) =
        (dir.with_extension("bucket"), dir.with_extension("objstore.yml"), dir.with_extension("pyrrha.yml"));
    upload(&bucket, "01BX5ZZKBKACTAV9WEVGEMMVRZ", "eu");
    std::fs::write(&objstore, directory_yml(&bucket, "")).unwrap();
    let settings = "objstore:\n  adopt:\n    look_every: 1s\n    tenants:\n      \
                    - {labels: {cluster: \"u.\"}, tenant: america}\n";
    std::fs::write(&file, settings).unwrap();
    let flags = [
        format!("--config.file={}", file.display()),
        format!("--objstore.config-file={}", objstore.display()),
        "--objstore.adopt".to_owned(),
        "--self-scrape=false".to_owned(),
        "--downsampling.disable".to_owned(),
    ];
    let server = Server::start(&dir, &flags.each_ref().map(String::as_str));
    let found = |tenant: &str| {
        let answer = server.query(tenant, "count_over_time(requests_total[1h])", 3600.0);
        (answer[0]["metric"]["cluster"].as_str().map(str::to_owned), answer[0]["value"][1].clone())
    };
    let expected = |cluster: &str| (Some(cluster.to_owned()), serde_json::Value::from("60"));
    wait_until("the first block is adopted", || found("anonymous") == expected("eu"));
    upload(&bucket, "01BX5ZZKBKACTAV9WEVGEMMVS0", "us");
    wait_until("what came later is adopted", || found("america") == expected("us"));
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("pyrrha_adopter_blocks_total 2"), "{metrics}");
    let flag = format!("--objstore.config-file={}", objstore.display());
    let listed = pyrrha(&["bucket", "ls", &flag, "--output=json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["total"]["blocks"], 2, "{listed}");
    assert!(server.stop().success());
    let path = format!("--storage.path={}", dir.display());
    let none = pyrrha(&["server", &path, "--web.listen-address=127.0.0.1:0", "--objstore.adopt"]);
    let said = String::from_utf8_lossy(&{ none }.output().unwrap().stderr).into_owned();
    assert!(said.contains("objstore.config-file is not given"), "{said}");
}
