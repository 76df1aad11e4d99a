use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;

use parking_lot::Mutex;

use super::*;

#[test]
fn helpers_are_shared_and_come_back() {
    let helpers = Helpers::new(2);
    let first = helpers.take(1);
    let second = helpers.take(8);
    assert_eq!((first.count(), second.count(), helpers.take(1).count()), (1, 3, 0));
    drop(second);
    assert_eq!(helpers.take(2).count(), 2);
    assert_eq!(Helpers::new(1).take(1).count(), 0, "one thread is the caller's");
    assert_eq!(helpers.take(0).count(), 0);
}

#[test]
fn all_work_at_once_and_run_waits_for_all() {
    let helpers = Helpers::new(2);
    for _ in 0..100 {
        let taken = helpers.take(3);
        let (seen, barrier) = (Mutex::new(Vec::new()), Barrier::new(4));
        let work = |number: usize| {
            // Nobody passes before all are here.
            barrier.wait();
            seen.lock().push(number);
        };
        taken.run(work, || work(3));
        let mut seen = seen.into_inner();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3]);
    }
}

#[test]
fn a_panic_goes_on_where_the_helpers_were_taken_and_they_help_again() {
    let helpers = Helpers::new(2);
    let taken = helpers.take(1);
    let run = || taken.run(|_| panic!("a helper panics"), || {});
    assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
    drop(taken);
    let done = Mutex::new(false);
    helpers.take(4).run(|number| *done.lock() |= number == 3, || {});
    assert!(done.into_inner());
}
