//! Reading, and comparing with the model.

use std::collections::{BTreeMap, BTreeSet};

use pyrrha_encoding::chunk::sample_count;
use pyrrha_encoding::{SeriesSamples, Want, decode_series};
use pyrrha_env::Clock;
use pyrrha_model::contract::{Deletes, LabelQuery, QueryContext, SelectHints, SeriesBatch, SeriesSet};
use pyrrha_model::{StoreError, TimeRange};
use pyrrha_storage::Db;

use crate::model::Fate;
use crate::values::{FoundValue, labels, same, value};
use crate::{Key, Run, SERIES, TENANTS, exemplar, metadata, tenant};

pub(crate) type Found = BTreeMap<Key, FoundValue>;

/// A read that goes on while other things happen.
pub(crate) struct Reading {
    pub(crate) owner: usize,
    ctx: QueryContext,
    set: Box<dyn SeriesSet>,
    found: Found,
    pub(crate) must: BTreeSet<Key>,
    pub(crate) may: BTreeSet<Key>,
}

fn context(owner: usize) -> QueryContext {
    QueryContext { tenant: tenant(owner), partial_response: true, ..QueryContext::unlimited() }
}

/// Reads a batch; false at the end.
fn take(
    (seed, once): (u64, bool),
    owner: usize,
    ctx: &QueryContext,
    set: &mut dyn SeriesSet,
    found: &mut Found,
) -> Result<bool, StoreError> {
    let (mut batch, mut samples) = (SeriesBatch::default(), SeriesSamples::default());
    if !set.next_batch(2, &mut batch)? {
        return Ok(false);
    }
    for entry in &batch.series {
        let own = batch.resolve(&ctx.symbols, entry);
        let series = (0..SERIES).find(|&i| labels(i) == own);
        let series = series.unwrap_or_else(|| panic!("seed {seed}: invented series {own:?}"));
        decode_series(entry, TimeRange::ALL, Want::default(), &mut samples)
            .map_err(|e| StoreError::new(pyrrha_model::ErrorKind::Corrupt, e.to_string()))?;
        let SeriesSamples { floats, histograms, .. } = &samples;
        let floats =
            floats.times.iter().zip(&floats.values).map(|(&t, v)| (t, FoundValue::Float(v.to_bits())));
        let histograms = histograms
            .times
            .iter()
            .zip(&histograms.values)
            .map(|(&t, h)| (t, FoundValue::Histogram(Box::new(h.clone()))));
        // A crash between the cut of late samples and the next checkpoint leaves a second copy, beside the
        // block, which readers merge away (ADR 9). Where nothing can come late, there is none.
        let counts = entry.chunks.iter().map(|c| sample_count(c.encoding, &c.bytes));
        if once && entry.deleted.is_empty() {
            let stored: usize = counts.collect::<Result<Vec<_>, _>>().unwrap().into_iter().sum();
            let read = samples.floats.times.len() + samples.histograms.times.len();
            assert_eq!(stored, read, "seed {seed}: a sample of {own:?} is stored twice");
        }
        for (t, v) in floats.chain(histograms) {
            let key = (owner, series, t);
            assert!(same(&v, &value(key)), "seed {seed}: wrong value {key:?}: {v:?} for {:?}", value(key));
            assert!(found.insert(key, v).is_none(), "seed {seed}: twice {key:?}");
        }
    }
    Ok(true)
}

impl Run {
    /// Whether each sample came in order, and no start had to do without a file that says what was cut.
    fn nothing_is_late(&self) -> bool {
        self.config.out_of_order_window_ms == 0 && !self.faults && !self.busy_starts && self.hurt.is_empty()
    }

    fn horizon(&self) -> i64 {
        let retention = self.config.retention.as_millis() as i64;
        if retention == 0 { i64::MIN } else { self.clock.now_ms() - retention }
    }

    /// Samples that have to be shown now.
    pub(crate) fn must(&self, owner: usize) -> BTreeSet<Key> {
        let horizon = self.horizon();
        let shown = |key: &&Key| key.2 >= horizon && self.model.must_show(key);
        self.model.keys_of(owner).filter(shown).copied().collect()
    }

    pub(crate) fn may(&self, owner: usize) -> BTreeSet<Key> {
        let horizon = self.horizon();
        let shown = |key: &&Key| key.2 >= horizon && self.model.may_show(key);
        self.model.keys_of(owner).filter(shown).copied().collect()
    }

    /// Begins a read, or goes on with the one that was begun.
    pub(crate) fn read_on(&mut self) {
        let (seed, once) = (self.seed, self.nothing_is_late());
        let Some(mut reading) = self.reading.take() else {
            let owner = self.rng.index(TENANTS);
            let ctx = context(owner);
            let queryable = self.db().queryable();
            match queryable.select(&ctx, &[], TimeRange::ALL, &SelectHints::default()) {
                Ok(set) if ctx.notices.gaps().is_empty() => {
                    let (must, may) = (self.must(owner), self.may(owner));
                    self.reading = Some(Reading { owner, ctx, set, found: Found::new(), must, may });
                }
                Ok(_) => assert!(self.faults || !self.hurt.is_empty(), "seed {seed}: gaps"),
                Err(error) => assert!(self.faults || !self.hurt.is_empty(), "seed {seed}: {error}"),
            }
            return;
        };
        match take((seed, once), reading.owner, &reading.ctx, &mut *reading.set, &mut reading.found) {
            Ok(true) => self.reading = Some(reading),
            Ok(false) => {
                let (must, may) = (self.must(reading.owner), self.may(reading.owner));
                let lost: Vec<_> =
                    reading.must.intersection(&must).filter(|k| !reading.found.contains_key(k)).collect();
                let known = |k: &&Key| !reading.may.contains(k) && !may.contains(k);
                let shown: Vec<_> = reading.found.keys().filter(known).collect();
                let hurt = !self.hurt.is_empty();
                assert!(hurt || lost.is_empty(), "seed {seed}: a long read lacks {lost:?}");
                assert!(shown.is_empty(), "seed {seed}: a long read shows {shown:?}");
            }
            Err(error) => assert!(self.faults || !self.hurt.is_empty(), "seed {seed}: {error}"),
        }
    }

    /// All samples of a tenant, with the ranges of which the answer says that something is missing.
    pub(crate) fn read(&self, db: &Db, owner: usize) -> Result<(Found, Vec<TimeRange>), StoreError> {
        let ctx = context(owner);
        let mut set = db.queryable().select(&ctx, &[], TimeRange::ALL, &SelectHints::default())?;
        let mut found = Found::new();
        while take((self.seed, self.nothing_is_late()), owner, &ctx, &mut *set, &mut found)? {}
        let gaps = ctx.notices.gaps().into_iter().map(|(range, _)| range).collect();
        Ok((found, gaps))
    }

    /// Compares the samples of a database with the model; false if the disk did not let it.
    pub(crate) fn check_samples(&self, db: &Db, when: &str) -> bool {
        let seed = self.seed;
        for owner in 0..TENANTS {
            let (found, gaps) = match self.read(db, owner) {
                Ok(read) => read,
                Err(error) => {
                    assert!(self.faults, "seed {seed} {when}: {error}");
                    return false;
                }
            };
            assert!(self.faults || gaps.is_empty(), "seed {seed} {when}: {gaps:?}");
            let told = |key: &Key| gaps.iter().any(|gap| gap.contains(key.2));
            let (must, may) = (self.must(owner), self.may(owner));
            let lost: Vec<_> = must.iter().filter(|k| !found.contains_key(k) && !told(k)).collect();
            let shown: Vec<_> = found.keys().filter(|k| !may.contains(k)).collect();
            assert!(lost.is_empty(), "seed {seed} {when}: lost {lost:?}");
            assert!(shown.is_empty(), "seed {seed} {when}: shown {shown:?}");
            if !gaps.is_empty() {
                return false;
            }
        }
        true
    }

    pub(crate) fn check(&mut self, when: &str) {
        if self.check_samples(self.db(), when) {
            self.check_extras(when);
        }
    }

    fn check_extras(&self, when: &str) {
        let (seed, db) = (self.seed, self.db().queryable());
        for owner in 0..TENANTS {
            let ctx = context(owner);
            let Ok(found) = db.exemplars(&ctx, &LabelQuery::all(TimeRange::ALL)) else { continue };
            let mut there = BTreeSet::new();
            for one in &found {
                let series = (0..SERIES).find(|&i| labels(i) == one.series).expect("a series that was sent");
                for e in &one.exemplars {
                    let key = (owner, series, e.timestamp);
                    assert_eq!(*e, exemplar(key), "seed {seed} {when}");
                    assert!(self.model.exemplars.contains_key(&key), "seed {seed} {when}: invented {e:?}");
                    assert!(there.insert(key), "seed {seed} {when}: twice {e:?}");
                }
            }
            let bound = self.horizon().max(self.model.gone_before);
            let lost: Vec<&Key> = self
                .model
                .exemplars
                .iter()
                .filter(|(key, fate)| key.0 == owner && key.2 >= bound && **fate == Fate::Acknowledged)
                .map(|(key, _)| key)
                .filter(|key| !there.contains(key))
                // With the last sample of a block its exemplars go.
                .filter(|key| !self.model.deletes.iter().any(|d| d.owner == owner && d.range.contains(key.2)))
                .collect();
            assert!(lost.is_empty(), "seed {seed} {when}: exemplars lost {lost:?}");
            let Some(may_be) = self.model.metadata.get(&owner) else { continue };
            let found = db.metadata(&ctx, Some("m")).expect("metadata");
            let text = found.get("m").map(|all| all[0].clone());
            let known = may_be.iter().any(|help| match &text {
                Some(text) => *text == metadata(help),
                None => help.is_empty(),
            });
            assert!(known, "seed {seed} {when}: metadata {text:?} of {may_be:?}");
        }
    }

    /// After a restart it is known what became of what was in doubt.
    pub(crate) fn check_restarted(&mut self) {
        self.learn_removed();
        self.in_doubt.clear();
        for owner in 0..TENANTS {
            let standing = self.db().standing_deletes(&tenant(owner)).unwrap();
            self.model.learn_deletes(owner, &standing);
        }
        self.check("after a restart");
        let horizon = self.horizon();
        for owner in 0..TENANTS {
            let Ok((found, gaps)) = self.read(self.db(), owner) else { continue };
            let model = &mut self.model;
            let deletes = &model.deletes;
            model.samples.retain(|key, fate| {
                if key.0 != owner || *fate == Fate::Acknowledged {
                    return true;
                }
                if found.contains_key(key) {
                    *fate = Fate::Acknowledged;
                    return true;
                }
                // It may be hidden, and come back.
                key.2 < horizon
                    || gaps.iter().any(|gap| gap.contains(key.2))
                    || deletes.iter().any(|d| d.owner == owner && d.range.contains(key.2))
            });
        }
    }
}
