//! The relay in one process, on the backends in memory and on paused time: what flows, who owns the source, what an
//! operator changes, what goes wrong; and what is counted, by the inbox, too.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "relay/expiring.rs"]
mod expiring;
#[path = "relay/frail.rs"]
mod frail;
#[path = "relay/logged.rs"]
mod logged;
#[path = "relay/measured.rs"]
mod measured;
#[path = "relay/rig.rs"]
mod rig;
#[path = "relay/streams.rs"]
mod streams;
#[path = "relay/told.rs"]
mod told;
#[path = "relay/watched.rs"]
mod watched;

#[path = "relay/consumed.rs"]
mod consumed;
#[path = "relay/dead_letters.rs"]
mod dead_letters;
#[path = "relay/erasing.rs"]
mod erasing;
#[path = "relay/failures.rs"]
mod failures;
#[path = "relay/flow.rs"]
mod flow;
#[path = "relay/health.rs"]
mod health;
#[path = "relay/lineage.rs"]
mod lineage;
#[path = "relay/metrics.rs"]
mod metrics;
#[path = "relay/observed.rs"]
mod observed;
#[path = "relay/operator.rs"]
mod operator;
#[path = "relay/ownership.rs"]
mod ownership;
#[path = "relay/recovery.rs"]
mod recovery;
#[path = "relay/replay.rs"]
mod replay;
#[path = "relay/retention.rs"]
mod retention;
#[path = "relay/routes.rs"]
mod routes;
#[path = "relay/stopping.rs"]
mod stopping;
#[path = "relay/stores.rs"]
mod stores;
#[path = "relay/stream_conformance.rs"]
mod stream_conformance;
