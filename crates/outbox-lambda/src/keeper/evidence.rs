//! Whose fault a failure is that names nobody: it counts against an event only if the sink has accepted others since the
//! failure before. Those others go through the forwarder, which notes that; here it is compared with the failures.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use outbox::{Batch, Clock, Event, Moment, Outcome, RouteName, Sink, SinkError, SinkLimits, relay::RelayHandle};

use super::Parts;

/// How often it is looked for.
const EVERY: Duration = Duration::from_secs(5);

/// What is known of each route's sink, for as long as the process lives.
#[derive(Clone, Default)]
pub(super) struct Evidence(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// When a call of this process failed last, or an event was not accepted.
    failed: BTreeMap<RouteName, Timestamp>,
    looked: Option<Moment>,
}

impl Evidence {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sink, of whose failures it is noted when they were.
    pub(super) fn watch(&self, route: RouteName, sink: Arc<dyn Sink>, clock: Arc<dyn Clock>) -> Arc<dyn Sink> {
        Arc::new(Watched { route, sink, clock, evidence: self.clone() })
    }

    /// Tells the relay of each route whose forwarder had something accepted since this process failed last. Without a failure
    /// before there is nothing to compare with.
    pub(super) async fn give_again(&self, parts: &Parts, relay: &RelayHandle) {
        let (now, looked) = (parts.clock.moment(), self.known().looked);
        if looked.is_none_or(|looked| now.since(looked) >= EVERY) {
            self.give(parts, relay).await;
        }
    }

    /// The same, however short a time ago it was looked: before the first call of an invocation.
    pub(super) async fn give(&self, parts: &Parts, relay: &RelayHandle) {
        let failed = {
            let mut known = self.known();
            known.looked = Some(parts.clock.moment());
            known.failed.clone()
        };
        for (route, failed) in failed {
            match Box::pin(parts.watermarks.watermark(&route)).await {
                Ok(mark) if mark.accepted.is_some_and(|accepted| accepted > failed) => relay.others_accepted(&route),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "whether the forwarder's sink takes events cannot be read now"),
            }
        }
    }
}

struct Watched {
    route: RouteName,
    sink: Arc<dyn Sink>,
    clock: Arc<dyn Clock>,
    evidence: Evidence,
}

#[async_trait]
impl Sink for Watched {
    fn limits(&self) -> SinkLimits {
        self.sink.limits()
    }

    fn size(&self, event: &Event) -> usize {
        self.sink.size(event)
    }

    async fn check(&self) -> Result<(), SinkError> {
        self.sink.check().await
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let result = self.sink.publish(batch).await;
        let is_accepted = |outcomes: &Vec<Outcome>| outcomes.iter().all(|outcome| *outcome == Outcome::Accepted);
        if !result.as_ref().is_ok_and(is_accepted) {
            self.evidence.known().failed.insert(self.route.clone(), self.clock.wall());
        }
        result
    }
}
