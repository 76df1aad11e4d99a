//! Thanos' configurations are read as they are; what is wrong is named.

use super::*;

fn variable(name: &str) -> Option<String> {
    match name {
        "KEY" => Some("AKIA: #x".to_owned()),
        "SECRET" => Some("s3cr3t".to_owned()),
        _ => None,
    }
}

fn name_of(text: &str) -> String {
    open_with(text, &variable, Missing::Created).map_or_else(|e| e.to_string(), |b| b.name().to_owned())
}

/// All keys that Thanos documents for S3.
const S3: &str = r#"
type: S3
config:
  bucket: "metrics"
  endpoint: "s3.eu-west-1.amazonaws.com"
  region: ""
  disable_dualstack: false
  aws_sdk_auth: false
  access_key: "${KEY}"
  insecure: false
  signature_version2: false
  secret_key: ${SECRET}
  session_token: ""
  put_user_metadata: {}
  http_config:
    idle_conn_timeout: 1m30s
    response_header_timeout: 2m
    insecure_skip_verify: false
    tls_handshake_timeout: 10s
    expect_continue_timeout: 1s
    max_idle_conns: 100
    max_idle_conns_per_host: 100
    max_conns_per_host: 0
    tls_config:
      ca_file: ""
      cert_file: ""
      key_file: ""
      server_name: ""
      insecure_skip_verify: false
    disable_compression: false
  trace:
    enable: false
  list_objects_version: ""
  bucket_lookup_type: auto
  send_content_md5: true
  disable_multipart: false
  part_size: 67108864
  sse_config:
    type: ""
    kms_key_id: ""
    kms_encryption_context: {}
    encryption_key: ""
  sts_endpoint: ""
  max_retries: 0
prefix: "a/b"
"#;

#[test]
fn full_configurations_of_thanos_are_read() {
    assert_eq!(name_of(S3), "s3://metrics");
    let gcs = "prefix: x\nconfig:\n  bucket: b\n  service_account: ''\n  use_grpc: false\n  max_retries: 0\ntype: GCS\n";
    assert_eq!(name_of(gcs), "gs://b");
    let azure = "type: AZURE\nconfig:\n  storage_account: acc\n  storage_account_key: a2V5\n  container: c\n  endpoint: ''\n  \
                 reader_config:\n    max_retry_requests: 0\n  pipeline_config:\n    max_tries: 0\n    try_timeout: 0s\n";
    assert_eq!(name_of(azure), "azure://acc/c");
    let connection = "type: azure\nconfig:\n  container: c\n  storage_connection_string: \
                      DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5;EndpointSuffix=core.windows.net\n";
    assert_eq!(name_of(connection), "azure://acc/c");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("bucket").display().to_string();
    let text = format!("type: FILESYSTEM\nconfig:\n  directory: {path}\n");
    let refused = open_with(&text, &variable, Missing::Refused).expect_err("it is not there");
    assert!(refused.to_string().contains(&path) && !std::path::Path::new(&path).exists(), "{refused}");
    assert_eq!(name_of(&text), format!("file://{path}"));
    assert!(open_with(&text, &variable, Missing::Refused).is_ok(), "now it is");
}

#[test]
fn what_is_wrong_is_named() {
    for (text, expected) in [
        ("type: S3\nconfig:\n  bucket: b\n  endpint: x\n", "line=4"),
        ("type: S3\nconfig:\n  bucket: b\n  endpint: x\n", "endpint"),
        ("type: S3\nconfig:\n  endpoint: x\n", "config.bucket: is missing"),
        ("type: S3\nconfig:\n  bucket: b\n  endpoint: http://x\n", "config.endpoint: must be a host"),
        ("type: S3\nconfig:\n  bucket: b\n  endpoint: x\n  access_key: a\n", "go together"),
        ("type: S3\nconfig:\n  bucket: ${NOPE}\n  endpoint: x\n", "not set: name=NOPE"),
        ("type: SWIFT\nconfig: {}\n", "type=SWIFT: this store is not supported"),
        ("type: S3\nconfg: {}\n", "confg"),
        ("type: FILESYSTEM\nconfig:\n  directory: ''\n", "config.directory: is missing"),
        ("", "bad bucket configuration"),
    ] {
        let message = name_of(text);
        assert!(message.contains(expected), "{text:?}: {message}");
    }
}

#[test]
fn variables_are_expanded_in_values_only() {
    let expanded = |text: &str| {
        let mut text = text.to_owned();
        expand("k", &mut text, &variable).map(|()| text)
    };
    assert_eq!(expanded("x${SECRET}y${KEY}").expect("set"), "xs3cr3tyAKIA: #x");
    for same in ["a$b$$c", "${open", "$KEY", ""] {
        assert_eq!(expanded(same).expect("nothing to expand"), same);
    }
    assert!(expanded("${}").is_err());
}
