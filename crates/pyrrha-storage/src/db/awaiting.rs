//! Reads while recovery goes on: they wait for what they need of the log, or say what is missing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyrrha_model::contract::{CancelReason, QueryContext};
use pyrrha_model::{ErrorKind, StoreError, TimeRange, Timestamp};

use super::Shared;
use super::tenant::Tenant;

impl Shared {
    /// The tenant of a read of `range`, recovered as far as the read needs it. Waits for recovery
    /// until the query's deadline; if gaps are wanted instead of errors, it says what is missing.
    pub(super) fn readable(
        &self,
        ctx: &QueryContext,
        range: TimeRange,
    ) -> Result<Option<Arc<Tenant>>, StoreError> {
        let Some(missing) = self.unrecovered(ctx, range) else { return Ok(self.tenants.get(&ctx.tenant)) };
        if ctx.partial_response {
            ctx.notices.gap(missing, self.why());
            return Ok(self.tenants.get(&ctx.tenant));
        }
        let ready = || self.unrecovered(ctx, range).is_none();
        if self.recovery.wait_until(ready, || ctx.cancel.reason().is_some()) {
            return Ok(self.tenants.get(&ctx.tenant));
        }
        let kind = match ctx.cancel.reason() {
            Some(CancelReason::TimedOut) => ErrorKind::Timeout,
            Some(CancelReason::Canceled) => ErrorKind::Canceled,
            None => ErrorKind::Unavailable,
        };
        let (tenant, why) = (&ctx.tenant, self.why());
        let text = format!("{why}: tenant={tenant} from={} to={}", missing.start, missing.end);
        Err(StoreError::new(kind, text))
    }

    /// The part of a range of which the log may hold samples that are not replayed yet.
    fn unrecovered(&self, ctx: &QueryContext, range: TimeRange) -> Option<TimeRange> {
        if self.recovery.is_done() || range.is_empty() {
            return None;
        }
        let Some(tenant) = self.tenants.get(&ctx.tenant) else {
            // The log may know a tenant that has no directory yet.
            return (!self.recovery.is_replayed()).then_some(range);
        };
        if tenant.head.is_recovered() {
            return None;
        }
        // The log may say what is deleted of the blocks.
        if self.config.out_of_order_window_ms > 0 || tenant.may_have_deletes.load(Ordering::Acquire) {
            return Some(range);
        }
        let cut = tenant.view.read().head.cut.clone();
        let start = uncovered_from(&cut, range.start);
        (start <= range.end).then(|| TimeRange::new(start, range.end))
    }

    fn why(&self) -> String {
        let status = self.recovery.status();
        format!(
            "the log is being replayed, segment {} of {}..{}",
            status.current_segment, status.first_segment, status.last_segment
        )
    }
}

/// The first time at or after `t` that is in none of the sorted, disjoint ranges.
fn uncovered_from(ranges: &[TimeRange], t: Timestamp) -> Timestamp {
    let mut t = t;
    for range in ranges {
        if range.start > t {
            break;
        }
        t = t.max(range.end.saturating_add(1));
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_blocks_needs_no_log() {
        let ranges = [TimeRange::new(0, 9), TimeRange::new(10, 19), TimeRange::new(30, 39)];
        for (t, expected) in [(-5, -5), (0, 20), (15, 20), (20, 20), (31, 40), (40, 40)] {
            assert_eq!(uncovered_from(&ranges, t), expected, "{t}");
        }
    }
}
