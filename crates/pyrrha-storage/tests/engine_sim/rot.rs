//! Bits flip in any file while the process is down: found, told, and no more is lost than was hit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_env::Disk;
use pyrrha_model::TimeRange;
use pyrrha_storage::Db;
use pyrrha_storage::tsdb::{verify_block, verify_log_of};
use pyrrha_testkit::SimDisk;

use crate::{Key, Run, TENANTS, tenant};

/// What a flipped bit of a file may cost.
#[derive(Debug, Clone)]
pub(crate) enum Cost {
    /// Nothing: what it says is said elsewhere too, or it only tells what to look at.
    Nothing,
    /// Samples of a tenant in a range.
    Range(usize, TimeRange),
    /// Any samples of a tenant.
    Tenant(usize),
    /// Anything that is in no block, deletes too.
    Log,
    /// The start is refused.
    Start,
}

/// What was on the disk when the process died.
struct Image {
    dirs: Vec<PathBuf>,
    files: Vec<(PathBuf, Vec<u8>, Cost)>,
}

fn visit(disk: &SimDisk, dir: &Path, image: &mut Image, cost: &dyn Fn(&Path) -> Cost) {
    image.dirs.push(dir.to_owned());
    for entry in disk.list(dir).unwrap() {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            visit(disk, &path, image, cost);
        } else {
            image.files.push((path.clone(), disk.read(&path).unwrap().to_vec(), cost(&path)));
        }
    }
}

impl Image {
    fn disk(&self, seed: u64) -> SimDisk {
        let disk = SimDisk::new(seed);
        self.dirs.iter().for_each(|dir| disk.create_dir_all(dir).unwrap());
        for (path, bytes, _) in &self.files {
            disk.create_new(path).and_then(|file| file.write_at(0, bytes)).unwrap();
        }
        disk
    }
}

impl Run {
    /// What a file of the data directory holds.
    fn cost(&self, path: &Path) -> Cost {
        let names: Vec<String> =
            path.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
        let owner = (0..TENANTS).find(|i| names.get(2).is_some_and(|name| *name == format!("t{i}")));
        match (names.get(1).map(String::as_str), owner) {
            (Some("VERSION"), _) => Cost::Start,
            (Some("wal"), _) => Cost::Log,
            (Some("head"), Some(owner)) => Cost::Tenant(owner),
            (Some("bucket"), Some(owner)) => {
                let blocks = self.db().open_blocks(&tenant(owner));
                let block = blocks.iter().find(|b| path.starts_with(b.dir()));
                block.map_or(Cost::Tenant(owner), |b| Cost::Range(owner, b.meta().range()))
            }
            _ => Cost::Nothing,
        }
    }

    /// Flips bits of the image, one after another, each in an image of its own.
    fn rot(&mut self, flips: u64) {
        let mut image = Image { dirs: Vec::new(), files: Vec::new() };
        visit(&self.disk, Path::new("data"), &mut image, &|path| self.cost(path));
        self.db = None;
        let whole: usize = image.files.iter().map(|f| f.1.len().min(2000)).sum();
        for _ in 0..flips {
            // Large files are not hit much more often than small ones.
            let mut at = self.rng.index(whole);
            let chosen = image.files.iter().position(|(_, bytes, _)| {
                let within = at < bytes.len().min(2000);
                at = if within { at } else { at - bytes.len().min(2000) };
                within
            });
            let (path, bytes, cost) = &image.files[chosen.expect("an offset of all of them")];
            let offset = self.rng.index(bytes.len());
            let bit = self.rng.index(8) as u8;
            self.disk = image.disk(self.seed);
            self.disk.flip_bit(path, offset as u64, bit).unwrap();
            self.hurt = vec![cost.clone()];
            let place = format!("{} offset={offset} bit={bit}", path.display());
            self.note(|| place.clone());
            self.check_rot(path, offset as u64, cost, &place);
        }
    }

    fn check_rot(&mut self, path: &Path, offset: u64, cost: &Cost, place: &str) {
        let seed = self.seed;
        let told = self.verify(path, offset);
        let db = match self.try_open() {
            Ok(db) => db,
            Err(error) => {
                // A manifest that cannot be read keeps its tenant from opening.
                assert!(matches!(cost, Cost::Start | Cost::Tenant(_)), "seed {seed} {place}: {error}");
                return;
            }
        };
        let (lost, untold) = self.compare(&db, cost, place);
        let mut lost_any = !lost.is_empty();
        self.note(|| format!("lost {lost:?}"));
        let sound = |db: &Db| {
            let m = db.metrics();
            let damage = m.chunks_damaged.get() + m.blocks_damaged.get() + m.blocks_quarantined.get();
            let log = db.log_damage();
            let torn = log.torn_bytes + db.wal().metrics().torn_bytes.get();
            log.is_clean() && torn == 0 && damage == 0 && db.block_stats().damaged == 0
        };
        assert!(!untold || !sound(&db), "seed {seed} {place}: lost without a word: {lost:?}");
        // Housekeeping does not make it worse.
        self.advance(1900);
        let _ = db.maintain();
        let _ = db.maintain();
        lost_any |= !self.compare(&db, cost, place).0.is_empty();
        // The last record may as well be a write that was not finished, and is told as that.
        let torn = db.log_damage().torn_bytes + db.wal().metrics().torn_bytes.get() > 0;
        assert!(!lost_any || told || torn, "seed {seed} {place}: verify does not find it");
        drop(db);
    }

    /// Whether the tools that look at files find the flipped bit.
    fn verify(&self, path: &Path, offset: u64) -> bool {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let block = path
            .ancestors()
            .find(|dir| ["meta.json", "dense.json"].iter().any(|name| self.disk.exists(&dir.join(name))));
        if let Some(dir) = block {
            let report = verify_block(&*disk, dir);
            let file = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
            // One that is hit where it says what it is may be no such file any more.
            return report.problems.iter().any(|p| file.starts_with(&p.file) || p.file == ".");
        }
        match verify_log_of(&disk, self.clock.clone(), &self.config) {
            Ok(report) => {
                self.note(|| format!("{:?}", report.faults));
                report
                    .faults
                    .iter()
                    .any(|fault| fault.path == path && fault.offset.is_none_or(|at| at <= offset))
            }
            Err(_) => true,
        }
    }

    /// Compares with the model; gives what is lost, and whether the answers do not tell.
    fn compare(&self, db: &Db, cost: &Cost, place: &str) -> (BTreeSet<Key>, bool) {
        let seed = self.seed;
        let (mut all, mut untold) = (BTreeSet::new(), false);
        for owner in 0..TENANTS {
            let may_lose = |key: &Key| match cost {
                Cost::Nothing | Cost::Start => false,
                Cost::Range(of, range) => *of == owner && range.contains(key.2),
                Cost::Tenant(of) => *of == owner,
                Cost::Log => true,
            };
            let (found, gaps) = match self.read(db, owner) {
                Ok(read) => read,
                Err(error) => {
                    let hit = match cost {
                        Cost::Range(of, _) | Cost::Tenant(of) => *of == owner,
                        Cost::Log => true,
                        Cost::Nothing | Cost::Start => false,
                    };
                    assert!(hit, "seed {seed} {place}: {error}");
                    all.extend(self.must(owner));
                    continue;
                }
            };
            let hit = matches!(cost, Cost::Tenant(of) if *of == owner);
            assert!(
                hit || gaps
                    .iter()
                    .all(|gap| matches!(cost, Cost::Range(of, range) if *of == owner && range.overlaps(gap))),
                "seed {seed} {place}: {gaps:?}"
            );
            let lost: BTreeSet<Key> =
                self.must(owner).into_iter().filter(|key| !found.contains_key(key)).collect();
            let wrongly: Vec<_> = lost.iter().filter(|key| !may_lose(key)).collect();
            assert!(wrongly.is_empty(), "seed {seed} {place}: it cost {wrongly:?}");
            let may = self.may(owner);
            let shown: Vec<_> = found.keys().filter(|k| !may.contains(k)).collect();
            // The log is where deletes are.
            let forgotten = matches!(cost, Cost::Log);
            assert!(shown.is_empty() || forgotten, "seed {seed} {place}: shown {shown:?}");
            untold |= lost.iter().any(|key| !gaps.iter().any(|gap| gap.contains(key.2)));
            all.extend(lost);
        }
        (all, untold)
    }
}

#[test]
fn a_flipped_bit_is_found_and_costs_only_what_it_hit() {
    pyrrha_testkit::run_seeds(40, |seed| {
        let mut run = Run::new(seed, false, |config| {
            (config.retention, config.retention_bytes) = (std::time::Duration::ZERO, 0);
        });
        for _ in 0..100 {
            run.step();
        }
        run.clock.set_wall(run.now);
        run.die(true);
        run.rot(40);
    });
}
