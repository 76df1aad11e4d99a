use super::*;

fn slot(series: usize) -> Slot<'static> {
    let slot = Slot::default();
    slot.batch.write().series.resize_with(series, Default::default);
    slot.open();
    slot
}

#[test]
fn owner_and_helpers_take_each_series_once() {
    for series in [1, 2, 31, 32, 33, 100, 256] {
        let slot = slot(series);
        let mut seen = vec![0; series];
        while let Some(share) = slot.take() {
            seen[share].iter_mut().for_each(|n| *n += 1);
            if let Some(lent) = slot.lend() {
                seen[lent.series.clone()].iter_mut().for_each(|n| *n += 1);
            }
        }
        assert!(slot.lend().is_none());
        assert_eq!(seen, vec![1; series]);
    }
}

#[test]
fn what_was_lent_comes_back_in_order_and_from_threads_that_panic() {
    let slot = slot(64);
    let failed = |at: usize| Some(Err(QueryError::Execution(at.to_string())));
    for _ in 0..3 {
        let mut lent = slot.lend().expect("a share");
        lent.made = failed(lent.series.start);
    }
    std::thread::scope(|scope| {
        let lent = slot.lend().expect("a share");
        let helper = scope.spawn(move || {
            let _lent = lent;
            panic!("a helper panics");
        });
        let made: Vec<String> = slot.close().filter_map(|made| made.err()).map(|e| e.to_string()).collect();
        assert_eq!(made, ["58", "60", "62"]);
        assert!(helper.join().is_err());
    });
    assert!(slot.take().is_none() && slot.lend().is_none());
}

#[test]
fn more_is_expected_behind_full_batches_and_behind_small_ones_that_had_more_behind_them() {
    let mut batch = SeriesBatch::default();
    let mut helpers = |thread_worth: usize, sizes: [usize; 3]| {
        let options = EngineOptions { threads: 4, thread_worth, ..EngineOptions::default() };
        let mut stream = Stream::new(256);
        sizes.map(|series| {
            batch.series.resize_with(series, Default::default);
            stream.helpers(&batch, &options)
        })
    };
    assert_eq!(helpers(257 * SERIES, [256, 256, 256]), [0, 3, 3]);
    assert_eq!(helpers(257 * SERIES, [256, 44, 0]), [0, 0, 0], "the last one is not worth a thread");
    assert_eq!(helpers(25 * SERIES, [10, 10, 10]), [0, 0, 3], "batches are small here, and many");
}
