//! Lists of the series that have a label at all, which lie beside the index of large blocks.

use pyrrha_encoding::DecodeError;
use pyrrha_index::RoaringBitmap;
use pyrrha_model::StoreError;
use pyrrha_model::contract::QueryContext;
use pyrrha_storage::block::{HAVING_FILE, HavingTable};
use std::collections::HashMap;

use super::block::BucketBlock;
use super::budget::Reserved;
use super::ranges::RangedObject;

/// Largest table: names of labels are few.
const TABLE_MAX: u64 = 8 << 20;

/// The lists of one block.
#[derive(Debug)]
pub(super) struct StoredLists {
    object: RangedObject,
    table: HavingTable,
}

impl StoredLists {
    /// Reads where the lists are; `None` if there are none.
    pub(super) async fn open(block: &BucketBlock, ctx: &QueryContext) -> Result<Option<Self>, StoreError> {
        let Some((object, bytes)) = block.beside(HAVING_FILE) else { return Ok(None) };
        let mut reserved = Reserved::new(ctx, 0)?;
        let trailer = object.one(HavingTable::trailer_range(bytes), &mut reserved).await?;
        let range = HavingTable::table_range(&trailer, bytes).map_err(|e| damaged(block, &e))?;
        if range.end - range.start > TABLE_MAX {
            return Err(block.corrupt(format!("table is too large file={HAVING_FILE}")));
        }
        let table = object.one(range.clone(), &mut reserved).await?;
        let table = HavingTable::read(&table, &range).map_err(|e| damaged(block, &e))?;
        Ok(Some(Self { object, table }))
    }

    /// Reads the lists of `names` into `having`.
    pub(super) async fn read(
        &self,
        block: &BucketBlock,
        names: &[String],
        having: &mut HashMap<String, RoaringBitmap>,
        reserved: &mut Reserved,
    ) -> Result<(), StoreError> {
        let there: Vec<_> = names.iter().filter_map(|name| Some((name, self.table.list(name)?))).collect();
        let ranges: Vec<_> = there.iter().map(|(_, range)| range.clone()).collect();
        let lists = self.object.read(&ranges, reserved).await?;
        for ((name, _), list) in there.into_iter().zip(lists) {
            let list = HavingTable::decode(&list).map_err(|e| damaged(block, &e))?;
            reserved.grow(list.serialized_size() as u64)?;
            having.insert(name.clone(), list);
        }
        for name in names {
            having.entry(name.clone()).or_default();
        }
        Ok(())
    }
}

fn damaged(block: &BucketBlock, error: &DecodeError) -> StoreError {
    block.corrupt(format!("{error} file={HAVING_FILE}"))
}
