//! Names of the metrics that a relay records through the `metrics` facade. All have the label `route` unless said.

/// Events that a sink accepted. Counter.
pub const PUBLISHED: &str = "outbox_published_total";
/// Outcomes and calls that were not accepted, by label `outcome`: `refused`, `throttled`, `failed`. Counter.
pub const NOT_ACCEPTED: &str = "outbox_not_accepted_total";
/// Calls to a sink. Counter.
pub const CALLS: &str = "outbox_calls_total";
/// Duration of a call to a sink, in seconds. Histogram.
pub const CALL_SECONDS: &str = "outbox_call_seconds";
/// Time from an entry's recording to its acceptance, in seconds. Histogram.
pub const LAG_SECONDS: &str = "outbox_lag_seconds";
/// Events in calls under way. Gauge.
pub const IN_FLIGHT: &str = "outbox_in_flight";
/// Entries not behind the route's checkpoint. Gauge.
pub const BACKLOG: &str = "outbox_backlog_entries";
/// Age of the oldest entry not behind the route's checkpoint, in seconds. Gauge.
pub const OLDEST_SECONDS: &str = "outbox_oldest_unpublished_seconds";
/// 1 while that age is beyond half of the time after which the store deletes an entry, published or not. Gauge.
pub const EXPIRING: &str = "outbox_expiring";
/// Dead letters of the route. Gauge.
pub const DEAD: &str = "outbox_dead_letters";
/// Events that wait behind one of their key. Gauge.
pub const PARKED: &str = "outbox_parked_events";
/// Lanes in trouble. Gauge.
pub const TROUBLED: &str = "outbox_troubled_keys";
/// 1 while the route backs off because its sink as a whole fails. Gauge.
pub const BACKING_OFF: &str = "outbox_backing_off";
/// Checkpoints stored. Counter.
pub const CHECKPOINTS: &str = "outbox_checkpoints_total";
/// Records that a source gave again, of one that does not promise the order of a key; not published again. Counter.
pub const SOURCE_DUPLICATES: &str = "outbox_source_duplicates_total";
/// Records that came so late that later ones of their key were out, and nothing was known of them: published. Counter.
pub const SOURCE_INVERSIONS: &str = "outbox_source_inversions_total";
/// Entries that were fetched because later ones of their key came first. Counter.
pub const SOURCE_FETCHED: &str = "outbox_source_fetched_total";
/// Entries that neither the source nor its table gave, though later ones of their key are there. Counter.
pub const SOURCE_GAPS: &str = "outbox_source_gaps_total";
/// Times that a route read the table again, because its checkpoint was older than what the stream remembers. Counter.
pub const RECOVERIES: &str = "outbox_recoveries_total";
/// Partitions that are closed and do not get on, or that wait too long for those before them. Gauge.
pub const STALLED: &str = "outbox_stalled_partitions";
/// 1 while this relay owns the source. Gauge without labels.
pub const OWNER: &str = "outbox_owner";
/// Entries purged. Counter without labels.
pub const PURGED: &str = "outbox_purged_entries_total";
/// Routes that are registered in the store but not configured; retention waits for them. Gauge without labels.
pub const UNCONFIGURED_ROUTES: &str = "outbox_unconfigured_routes";

/// Those that are set for each route, and for a replay while it is under way.
pub(super) const GAUGES_OF_A_ROUTE: [&str; 9] =
    [IN_FLIGHT, BACKLOG, OLDEST_SECONDS, EXPIRING, DEAD, PARKED, TROUBLED, BACKING_OFF, STALLED];
