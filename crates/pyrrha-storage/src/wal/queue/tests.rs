use super::*;

fn batch(tenant: &str, samples: usize) -> LogBatch {
    let mut batch = LogBatch::new(TenantId::new(tenant).expect("valid"));
    batch.refs = vec![0; samples];
    batch
}

fn tenants(group: &Group) -> Vec<&str> {
    group.batches.iter().map(|b| b.tenant.as_str()).collect()
}

#[test]
fn a_loud_tenant_leaves_half_of_a_group_to_others() {
    let mut queue = Queue::default();
    let one = batch("loud", 10).bytes();
    for _ in 0..20 {
        queue.push(batch("loud", 10), usize::MAX).expect("room");
    }
    queue.push(batch("quiet", 10), usize::MAX).expect("room");
    let group = queue.take_group(8 * one);
    assert_eq!(tenants(&group), ["loud", "loud", "loud", "loud", "quiet"]);
    assert_eq!(tenants(&queue.take_group(8 * one)), ["loud"; 8], "alone it gets all");
    assert_eq!((queue.batches, queue.bytes), (8, 8 * one));
    assert_eq!(queue.take_all().batches.len(), 8);
    assert_eq!((queue.batches, queue.bytes), (0, 0));
}

#[test]
fn a_full_queue_turns_away_its_own_tenant_only_until_a_group_is_through() {
    let mut queue = Queue::default();
    let limit = batch("a", 10).bytes() * 2;
    queue.push(batch("a", 10), limit).expect("room");
    queue.push(batch("a", 10), limit).expect("room");
    assert!(matches!(queue.push(batch("a", 1), limit), Err(WalError::QueueFull { .. })));
    queue.push(batch("b", 10_000), limit).expect("one batch is admitted whatever its size");
    let group = queue.take_group(usize::MAX);
    assert_eq!(group.batches.len(), 3);
    assert!(queue.push(batch("a", 1), limit).is_err(), "what is being written still counts");
    queue.release(&group.charged);
    queue.push(batch("a", 1), limit).expect("room again");
}

#[test]
fn a_waiter_that_is_dropped_says_closed() {
    let mut queue = Queue::default();
    let outcome = queue.push(batch("a", 1), usize::MAX).expect("room");
    assert!(outcome.get().is_none());
    drop(queue);
    assert!(matches!(outcome.wait(), Err(WalError::Closed)));
}
