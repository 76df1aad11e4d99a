//! Stores the server's own metrics every 15 s, through the same door as everybody else's.

use std::sync::Arc;
use std::time::Duration;

use pyrrha_ingest::exposition::{self, Format};
use pyrrha_model::contract::{AppendStats, Ingest};
use pyrrha_model::{ErrorKind, Labels, StoreError, TenantId, Timestamp};

use crate::app::App;

const INTERVAL: Duration = Duration::from_secs(15);

/// Scrapes until the server stops.
pub(crate) async fn run(app: Arc<App>, instance: String) {
    let mut tick = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = app.stop.notified() => return,
        }
        let (app, instance) = (app.clone(), instance.clone());
        let round = tokio::task::spawn_blocking(move || {
            let Some(store) = app.store() else { return };
            let text = app.telemetry.render();
            if let Err(error) = scrape(&*store, &text, &instance, app.clock.now_ms()) {
                app.telemetry.self_scrape_failed();
                tracing::warn!(%error, "own metrics could not be stored");
            }
        });
        if round.await.is_err() {
            tracing::error!("storing own metrics panicked");
        }
    }
}

/// Stores exposition text at `now` ms, with the labels of a scrape.
fn scrape(store: &dyn Ingest, text: &str, instance: &str, now: Timestamp) -> Result<AppendStats, StoreError> {
    let exposition = exposition::parse(text, Format::OpenMetrics)
        .map_err(|e| StoreError::new(ErrorKind::Internal, e.to_string()))?;
    let mut appender = store.appender(&TenantId::anonymous())?;
    let target = |labels: &Labels| {
        let mut builder = labels.to_builder();
        builder.set("job", "pyrrha").set("instance", instance);
        builder.build()
    };
    let up = Labels::from_pairs([("__name__", "up")]);
    let samples = exposition.samples.iter().map(|s| (&s.labels, s.value)).chain([(&up, 1.0)]);
    for (labels, value) in samples {
        let stored =
            appender.resolve(None, &target(labels)).and_then(|series| appender.append(series, 0, now, value));
        if let Err(refused) = stored {
            tracing::debug!(%refused, series = %labels, "own metric refused");
        }
    }
    for (metric, metadata) in exposition.metadata {
        appender.append_metadata(&metric, metadata);
    }
    appender.commit()
}

#[cfg(test)]
mod tests {
    use pyrrha_model::contract::{LabelQuery, QueryContext, Queryable};
    use pyrrha_model::{Matcher, TimeRange};
    use pyrrha_testkit::ModelDb;

    use super::*;

    #[test]
    fn own_metrics_become_series_of_job_pyrrha() {
        let db = ModelDb::new();
        let text = crate::telemetry::Telemetry::new().render();
        let stats = scrape(&db, &text, "here:1", 1_000_000).expect("stored");
        assert!(stats.samples > 10, "{stats:?}");
        let ctx = QueryContext::unlimited();
        let wanted = vec![Matcher::equal("__name__", "pyrrha_build_info")];
        let found = db.series(&ctx, &LabelQuery::new([wanted], TimeRange::ALL)).expect("found");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].get("job"), found[0].get("instance")), (Some("pyrrha"), Some("here:1")));
        let metadata = db.metadata(&ctx, None).expect("found");
        assert!(metadata.contains_key("pyrrha_build"), "{metadata:?}");
    }
}
