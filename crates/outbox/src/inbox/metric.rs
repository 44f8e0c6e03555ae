//! Names of what an inbox counts through the `metrics` facade.

/// Counter: events taken, by `outcome` (the names of [`Applied`](super::Applied)) and `mode`.
pub const EVENTS: &str = "outbox_inbox_events_total";
/// Counter: failures of the inbox store, by `mode`. Nothing is acknowledged while they last.
pub const STORE_FAILURES: &str = "outbox_inbox_store_failures_total";
/// Counter: kept events that a sweep applied, by `mode`.
pub const SWEPT: &str = "outbox_inbox_swept_total";
