//! Tests of the list of active queries.

use pyrrha_promql::QueryValue;

use super::*;
use crate::json::ResultEncoder;

fn context(tenant: &str) -> QueryContext {
    let tenant = TenantId::new(tenant).expect("valid");
    QueryContext::new(tenant, MemoryBudget::new("query", 1000, None), CancelToken::default())
}

fn sending(ctx: &QueryContext, last_read: Duration) -> Sending {
    Sending {
        encoder: Box::new(ResultEncoder::new(QueryValue::Vector(Vec::new()), 0, 0, Vec::new())),
        _reservation: Reservation::take(&ctx.budget, 600).expect("fits"),
        last_read,
    }
}

#[test]
fn queries_are_listed_while_they_live_and_cancelled_by_their_tenant_only() {
    let all = Arc::new(ActiveQueries::default());
    let (a, b) = (context("a"), context("b"));
    let one = all.begin(&a, "up", Arc::default(), 5, Duration::ZERO);
    let two = all.begin(&b, &"x".repeat(10_000), Arc::default(), 6, Duration::ZERO);
    assert_eq!(all.list(None).len(), 2);
    let of_b = all.list(Some(&b.tenant));
    assert_eq!((of_b.len(), of_b[0].id, of_b[0].text.len()), (1, two.query.id, TEXT_MAX + 3));
    assert!(!all.cancel(one.query.id, Some(&b.tenant)), "not b's");
    assert_eq!(a.cancel.reason(), None);
    assert!(all.cancel(one.query.id, None));
    assert_eq!(a.cancel.reason(), Some(CancelReason::Canceled));
    let id = one.query.id;
    drop(one);
    assert!(!all.cancel(id, None), "gone");
    assert_eq!(all.list(None).len(), 1);
}

#[test]
fn a_result_that_nobody_reads_is_dropped_with_its_memory() {
    let all = Arc::new(ActiveQueries::default());
    let ctx = context("a");
    let guard = all.begin(&ctx, "up", Arc::default(), 5, Duration::ZERO);
    assert_eq!(guard.query.state(), State::Queued);
    guard.query.run();
    assert_eq!(guard.query.state(), State::Running);
    guard.query.send(sending(&ctx, Duration::from_secs(10)));
    assert_eq!((guard.query.state(), ctx.budget.used()), (State::Sending, 600));
    all.drop_stalled(Duration::from_secs(39), Duration::from_secs(30));
    assert_eq!(ctx.budget.used(), 600, "still patient");
    all.drop_stalled(Duration::from_secs(40), Duration::from_secs(30));
    assert_eq!(ctx.budget.used(), 0);
    assert!(guard.query.with_result(|_| ()).is_none());
}
