//! The budget holds, what is torn is not there, what is asked for stays.

use pyrrha_testkit::SimDisk;

use super::*;

fn cache(disk: &SimDisk, limit: u64) -> DiskCache {
    DiskCache::new(Arc::new(disk.clone()), "/c/pages".into(), limit)
}

fn page(number: u64) -> Bytes {
    (0..PAGE).map(|i| (i * 7 + number) as u8).collect()
}

fn get(cache: &DiskCache, object: &str, page: u64) -> Option<Bytes> {
    cache.get(object, &[page]).pop().flatten()
}

/// Bytes of all files.
fn on_disk(disk: &SimDisk) -> u64 {
    disk.list(Path::new("/c/pages")).expect("no fault").iter().map(|e| e.len).sum()
}

#[test]
fn the_budget_is_hard_and_what_is_asked_for_stays() {
    let disk = SimDisk::new(1);
    let limit = 100 * PAGE;
    let cache = cache(&disk, limit);
    for number in 0..1000 {
        cache.put("a/b", &[(number, page(number))]);
        assert!(on_disk(&disk) <= limit, "{number}");
        assert_eq!(get(&cache, "a/b", 0), Some(page(0)), "{number}");
    }
    assert_eq!(get(&cache, "a/b", 999), Some(page(999)));
    assert_eq!(get(&cache, "a/b", 500), None);
    assert_eq!(get(&cache, "a/c", 999), None);
    assert!(cache.stats().evicted > 800 && cache.stats().bytes as u64 <= limit);
}

#[test]
fn pages_are_there_after_a_restart() {
    let disk = SimDisk::new(1);
    let before = cache(&disk, 100 * PAGE);
    before.put("a", &[(1, page(1)), (2, page(2).slice(..77))]);
    before.put("b", &[(1, page(9))]);
    drop(before);
    let after = cache(&disk, 100 * PAGE);
    assert_eq!(after.get("a", &[1, 2, 3]), [Some(page(1)), Some(page(2).slice(..77)), None]);
    assert_eq!(get(&after, "b", 1), Some(page(9)));
    drop(after);
    // A smaller budget holds at once.
    let small = cache(&disk, PAGE);
    small.put("a", &[(5, page(5))]);
    assert!(on_disk(&disk) <= PAGE);
}

#[test]
fn what_is_damaged_or_torn_is_not_there() {
    let disk = SimDisk::new(1);
    let before = cache(&disk, 100 * PAGE);
    before.put("a", &[(1, page(1)), (2, page(2)), (3, page(3))]);
    drop(before);
    let file = Path::new("/c/pages/0000000000000000.pages");
    disk.flip_bit(file, PAGE + 1000, 2).expect("it is there");
    let opened = disk.open(file).expect("it is there");
    opened.set_len(opened.len().expect("no fault") - 5).expect("no fault");
    let after = cache(&disk, 100 * PAGE);
    assert_eq!(after.get("a", &[1, 2, 3]), [Some(page(1)), None, None]);
    after.put("a", &[(2, page(2)), (3, page(3))]);
    assert_eq!(after.get("a", &[1, 2, 3]), [Some(page(1)), Some(page(2)), Some(page(3))]);
    drop(after);
    // Nothing that is no record makes it fail.
    let garbage: Vec<u8> = (0..5000).map(|i| (i * 31) as u8).collect();
    for name in ["00000000000000ff.pages", "zz.pages", "0000000000000100.pages"] {
        let file = disk.create_new(&Path::new("/c/pages").join(name)).expect("no fault");
        file.write_at(0, if name.starts_with('0') { &garbage } else { b"" }).expect("no fault");
    }
    let last = cache(&disk, 100 * PAGE);
    assert_eq!(get(&last, "a", 1), Some(page(1)));
    last.put("b", &[(1, page(4))]);
    assert_eq!(get(&last, "b", 1), Some(page(4)));
}
