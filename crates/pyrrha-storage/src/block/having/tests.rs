//! Lists are what the index says, and damage is told.

use pyrrha_index::SymbolPool;
use pyrrha_testkit::SimDisk;

use super::*;

fn file(series: u32) -> (Option<Vec<u8>>, RoaringBitmap) {
    let disk = SimDisk::new(1);
    let mut pool = SymbolPool::new();
    let ids = [pool.intern("job"), pool.intern("pod")];
    let symbols = SortedSymbols::new(pool);
    let ordinals = ids.map(|id| symbols.ordinal(id).expect("known"));
    let mut writer = HavingWriter::default();
    let mut pods = RoaringBitmap::new();
    for i in 0..series {
        let reference = i * 5;
        let has_pod = i % 3 == 0;
        writer.add(reference, ordinals.into_iter().take(1 + usize::from(has_pod)));
        if has_pod {
            pods.insert(reference);
        }
    }
    disk.create_dir_all(Path::new("/b")).expect("no fault");
    writer.write(&disk, Path::new("/b"), &Blame::new(Path::new("/b")), &symbols).expect("no fault");
    let path = Path::new("/b").join(HAVING_FILE);
    (disk.exists(&path).then(|| disk.read(&path).expect("it is there").to_vec()), pods)
}

fn read(file: &[u8]) -> Result<HavingTable, DecodeError> {
    let len = file.len() as u64;
    let trailer = HavingTable::trailer_range(len);
    let range = HavingTable::table_range(&file[trailer.start as usize..], len)?;
    HavingTable::read(&file[range.start as usize..range.end as usize], &range)
}

#[test]
fn lists_say_who_has_a_label() {
    let (file, pods) = file(10_000);
    let file = file.expect("enough series");
    let table = read(&file).expect("sound");
    let list = |name: &str| {
        let range = table.list(name).expect("it is there");
        HavingTable::decode(&file[range.start as usize..range.end as usize]).expect("sound")
    };
    assert_eq!(list("pod"), pods);
    assert_eq!(list("job").len(), 10_000);
    assert_eq!(table.list("nothing"), None);
    // The index has four bytes for each.
    assert!(file.len() < 2 * 10_000, "{}", file.len());
    assert!(file.len() > 100);
}

#[test]
fn small_blocks_have_none() {
    assert_eq!(file(100).0, None);
}

#[test]
fn damage_is_told() {
    let (file, _) = file(3000);
    let file = file.expect("enough series");
    let table = read(&file).expect("sound");
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 0x10;
        let sound = read(&damaged).is_ok_and(|_| {
            ["job", "pod"].iter().all(|name| {
                let range = table.list(name).expect("it is there");
                HavingTable::decode(&damaged[range.start as usize..range.end as usize]).is_ok()
            })
        });
        // What comes before the first list is not read.
        assert!(!sound || at < MAGIC.len(), "{at}");
    }
    for len in 0..40 {
        assert!(read(&file[..len]).is_err());
    }
}
