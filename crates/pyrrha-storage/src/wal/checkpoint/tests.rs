use pyrrha_testkit::{Fault, SimDisk, SimRng};

use super::*;

const DIR: &str = "data/checkpoints";

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir_all(Path::new("data")).expect("create");
    disk.sync_dir(Path::new("/")).expect("sync");
    disk
}

fn open(disk: &SimDisk) -> Result<Checkpoints, WalError> {
    Checkpoints::open(Arc::new(disk.clone()), Path::new(DIR))
}

/// A checkpoint whose content follows from its position.
fn write(all: &Checkpoints, segment: u64) -> Result<(), WalError> {
    let mut writer = all.begin(LogPosition { segment, offset: 0 }, 1)?;
    for i in 0..segment % 5 {
        writer.section(i as u32, &vec![segment as u8; 100 + 700 * i as usize])?;
    }
    writer.finish()
}

fn check(found: &Checkpoint) {
    let segment = found.position.segment;
    assert_eq!(found.sections.len() as u64, segment % 5);
    for (i, (kind, payload)) in found.sections.iter().enumerate() {
        assert_eq!((*kind as usize, payload.len()), (i, 100 + 700 * i));
        assert!(payload.iter().all(|&b| b == segment as u8));
    }
}

#[test]
fn crashes_leave_the_new_one_or_the_one_before() {
    for seed in 0..500 {
        let mut rng = SimRng::new(seed);
        let disk = disk(seed);
        let (mut written, mut tried) = (0, 0);
        for _ in 0..6 {
            if rng.percent(70) {
                disk.fail_in(rng.below(40), if rng.percent(50) { Fault::PowerOff } else { Fault::Io });
            }
            if let Ok(all) = open(&disk) {
                for _ in 0..rng.below(4) {
                    tried += 1;
                    if write(&all, tried).is_ok() {
                        written = tried;
                    }
                }
            }
            disk.crash();
            let found = open(&disk).and_then(|all| all.latest()).expect("a healthy disk");
            let at = found.as_ref().map_or(0, |c| c.position.segment);
            assert!((written..=tried).contains(&at), "seed {seed}: {at} of {written}..={tried}");
            found.iter().for_each(check);
            written = at;
        }
    }
}

#[test]
fn any_flipped_bit_costs_one_checkpoint_and_never_gives_a_wrong_one() {
    let disk = disk(1);
    let all = open(&disk).expect("open");
    (1..=4).for_each(|n| write(&all, n).expect("write"));
    assert_eq!(all.numbers().expect("list"), [2, 3]);
    assert_eq!(all.log_needed_from().expect("read").map(|p| p.segment), Some(3));
    let path = all.path(3);
    let len = disk.read(&path).expect("read").len() as u64;
    let mut rng = SimRng::new(9);
    let mut older = 0;
    for _ in 0..2000 {
        let (offset, bit) = (rng.below(len), rng.below(8) as u8);
        disk.flip_bit(&path, offset, bit).expect("flip");
        let found = all.latest().expect("readable").expect("at least the older one");
        check(&found);
        older += u32::from(found.position.segment == 3);
        disk.flip_bit(&path, offset, bit).expect("flip back");
    }
    // Only padding may be flipped without harm.
    assert!(older > 1950, "{older}");
    assert_eq!(all.latest().expect("readable").map(|c| c.position.segment), Some(4));
}

#[test]
fn a_newer_format_is_refused_with_its_version() {
    let disk = disk(1);
    let all = open(&disk).expect("open");
    write(&all, 1).expect("write");
    let mut header = disk.read(&all.path(0)).expect("read")[..HEADER - 4].to_vec();
    header[8] = 9;
    let crc = crc32c::crc32c(&header).to_le_bytes();
    disk.poke(&all.path(0), 8, 9).expect("poke");
    for (i, byte) in crc.into_iter().enumerate() {
        disk.poke(&all.path(0), (HEADER - 4 + i) as u64, byte).expect("poke");
    }
    assert!(matches!(all.latest(), Err(WalError::Version { found: 9, .. })));
}
