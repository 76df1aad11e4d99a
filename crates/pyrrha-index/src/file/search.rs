//! Label matching over an index file.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;

use super::tables::Tables;
use super::{IndexReader, SeriesRow};
use crate::{IndexError, LabelIndex, Postings};

impl LabelIndex for IndexReader {
    fn all(&self) -> Result<Postings<'_>, IndexError> {
        let all = self.ask(|tables| Ok(tables.offsets.all()))?;
        all.map_or(Ok(Postings::EMPTY), |offset| self.list_at(offset))
    }

    fn postings(&self, name: &str, value: &str) -> Result<Postings<'_>, IndexError> {
        let offset = self.ask(|tables| Ok(tables.offsets.get(name, value)?))?;
        offset.map_or(Ok(Postings::EMPTY), |offset| self.list_at(offset))
    }

    fn postings_where<'s>(
        &'s self,
        name: &str,
        prefix: &str,
        keep: &mut dyn FnMut(&str) -> Result<bool, IndexError>,
        found: &mut Vec<Postings<'s>>,
    ) -> Result<(), IndexError> {
        let before = found.len();
        self.ask(|Tables { offsets, .. }| {
            found.truncate(before);
            let Some(entries) = offsets.name(name)? else { return Ok(()) };
            for entry in offsets.values_from(entries, prefix)? {
                let (value, offset) = entry?;
                if !value.starts_with(prefix) {
                    break;
                }
                if keep(value)? {
                    found.push(self.list_at(offset)?);
                }
            }
            Ok(())
        })
    }

    fn names_of(
        &self,
        within: Option<&RoaringBitmap>,
        keep: &mut dyn FnMut() -> Result<(), IndexError>,
    ) -> Result<Vec<String>, IndexError> {
        let names = self.ask(|tables| Ok(tables.offsets.names()?))?;
        let Some(within) = within else { return Ok(names.iter().map(|n| n.name.to_string()).collect()) };
        let mut symbols = BTreeSet::new();
        let mut row = SeriesRow::default();
        for series in within {
            keep()?;
            self.series(series, &mut row)?;
            symbols.extend(row.labels.iter().map(|&(name, _)| name));
            if symbols.len() == names.len() {
                break;
            }
        }
        // References of every version order as their strings do.
        symbols.into_iter().map(|s| self.symbol(s).map(str::to_owned)).collect()
    }

    fn values_of(
        &self,
        name: &str,
        within: Option<&RoaringBitmap>,
        limit: usize,
        keep: &mut dyn FnMut(&str) -> Result<bool, IndexError>,
    ) -> Result<Vec<String>, IndexError> {
        let Some(count) = self.ask(|tables| Ok(tables.offsets.name(name)?.map(|n| n.count)))? else {
            return Ok(Vec::new());
        };
        if let Some(within) = within
            && within.len() < u64::from(count)
        {
            return self.values_in_series(name, within, limit, keep);
        }
        self.ask(|Tables { offsets, .. }| {
            let mut values = Vec::new();
            let Some(entries) = offsets.name(name)? else { return Ok(values) };
            for entry in offsets.values_from(entries, "")? {
                if values.len() >= limit {
                    break;
                }
                let (value, offset) = entry?;
                if keep(value)?
                    && within.map_or(Ok(true), |w| self.list_at(offset).map(|l| l.intersects(w)))?
                {
                    values.push(value.to_owned());
                }
            }
            Ok(values)
        })
    }
}

impl IndexReader {
    /// The values that few series have: reading the series beats reading every value's list.
    fn values_in_series(
        &self,
        name: &str,
        within: &RoaringBitmap,
        limit: usize,
        keep: &mut dyn FnMut(&str) -> Result<bool, IndexError>,
    ) -> Result<Vec<String>, IndexError> {
        let mut symbols = BTreeSet::new();
        let mut row = SeriesRow::default();
        for series in within {
            self.series(series, &mut row)?;
            for &(n, value) in &row.labels {
                if self.symbol(n)? == name && keep(self.symbol(value)?)? {
                    symbols.insert(value);
                }
            }
        }
        symbols.into_iter().take(limit).map(|s| self.symbol(s).map(str::to_owned)).collect()
    }
}
