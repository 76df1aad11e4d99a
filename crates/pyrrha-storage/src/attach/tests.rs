//! A directory that changes under its reader.

use pyrrha_encoding::encode_series;
use pyrrha_env::SystemClock;
use pyrrha_model::contract::{Ingest, LabelQuery, QueryContext, Queryable, SelectHints, SeriesBatch, Value};
use pyrrha_model::{Labels, Matcher, TimeRange};
use pyrrha_testkit::SimDisk;

use super::*;
use crate::block::{BlockMeta, BlockWriter};
use crate::tsdb::visit_series;
use crate::{Db, StorageConfig};

fn labels(i: u64) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

fn write_block(disk: &Arc<dyn Disk>, home: &Path, number: u64, series: u64, times: [i64; 2]) -> BlockId {
    let id = BlockId::from_parts(number, 1);
    let mut writer = BlockWriter::create(disk.clone(), &home.join(id.to_string())).expect("creates");
    let samples = times.map(|t| (0, t, Value::Float(number as f64)));
    writer.add_series(&labels(series), &encode_series(&samples, false)).expect("adds");
    writer.finish(BlockMeta::of_head(id, times[0], times[1] + 1)).expect("finishes");
    id
}

fn samples(source: &dyn Queryable, tenant: &TenantId) -> Vec<(String, i64, f64)> {
    let mut ctx = QueryContext::unlimited();
    ctx.tenant = tenant.clone();
    let mut found = Vec::new();
    visit_series::<TsdbError>(&ctx, &[source], &[], TimeRange::ALL, |labels, samples| {
        for (_, t, value) in samples {
            let Value::Float(value) = value else { continue };
            found.push((labels.get("i").unwrap_or("").to_owned(), *t, *value));
        }
        Ok(())
    })
    .expect("reads");
    found
}

#[test]
fn blocks_come_and_go_and_damaged_ones_are_left_out() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let home = Path::new("/prometheus");
    disk.create_dir_all(home).expect("creates");
    let attached = Attached::open(disk.clone(), home, TenantId::anonymous()).expect("attaches");
    assert!(attached.blocks().is_empty());
    let first = write_block(&disk, home, 1, 1, [10, 20]);
    let second = write_block(&disk, home, 2, 1, [30, 40]);
    // Half written: no meta.json yet.
    disk.create_dir_all(&home.join(BlockId::from_parts(3, 1).to_string())).expect("creates");
    let refreshed = attached.refresh().expect("lists");
    assert_eq!(refreshed, Refreshed { added: 2, removed: 0, unreadable: 1 });
    let under_way = attached.blocks();
    let inputs: Vec<Block> = under_way.to_vec();
    let merged = BlockId::from_parts(9, 9);
    crate::compact::compact(&disk, home, merged, Default::default(), &inputs, &QueryContext::unlimited())
        .expect("compacts");
    let refreshed = attached.refresh().expect("lists");
    assert_eq!((refreshed.added, refreshed.removed), (1, 2), "the parents are replaced");
    for id in [first, second] {
        disk.remove_dir_all(&home.join(id.to_string())).expect("removes");
    }
    assert_eq!(attached.refresh().expect("lists"), Refreshed { added: 0, removed: 0, unreadable: 1 });
    assert_eq!(under_way.len(), 2, "what reads keeps what it has");
    disk.remove_dir_all(home).expect("removes");
    assert!(attached.refresh().is_err());
    assert_eq!(attached.blocks().len(), 1, "a directory that cannot be listed changes nothing");
}

#[test]
fn a_query_spans_store_and_attached_blocks_of_its_tenant() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let (home, tenant) = (Path::new("/prometheus"), TenantId::new("team").expect("a tenant"));
    write_block(&disk, home, 1, 1, [10, 20]);
    write_block(&disk, home, 2, 3, [10, 20]);
    let before = format!("{:?}", disk.list(home).expect("lists"));
    let attached = Attached::open(disk.clone(), home, tenant.clone()).expect("attaches");
    let clock = Arc::new(SystemClock::new());
    let db = Db::open(StorageConfig::new("/data"), disk.clone(), clock).expect("opens");
    let mut appender = db.appender(&tenant).expect("an appender");
    for (series, t, v) in [(1, 20, 1.0), (1, 30, 100.0), (2, 20, 100.0)] {
        let series = appender.resolve(None, &labels(series)).expect("a series");
        appender.append(series, 0, t, v).expect("admitted");
    }
    appender.commit().expect("commits");
    let spanning = Spanning::new(db.queryable(), vec![Arc::new(attached)]);
    let row = |i: &str, t, v| (i.to_owned(), t, v);
    let expected = [
        row("1", 10, 1.0),
        row("1", 20, 1.0),
        row("1", 30, 100.0),
        row("2", 20, 100.0),
        row("3", 10, 2.0),
        row("3", 20, 2.0),
    ];
    assert_eq!(samples(&spanning, &tenant), expected);
    assert!(samples(&spanning, &TenantId::anonymous()).is_empty());
    let mut ctx = QueryContext::unlimited();
    ctx.tenant = tenant;
    let values = spanning.label_values(&ctx, "i", &LabelQuery::all(TimeRange::ALL)).expect("values");
    assert_eq!(values, ["1", "2", "3"]);
    assert_eq!(
        spanning.label_values(&ctx, "i", &LabelQuery::all(TimeRange::ALL).limited_to(2)).expect("values"),
        ["1", "2"]
    );
    assert_eq!(
        spanning.label_names(&ctx, &LabelQuery::all(TimeRange::ALL)).expect("names"),
        ["__name__", "i"]
    );
    assert_eq!(
        spanning.series(&ctx, &LabelQuery::all(TimeRange::ALL).limited_to(2)).expect("series"),
        [labels(1), labels(2)]
    );
    let only = [Matcher::equal("i", "3")];
    let mut set = spanning.select(&ctx, &only, TimeRange::ALL, &SelectHints::default()).expect("selects");
    let mut batch = SeriesBatch::default();
    assert!(set.next_batch(10, &mut batch).expect("reads") && batch.series.len() == 1);
    let after = format!("{:?}", disk.list(home).expect("lists"));
    assert_eq!(before, after, "nothing is written there");
}
