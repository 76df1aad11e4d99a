//! The reserve on a disk that fills up.

use pyrrha_testkit::SimDisk;

use super::*;

fn fill(disk: &dyn Disk, name: &str, bytes: u64) -> io::Result<()> {
    disk.create_new(Path::new(name))?.allocate(bytes)
}

#[test]
fn the_reserve_goes_when_room_is_wanted_and_comes_back_when_there_is_room_for_two() {
    let sim = SimDisk::new(1);
    sim.set_capacity(Some(1000));
    sim.create_dir_all(Path::new("data")).expect("creates");
    let (reserve, disk) = Reserve::new(Arc::new(sim.clone()), Path::new("data"), 100);
    reserve.restore();
    assert_eq!((sim.used(), reserve.is_full()), (100, false));
    let before = reserve.failures();
    fill(&*disk, "data/a", 850).expect("fits");
    assert!(!reserve.release_since(before), "nobody wanted room");
    assert!(reserve.check_writable().is_ok());
    assert!(fill(&*disk, "data/b", 100).is_err());
    let refusal = reserve.check_writable().expect_err("full");
    assert_eq!(refusal.kind(), ErrorKind::Unavailable);
    assert!(refusal.to_string().contains("disk is full"), "{refusal}");
    assert!(reserve.release_since(before) && !reserve.release_since(before));
    fill(&*disk, "data/c", 100).expect("fits into the reserve");
    reserve.restore();
    assert!(reserve.is_full(), "there is no room");
    assert!(!disk.exists(&Path::new("data").join(RESERVE_FILE)));
    disk.remove_file(Path::new("data/c")).expect("removes");
    reserve.restore();
    assert!(reserve.is_full(), "there is room for one, not for two");
    sim.set_capacity(Some(1050));
    reserve.restore();
    assert_eq!((sim.used(), reserve.is_full()), (950, false));
    assert_eq!((reserve.released.get(), reserve.refused.get()), (1, 1));
}

#[test]
fn a_reserve_of_an_earlier_run_is_taken_over_and_none_is_wanted_where_it_is_off() {
    let sim = SimDisk::new(1);
    sim.create_dir_all(Path::new("data")).expect("creates");
    fill(&sim, "data/reserve", 300).expect("fits");
    let (reserve, _) = Reserve::new(Arc::new(sim.clone()), Path::new("data"), 100);
    reserve.restore();
    assert_eq!(sim.used(), 100);
    let (off, disk) = Reserve::new(Arc::new(sim.clone()), Path::new("data"), 0);
    sim.set_capacity(Some(100));
    assert!(fill(&*disk, "data/b", 100).is_err() && !off.release_since(0) && off.is_full());
    off.restore();
    assert!(!off.is_full());
}
