//! Tests of settings: precedence, and errors that name their place.

use std::path::Path;

use super::*;

#[test]
fn everything_has_a_default() {
    let settings = Settings::resolve(Flags::default()).expect("defaults are valid");
    assert_eq!(settings.listen_address, "127.0.0.1:9009");
    assert_eq!(settings.storage_path, Path::new("./data"));
    assert_eq!((settings.query_lookback_ms, settings.query_max_concurrency), (300_000, 20));
    let (query, tenant, process) = (
        settings.query_memory_budget,
        settings.query_tenant_memory_budget,
        settings.query_process_memory_budget,
    );
    assert!(query <= 1 << 30 && query <= process && tenant <= process && query > 0 && tenant > 0);
    assert_eq!((settings.query_log_slower_than, settings.query_log_file.is_none()), (None, true));
    assert!(settings.self_scrape && !settings.wal_strict);
}

#[test]
fn a_flag_wins_over_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pyrrha.yml");
    std::fs::write(&path, "web: {listen_address: 'a:1'}\nquery: {timeout: 7s, memory_budget: 4096}\n")
        .expect("written");
    let flags = Flags { config_file: Some(path), listen_address: Some("b:2".into()), ..Flags::default() };
    let settings = Settings::resolve(flags).expect("valid");
    assert_eq!(settings.listen_address, "b:2");
    assert_eq!(settings.query_timeout, Duration::from_secs(7));
    assert_eq!(settings.query_memory_budget, 4096);
    let flags = Flags {
        query_memory_budget: Some("2GiB".into()),
        query_tenant_memory_budget: Some("3GiB".into()),
        query_process_memory_budget: Some("1GiB".into()),
        query_log_slower_than: Some("1s500ms".into()),
        ..Flags::default()
    };
    let settings = Settings::resolve(flags).expect("valid");
    // Nothing can have more than all.
    assert_eq!((settings.query_memory_budget, settings.query_tenant_memory_budget), (1 << 30, 1 << 30));
    assert_eq!(settings.query_log_slower_than, Some(Duration::from_millis(1500)));
}

#[test]
fn tenants_may_have_limits_of_their_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pyrrha.yml");
    let resolve = |text: &str| {
        std::fs::write(&path, text).expect("written");
        Settings::resolve(Flags { config_file: Some(path.clone()), ..Flags::default() })
    };
    let settings = resolve(
        "limits:\n  a:\n    features: [promql-experimental-functions]\n    query_timeout: 30s\n    \
         query_max_samples: 10\n    query_memory_budget: 1MiB\n    memory_budget: 5000\n  b: {}\n",
    )
    .expect("valid");
    let tenant = |name: &str| pyrrha_model::TenantId::new(name).expect("valid");
    let a = &settings.limits[&tenant("a")];
    assert!(a.features.is_some_and(|f| f.experimental_functions && !f.binop_fill_modifiers));
    assert_eq!((a.query_timeout, a.query_max_samples), (Some(Duration::from_secs(30)), Some(10)));
    assert_eq!((a.query_memory_budget, a.memory_budget), (Some(1 << 20), Some(5000)));
    assert_eq!(settings.limits[&tenant("b")], TenantLimits::default());
    let misspelt = resolve("limits:\n  a: {features: [promql-experimental-function]}\n").expect("only warns");
    assert_eq!(misspelt.limits[&tenant("a")].unknown_features, ["promql-experimental-function"]);
    let both = "a: {features: [otlp-deltatocumulative, otlp-native-delta-ingestion]}";
    for bad in
        [both, "a/b: {}", "a: {query_timeout: soon}", "a: {query_timeout: 0s}", "a: {memory_budget: x}"]
    {
        let error = resolve(&format!("limits:\n  {bad}\n")).expect_err(bad);
        assert!(error.to_string().contains("limits="), "{error}");
    }
}

#[test]
fn an_error_in_the_file_names_line_and_key() {
    for (text, line, part) in [
        ("storage:\n  pth: ./x\n", 2, "pth"),
        ("log:\n  level: loud\n", 2, "loud"),
        ("query:\n  max_samples: many\n", 2, "many"),
        ("nonsense: 1\n", 1, "nonsense"),
    ] {
        let error = file::parse(Path::new("p.yml"), text).expect_err(text);
        let ConfigError::Syntax { line: found, ref message, .. } = error else { panic!("{error}") };
        assert_eq!(found, line, "{error}");
        assert!(message.contains(part) && error.to_string().contains("p.yml"), "{error}");
    }
    assert!(file::parse(Path::new("p.yml"), "# nothing yet\n").is_ok());
}

#[test]
fn a_bad_value_names_the_flag() {
    let flags = Flags { query_timeout: Some("soon".into()), ..Flags::default() };
    let error = Settings::resolve(flags).expect_err("not a duration");
    assert!(error.to_string().contains("query.timeout=\"soon\""), "{error}");
    let flags = Flags { query_memory_budget: Some("-1".into()), ..Flags::default() };
    assert!(Settings::resolve(flags).is_err());
}

#[test]
fn retention_is_set_by_flag_and_file_and_is_none_by_default() {
    let defaults = Settings::resolve(Flags::default()).expect("valid").storage;
    assert!(defaults.retention.is_zero() && defaults.retention_bytes == 0 && defaults.compaction);
    assert!(defaults.index_tables);
    assert_eq!((defaults.disk_reserve_bytes, defaults.retention_text().as_str()), (64 << 20, ""));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pyrrha.yml");
    let text = "storage:\n  tsdb: {retention: {time: 15d, size: 1GB}}\n  compaction: false\n  index_tables: false\n  disk_reserve: 0\n";
    std::fs::write(&path, text).expect("written");
    let flags = |size: Option<&str>| Flags {
        config_file: Some(path.clone()),
        storage: StorageFlags { retention_size: size.map(str::to_owned), ..StorageFlags::default() },
        ..Flags::default()
    };
    let set = Settings::resolve(flags(Some("2GB"))).expect("valid");
    assert_eq!(set.storage.retention_text(), "15d or 2000000000B");
    assert!(!set.storage.compaction && set.storage.disk_reserve_bytes == 0 && !set.storage.index_tables);
    assert!(set.as_flags().contains(&("storage.tsdb.retention.time", "15d".into())));
    let error = Settings::resolve(flags(Some("much"))).expect_err("not a size");
    assert!(error.to_string().contains("storage.tsdb.retention.size=\"much\""), "{error}");
    std::fs::write(&path, "limits: {a: {retention: 1y}, b: {retention: '0'}}").expect("written");
    let own: Vec<_> = Settings::resolve(flags(None)).expect("valid").limits.into_values().collect();
    let seconds: Vec<_> = own.iter().map(|l| l.retention.map(|r| r.as_secs())).collect();
    assert_eq!(seconds, [Some(365 * 24 * 3600), Some(0)]);
    std::fs::write(&path, "storage: {dense: true}\nlimits: {a: {dense: false}, b: {}}").expect("written");
    let settings = Settings::resolve(flags(None)).expect("valid");
    let own: Vec<_> = settings.limits.into_values().map(|limits| limits.dense).collect();
    assert_eq!((settings.storage.dense, own), (true, vec![Some(false), None]));
    let text = "compactor: {retention: {matchers: ['up 7d']}}\nlimits: {a: {bucket_retention_matchers: ['{x=\"y\"} raw=1d', 'z 2d']}, b: {}}";
    std::fs::write(&path, text).expect("written");
    let settings = Settings::resolve(flags(None)).expect("valid");
    assert!(
        settings.as_flags().contains(&("retention.matcher", "{__name__=\"up\"} raw=1w,5m=1w,1h=1w".into()))
    );
    let own = settings.limits.into_values().map(|l| l.bucket_retention_matchers.map(|rules| rules.len()));
    assert_eq!(own.collect::<Vec<_>>(), [Some(2), None]);
    std::fs::write(&path, "limits: {a: {bucket_retention_matchers: ['{} 1d']}}").expect("written");
    assert!(Settings::resolve(flags(None)).is_err());
    std::fs::write(&path, "limits: {a: {retention: long}}").expect("written");
    assert!(Settings::resolve(flags(None)).is_err());
}

#[test]
fn a_bucket_is_mirrored_on_request() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pyrrha.yml");
    std::fs::write(&path, "compactor: {mirror: thanos, delete_delay: 3h}").expect("written");
    let settings = |flag: Option<&str>| {
        let compactor =
            CompactorFlags { objstore_mirror: flag.map(str::to_owned), ..CompactorFlags::default() };
        Settings::resolve(Flags { config_file: Some(path.clone()), compactor, ..Flags::default() })
    };
    let kind = |flag: Option<&str>| {
        let mirror = settings(flag).expect("valid").compactor.mirror();
        mirror.map(|mirror| (mirror.kind.name(), mirror.delete_delay.as_secs()))
    };
    assert_eq!(kind(None), Some(("thanos", 3 * 3600)));
    assert_eq!(kind(Some("mimir")), Some(("mimir", 3 * 3600)));
    assert_eq!(kind(Some("none")), None);
    assert!(settings(None).expect("valid").as_flags().contains(&("objstore.mirror", "thanos".into())));
    let error = settings(Some("cortex")).expect_err("nobody's").to_string();
    assert!(error.contains("objstore.mirror=\"cortex\""), "{error}");
    assert_eq!(Settings::resolve(Flags::default()).expect("valid").compactor.mirror().map(|m| m.kind), None);
    std::fs::write(&path, "compactor: {mirror: thanos}\nfeatures: [st-storage]").expect("written");
    assert!(settings(None).is_err() && settings(Some("mimir")).is_ok(), "Thanos reads no such chunks");
}

#[test]
fn sizes_have_units() {
    assert_eq!(parse_bytes("1.5KiB"), Ok(1536));
    assert_eq!(parse_bytes("20 MB"), Ok(20_000_000));
    for bad in ["", "MB", "0", "1e3", "5XB", "99999999999999999999"] {
        assert!(parse_bytes(bad).is_err(), "{bad}");
    }
}

#[test]
fn flags_are_shown_by_their_names() {
    use clap::Args;
    let command = Flags::augment_args(clap::Command::new("server"));
    let known: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    let shown = Settings::resolve(Flags::default()).expect("defaults are valid").as_flags();
    for (name, _) in &shown {
        assert!(known.contains(name), "{name} is no flag");
    }
    for name in known {
        assert!(shown.iter().any(|(shown, _)| *shown == name), "{name} is not shown");
    }
}

#[test]
fn a_worker_keeps_what_the_servers_of_its_bucket_keep() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pyrrha.yml");
    let text = "storage: {out_of_order_window: 1h}\ncompactor: {retention: {raw: 30d, 5m: 1y}, downsampling: false}\n\
                limits: {a: {bucket_retention: 2y, bucket_retention_matchers: ['x 7d']}}";
    std::fs::write(&path, text).expect("written");
    let day = Duration::from_secs(24 * 3600);
    let worker = |raw: Option<&str>| {
        let compactor = CompactorFlags { retention_raw: raw.map(str::to_owned), ..CompactorFlags::default() };
        let flags = WorkerFlags { settings_file: Some(path.clone()), compactor };
        flags.resolve().expect("valid").config("scratch".into())
    };
    let config = worker(None);
    let server =
        Settings::resolve(Flags { config_file: Some(path.clone()), ..Flags::default() }).expect("valid");
    assert_eq!(config.retention, server.compactor.config("scratch".into()).retention);
    assert_eq!((config.retention.raw, config.leaves.len()), (30 * day, 2));
    let tenant = TenantId::new("a").expect("valid");
    assert_eq!(config.retention.tenants[&tenant], 730 * day);
    assert_eq!(config.retention.tenant_matchers[&tenant].len(), 1);
    // A flag is for all but those whose limits say otherwise.
    let flagged = worker(Some("1d")).retention;
    assert_eq!((flagged.raw, flagged.tenants[&tenant]), (day, 730 * day));
    std::fs::write(&path, "limits: {a: {bucket_retention: long}}").expect("written");
    let flags = WorkerFlags { settings_file: Some(path.clone()), ..WorkerFlags::default() };
    assert!(flags.resolve().is_err());
}
