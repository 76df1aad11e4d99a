use super::*;

const P: &str = "dir/file";

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir_all(Path::new("dir")).expect("create");
    disk.sync_dir(Path::new("/")).expect("sync");
    disk
}

fn read(disk: &SimDisk) -> Option<Vec<u8>> {
    disk.read(Path::new(P)).ok().map(|b| b.to_vec())
}

#[test]
fn what_is_synced_survives_every_crash() {
    for seed in 0..200 {
        let disk = disk(seed);
        let file = disk.create_new(Path::new(P)).expect("create");
        file.write_at(0, b"safe").expect("write");
        file.sync_data().expect("sync");
        disk.sync_dir(Path::new("dir")).expect("sync");
        file.write_at(4, b"lost?").expect("write");
        disk.crash();
        let content = read(&disk).expect("a synced name");
        assert_eq!(&content[..4], b"safe", "seed {seed}");
        assert!(file.sync_data().is_err(), "a handle from before the crash is dead");
    }
}

#[test]
fn names_and_bytes_that_are_not_synced_may_be_lost_or_kept() {
    let mut seen = [0; 3];
    for seed in 0..200 {
        let disk = disk(seed);
        let file = disk.create_new(Path::new(P)).expect("create");
        file.write_at(0, b"x").expect("write");
        disk.crash();
        match read(&disk) {
            None => seen[0] += 1,
            Some(bytes) if bytes.contains(&b'x') => seen[1] += 1,
            Some(_) => seen[2] += 1,
        }
    }
    assert!(seen.iter().all(|&n| n > 10), "{seen:?}");
}

#[test]
fn long_writes_tear_between_sectors_and_never_inside() {
    let mut torn = 0;
    for seed in 0..200 {
        let disk = disk(seed);
        let file = disk.create_new(Path::new(P)).expect("create");
        file.allocate(4096).expect("allocate");
        file.sync_data().expect("sync");
        disk.sync_dir(Path::new("dir")).expect("sync");
        file.write_at(100, &[7; 3000]).expect("write");
        disk.crash();
        let content = read(&disk).expect("there");
        assert_eq!(content.len(), 4096);
        let sectors: Vec<bool> = (1..6).map(|i| content[i * 512] == 7).collect();
        for (i, kept) in sectors.iter().enumerate() {
            let expected = if *kept { 7 } else { 0 };
            assert!(content[(i + 1) * 512..(i + 2) * 512].iter().all(|&b| b == expected), "seed {seed}");
        }
        torn += usize::from(sectors.contains(&true) && sectors.contains(&false));
    }
    assert!(torn > 20, "{torn}");
}

#[test]
fn a_failed_sync_is_not_made_good_by_a_second_one() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = disk(seed);
        let file = disk.create_new(Path::new(P)).expect("create");
        disk.sync_dir(Path::new("dir")).expect("sync");
        file.write_at(0, b"x").expect("write");
        disk.fail_op_in(DiskOp::SyncData, 0, Fault::Io);
        assert!(file.sync_data().is_err());
        assert!(file.sync_data().is_ok());
        assert_eq!(read(&disk).as_deref(), Some(&b"x"[..]), "the page cache still has it");
        disk.crash();
        lost += usize::from(read(&disk).as_deref() != Some(b"x"));
    }
    assert!(lost > 20, "{lost}");
}

#[test]
fn renames_replace_whole_or_not_at_all() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..100 {
        let disk = disk(seed);
        for (name, content) in [(P, b"old"), ("dir/temp", b"new")] {
            let file = disk.create_new(Path::new(name)).expect("create");
            file.write_at(0, content).expect("write");
            file.sync_data().expect("sync");
        }
        disk.sync_dir(Path::new("dir")).expect("sync");
        disk.rename(Path::new("dir/temp"), Path::new(P)).expect("rename");
        disk.crash();
        match read(&disk).as_deref() {
            Some(b"old") => old += 1,
            Some(b"new") => new += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(old > 10 && new > 10);
}

#[test]
fn capacity_faults_and_locks() {
    let disk = disk(1);
    let file = disk.create_new(Path::new(P)).expect("create");
    disk.set_capacity(Some(1000));
    file.allocate(600).expect("fits");
    assert_eq!(file.allocate(1200).expect_err("full").kind(), io::ErrorKind::StorageFull);
    file.write_at(0, &[1; 600]).expect("allocated space is there");
    assert_eq!(file.write_at(500, &[1; 600]).expect_err("full").kind(), io::ErrorKind::StorageFull);
    disk.set_capacity(None);
    file.write_at(500, &[1; 600]).expect("space again");

    disk.fail_in(1, Fault::PowerOff);
    assert!(file.len().is_ok());
    assert!(file.len().is_err() && disk.is_off());
    assert!(disk.list(Path::new("dir")).is_err());
    disk.kill();
    assert_eq!(read(&disk).map(|b| b.len()), Some(1100), "a killed process loses nothing written");

    let lock = disk.lock(Path::new("dir/lock")).expect("lock");
    assert_eq!(disk.lock(Path::new("dir/lock")).expect_err("held").kind(), io::ErrorKind::WouldBlock);
    disk.crash();
    let _again = disk.lock(Path::new("dir/lock")).or_else(|_| {
        disk.create_dir_all(Path::new("dir"))?;
        disk.lock(Path::new("dir/lock"))
    });
    drop(lock);
    assert!(disk.lock(Path::new("dir/lock")).is_err(), "a stale guard does not unlock");
}

#[test]
fn bit_flips_stay() {
    let disk = disk(1);
    let file = disk.create_new(Path::new(P)).expect("create");
    file.write_at(0, b"abc").expect("write");
    file.sync_data().expect("sync");
    disk.sync_dir(Path::new("dir")).expect("sync");
    disk.flip_bit(Path::new(P), 1, 0).expect("flip");
    disk.crash();
    assert_eq!(read(&disk).as_deref(), Some(&b"acc"[..]));
    assert!(disk.flip_bit(Path::new(P), 3, 0).is_err());
}

#[test]
fn directories_link_list_and_go() {
    let disk = disk(1);
    disk.create_dir_all(Path::new("dir/a/b")).expect("create");
    disk.create_new(Path::new("dir/a/b/f")).expect("create");
    disk.hard_link(Path::new("dir/a/b/f"), Path::new("dir/g")).expect("link");
    let taken = disk.hard_link(Path::new("dir/a/b/f"), Path::new("dir/g"));
    assert_eq!(taken.expect_err("exists").kind(), io::ErrorKind::AlreadyExists);
    disk.remove_dir_all(Path::new("dir/a")).expect("remove");
    disk.remove_dir_all(Path::new("dir/a")).expect("gone already");
    let names: Vec<_> = disk.list(Path::new("dir")).expect("list").into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["g"]);
    assert!(disk.open(Path::new("dir/a/b/f")).is_err());
    assert!(disk.map(Path::new("dir/g")).expect("map").is_empty());
}
