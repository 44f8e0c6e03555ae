//! What is kept, as metrics: a line in `CloudWatch`'s embedded format.
//!
//! Rule: "Specification: Embedded metric format" of `CloudWatch`'s user guide.

use std::time::Duration;

use jiff::Timestamp;
use outbox::{
    StoreError,
    bookkeeping::{FrontState, Trouble},
    relay::metric,
};
use serde_json::{Value, json};

use super::{
    Parts,
    work::{age, troubles},
};

/// What all routes keep, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    /// Keys in trouble.
    pub troubled: u64,
    /// Events that were given up on.
    pub dead: u64,
    /// Events that wait behind others of their key.
    pub parked: u64,
    /// How long ago that event failed first which has failed for longest: the oldest that is not published, beside what the
    /// stream still holds.
    pub oldest: Duration,
    /// How long ago that was inserted which was first of what the stream held, and no function had been handed, when it was
    /// last looked at.
    pub waiting: Duration,
    /// Routes of which the stream may have forgotten what nobody got.
    pub lost: u64,
    /// Routes that are registered, and not configured: nobody retries what is kept of them.
    pub unconfigured: u64,
}

/// How long entries have waited in the stream that no function is handed; 0 if it holds none, as far as is known.
const NOT_HANDED_IN: &str = "outbox_not_handed_in_seconds";

/// 1 for each route of which the stream may have forgotten what nobody got, until it was published from the table.
const RECOVERIES_NEEDED: &str = "outbox_recoveries_needed";

impl Measures {
    pub(super) async fn of(parts: &Parts) -> Result<Self, StoreError> {
        let now = parts.clock.wall();
        let mut measures = Self { unconfigured: unconfigured(parts).await?, ..Self::default() };
        let replays = parts.bookkeeping.replays().await?;
        for (route, _) in &parts.routes {
            let mark = Box::pin(parts.watermarks.watermark(&route.name)).await?;
            measures.lost += u64::from(mark.loss.is_some());
            measures.waiting = measures.waiting.max(mark.waiting().map_or(Duration::ZERO, |since| age(now, since)));
            // What a replay publishes it keeps under a name of its own, also once it has read all.
            let of_replays = replays.iter().filter(|replay| replay.route == route.name);
            let names = of_replays.map(|replay| route.name.replay(&replay.id)).chain([route.name.clone()]);
            for name in names {
                measures.add(&troubles(parts, &name).await?, now);
            }
        }
        Ok(measures)
    }

    fn add(&mut self, troubles: &[Trouble], now: Timestamp) {
        for trouble in troubles {
            self.troubled += 1;
            self.parked += trouble.kept.saturating_sub(1);
            self.dead += u64::from(trouble.front.state == FrontState::Dead);
            self.oldest = self.oldest.max(age(now, trouble.front.failed_since));
        }
    }

    /// The line that makes metrics of them, for the store called `store`.
    pub fn line(&self, store: &str, now: Timestamp) -> Value {
        let metrics = [
            (metric::OLDEST_SECONDS, "Seconds"),
            (metric::DEAD, "Count"),
            (metric::PARKED, "Count"),
            (metric::TROUBLED, "Count"),
            (NOT_HANDED_IN, "Seconds"),
            (RECOVERIES_NEEDED, "Count"),
            (metric::UNCONFIGURED_ROUTES, "Count"),
        ];
        let metrics: Vec<_> = metrics.iter().map(|(name, unit)| json!({ "Name": name, "Unit": unit })).collect();
        let directive = json!({ "Namespace": "Outbox", "Dimensions": [["store"]], "Metrics": metrics });
        let mut line = json!({
            "_aws": { "Timestamp": now.as_millisecond(), "CloudWatchMetrics": [directive] },
            "store": store,
        });
        line[metric::OLDEST_SECONDS] = self.oldest.as_secs().into();
        line[metric::DEAD] = self.dead.into();
        line[metric::PARKED] = self.parked.into();
        line[metric::TROUBLED] = self.troubled.into();
        line[NOT_HANDED_IN] = self.waiting.as_secs().into();
        line[RECOVERIES_NEEDED] = self.lost.into();
        line[metric::UNCONFIGURED_ROUTES] = self.unconfigured.into();
        line
    }
}

/// How many routes are registered, and not configured. Each is named in the log.
async fn unconfigured(parts: &Parts) -> Result<u64, StoreError> {
    let mut count = 0;
    for registered in parts.store.routes().await? {
        if !parts.routes.iter().any(|(route, _)| route.name == registered.route) {
            count += 1;
            tracing::error!(
                route = %registered.route,
                "registered in the store but not configured: nobody retries what is kept of it; configure it, or run \
                 `outbox route rename` or `outbox route retire`"
            );
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_the_metrics_that_the_alarms_watch() {
        let (oldest, waiting) = (Duration::from_secs(61), Duration::from_mins(15));
        let measures = Measures { troubled: 2, dead: 1, parked: 3, oldest, waiting, lost: 1, unconfigured: 1 };
        let line = measures.line("carts", Timestamp::from_millisecond(1_795_000_000_123).unwrap());
        assert_eq!((&line["outbox_oldest_unpublished_seconds"], &line["outbox_dead_letters"]), (&json!(61), &json!(1)));
        assert_eq!(line["_aws"]["Timestamp"], 1_795_000_000_123_i64);
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["store"]]));
        assert_eq!((&line["store"], &line["outbox_recoveries_needed"]), (&json!("carts"), &json!(1)));
        assert_eq!(
            (&line["outbox_not_handed_in_seconds"], &line["outbox_unconfigured_routes"]),
            (&json!(900), &json!(1))
        );
    }
}
