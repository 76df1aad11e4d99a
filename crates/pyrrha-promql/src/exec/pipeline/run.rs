//! Work on the batches of a store, on one thread or several, folded in the order of the store.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};
use pyrrha_model::contract::{SeriesBatch, SeriesEntry, SeriesSet};

use super::shares::{Lent, Made, Slot, Stream};
use super::{BATCH, Fold, Head, Stage, Work, apply};
use crate::annotations::Annotation;
use crate::error::QueryError;
use crate::exec::helpers::Taken;
use crate::exec::table::footprint;
use crate::exec::watch::Reads;
use crate::exec::{Charge, Exec};
use crate::labels::LabelIds;
use crate::value::Series;

/// The work on the batches of a store.
pub(super) struct Run<'r, 'a, F> {
    pub(super) exec: &'a Exec<'a>,
    pub(super) head: &'r (dyn Head + 'a),
    pub(super) stages: &'r [Box<dyn Stage + 'a>],
    pub(super) fold: &'r F,
}

/// Parts that came before their turn.
struct Order<'t, F: Fold> {
    next: usize,
    waiting: BTreeMap<usize, Done<F>>,
    total: &'t mut F::Total,
    failed: Option<QueryError>,
}

type Done<F> = Result<(<F as Fold>::Part, Vec<Annotation>), QueryError>;

/// What the threads of a run share.
struct Crew<'t, 'a, F: Fold> {
    pull: Mutex<Pull>,
    order: Mutex<Order<'t, F>>,
    turn: Condvar,
    stop: AtomicBool,
    /// One for each thread.
    slots: Vec<Slot<'a>>,
}

/// The set, and the index of its next batch; `None` at the end.
struct Pull {
    set: Box<dyn SeriesSet>,
    next: Option<usize>,
}

/// Lets the other threads go if this one panics: they would wait for its batch for ever.
struct Release<'r, 't, 'a, F: Fold>(&'r Crew<'t, 'a, F>);

impl<F: Fold> Drop for Release<'_, '_, '_, F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Under the lock, so that none of them is between looking at the flag and waiting.
            let _order = self.0.order.lock();
            self.0.stop.store(true, Ordering::Relaxed);
            self.0.turn.notify_all();
        }
    }
}

impl<'a, F: Fold> Run<'_, 'a, F> {
    /// Works on all batches of a set, of which `batch` is the first: on this thread, and once more are worth
    /// waking on several.
    pub(super) fn all(
        &self,
        mut set: Box<dyn SeriesSet>,
        mut batch: SeriesBatch,
        total: &mut F::Total,
    ) -> Result<(), QueryError> {
        let mut work = Work::new(self.exec);
        let mut stream = Stream::new(BATCH);
        loop {
            let helpers = self.exec.helpers.take(stream.helpers(&batch, self.exec.options));
            if helpers.count() > 0 {
                drop(work);
                return self.parallel(set, batch, &helpers, total);
            }
            self.exec.charge_symbols()?;
            let mut part = self.fold.begin()?;
            self.own_share(&batch, &batch.series, &mut part, &mut self.head.reads(), &mut work)?;
            self.exec.annotate(work.notes.drain(..));
            self.fold.fold(total, part)?;
            self.exec.watch.begin();
            let more = set.next_batch(BATCH, &mut batch).map_err(QueryError::from_store)?;
            self.exec.watch.lap(self.head.node());
            if !more {
                return Ok(());
            }
        }
    }

    /// With helpers besides this thread.
    fn parallel(
        &self,
        set: Box<dyn SeriesSet>,
        first: SeriesBatch,
        helpers: &Taken<'_>,
        total: &mut F::Total,
    ) -> Result<(), QueryError> {
        let crew = Crew::<F> {
            pull: Mutex::new(Pull { set, next: Some(1) }),
            order: Mutex::new(Order { next: 0, waiting: BTreeMap::new(), total, failed: None }),
            turn: Condvar::new(),
            stop: AtomicBool::new(false),
            slots: (0..=helpers.count()).map(|_| Slot::default()).collect(),
        };
        let [mine, theirs @ ..] = &*crew.slots else { return Ok(()) };
        // Before anyone looks for something to help with.
        *mine.batch.write() = first;
        mine.open();
        let help = |number: usize| {
            if let Some(slot) = theirs.get(number) {
                self.worker(&crew, slot, None);
            }
        };
        helpers.run(help, || self.worker(&crew, mine, Some(0)));
        match crew.order.into_inner().failed {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// One thread: batches as long as there are any, then shares of the others'. `given`: the batch that
    /// its slot holds already.
    fn worker(&self, crew: &Crew<'_, 'a, F>, slot: &Slot<'a>, mut given: Option<usize>) {
        let _release = Release(crew);
        let mut work = Work::new(self.exec);
        loop {
            let index = match given.take() {
                Some(index) => index,
                None => match self.next(crew, slot) {
                    Some(Ok(index)) => index,
                    Some(Err((index, error))) => {
                        self.hand_over(index, Err(error), crew);
                        return;
                    }
                    None => break,
                },
            };
            let done = self.batch(slot, &mut work);
            self.hand_over(index, done, crew);
        }
        while !crew.stop.load(Ordering::Relaxed)
            && let Some(mut lent) = crew.slots.iter().find_map(Slot::lend)
        {
            lent.made = Some(self.help(&lent, &mut work));
        }
    }

    /// Folds a part when its turn comes; waits when it is far ahead, so that few parts are held.
    fn hand_over(&self, index: usize, done: Done<F>, crew: &Crew<'_, 'a, F>) {
        let mut order = crew.order.lock();
        // The thread that holds batch `next` never waits here, so that the others get on.
        while index > order.next + 2 * crew.slots.len() && !crew.stop.load(Ordering::Relaxed) {
            crew.turn.wait(&mut order);
        }
        order.waiting.insert(index, done);
        let order = &mut *order;
        while order.failed.is_none()
            && let Some(done) = order.waiting.remove(&order.next)
        {
            order.next += 1;
            let folded = done.and_then(|(part, notes)| {
                self.exec.annotate(notes);
                self.fold.fold(order.total, part)
            });
            if let Err(error) = folded {
                order.failed = Some(error);
                order.waiting.clear();
                crew.stop.store(true, Ordering::Relaxed);
            }
        }
        crew.turn.notify_all();
    }

    /// The part of a slot's batch.
    fn batch(&self, slot: &Slot<'a>, work: &mut Work<'a>) -> Done<F> {
        let part = self.own_shares(slot, work);
        // What was lent comes back in any case.
        let made = slot.close();
        let mut part = part?;
        for made in made {
            let Made { series, notes: last, charge } = made?;
            for (series, notes) in series {
                work.notes.extend(notes);
                self.fold.add(&mut part, series, &mut work.notes)?;
            }
            work.notes.extend(last);
            drop(charge);
        }
        Ok((part, std::mem::take(&mut work.notes)))
    }

    fn own_shares(&self, slot: &Slot<'a>, work: &mut Work<'a>) -> Result<F::Part, QueryError> {
        self.exec.charge_symbols()?;
        let mut part = self.fold.begin()?;
        let mut reads = self.head.reads();
        let batch = slot.batch.read();
        while let Some(share) = slot.take() {
            self.own_share(&batch, entries(&batch, share), &mut part, &mut reads, work)?;
        }
        Ok(part)
    }

    fn own_share(
        &self,
        batch: &SeriesBatch,
        entries: &[SeriesEntry],
        part: &mut F::Part,
        reads: &mut Reads<'_>,
        work: &mut Work<'a>,
    ) -> Result<(), QueryError> {
        for entry in entries {
            if let Some(series) = self.series(batch, entry, reads, work)? {
                self.fold.add(part, series, &mut work.notes)?;
            }
        }
        Ok(())
    }

    /// What comes of a share of another thread's batch.
    fn help(&self, lent: &Lent<'_, 'a>, work: &mut Work<'a>) -> Result<Made<'a>, QueryError> {
        let mut made = Made { series: Vec::new(), notes: Vec::new(), charge: Charge::new(self.exec) };
        let mut reads = self.head.reads();
        let batch = lent.slot.batch.read();
        for entry in entries(&batch, lent.series.clone()) {
            if let Some(series) = self.series(&batch, entry, &mut reads, work)? {
                made.charge.grow(footprint(std::slice::from_ref(&series)).0, 0)?;
                made.series.push((series, std::mem::take(&mut work.notes)));
            }
        }
        made.notes = std::mem::take(&mut work.notes);
        Ok(made)
    }

    /// What the head and the stages make of a stored series.
    fn series(
        &self,
        batch: &SeriesBatch,
        entry: &SeriesEntry,
        reads: &mut Reads<'_>,
        work: &mut Work<'a>,
    ) -> Result<Option<Series>, QueryError> {
        self.exec.watch.begin();
        work.decode(self.exec, batch, entry, self.head.range(), self.head.want(), reads)?;
        self.exec.watch.lap(self.head.node());
        let samples = std::mem::take(&mut work.samples);
        // Where few labels are needed, many series have the same.
        if work.labels.pairs() != batch.labels_of(entry) {
            work.labels = LabelIds::from_sorted(batch.labels_of(entry));
        }
        let labels = work.labels.clone();
        let series = self.head.series(&samples, labels, work);
        work.samples = samples;
        match series? {
            Some(series) => apply(self.stages, series, &mut work.notes),
            None => Ok(None),
        }
    }

    /// Puts the next batch of the set into a slot and gives its index; an error takes the place of a batch.
    fn next(&self, crew: &Crew<'_, 'a, F>, slot: &Slot<'a>) -> Option<Result<usize, (usize, QueryError)>> {
        if crew.stop.load(Ordering::Relaxed) {
            return None;
        }
        let mut pull = crew.pull.lock();
        let index = pull.next?;
        self.exec.watch.begin();
        let more = pull.set.next_batch(BATCH, &mut slot.batch.write());
        self.exec.watch.lap(self.head.node());
        match more {
            Ok(true) => {
                pull.next = Some(index + 1);
                // Under the lock: whoever finds no further batch shall see all that are worked on.
                slot.open();
                Some(Ok(index))
            }
            Ok(false) => {
                pull.next = None;
                None
            }
            Err(error) => {
                pull.next = None;
                Some(Err((index, QueryError::from_store(error))))
            }
        }
    }
}

/// The series of a share.
fn entries(batch: &SeriesBatch, share: Range<usize>) -> &[SeriesEntry] {
    batch.series.get(share).unwrap_or_default()
}
