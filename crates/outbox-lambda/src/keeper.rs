//! The keeper: retries and redrives what the forwarders keep, and carries out replays, within one invocation of a timer's.
//!
//! It is a relay that reads no stream. While there is nothing to do it takes no lease and publishes nothing; else it takes
//! the relay's lease, works until nothing is due before its deadline, drains, and gives the lease back. So an operator's
//! orders (`outbox dead-letters redrive`, `discard`, `outbox replay`) are carried out within the timer's period.

use std::{sync::Arc, time::Duration};

use outbox::{
    BusinessStore, Clock, Moment, Operator, Relay, RouteSettings, Sink, Source, StoreError, bookkeeping::Checkpoint,
    relay::RelayError,
};
use outbox_aws::dynamodb::{DynamoBookkeeping, StreamsSource};
use serde::Serialize;
use tokio::time::{sleep, timeout};

mod evidence;
mod measures;
mod stream;
mod takeover;
mod tombstones;
mod work;

use evidence::Evidence;
pub use measures::Measures;
use work::Work;

/// How often it is looked whether there is still something to do.
const LOOK: Duration = Duration::from_millis(500);

/// Everything that a keeper works with.
#[derive(Clone)]
pub struct Parts {
    /// What the lease is called.
    pub lease: String,
    /// How long the lease stands still before somebody else takes it.
    pub failover: Duration,
    /// The routes, each with its sink.
    pub routes: Vec<(RouteSettings, Arc<dyn Sink>)>,
    /// The service's tables.
    pub store: Arc<dyn BusinessStore>,
    /// What replays read: never the stream.
    pub history: Arc<dyn Source>,
    /// Of a route whose events forwarders publish, the checkpoint in the partition of `history`: at its end, and finished.
    pub published_elsewhere: Checkpoint,
    /// What is kept.
    pub bookkeeping: Arc<dyn Operator>,
    /// Where forwarders note how far they are.
    pub watermarks: DynamoBookkeeping,
    /// The stream, which is only compared with that.
    pub stream: StreamsSource,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// What an invocation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// There was nothing to do.
    Idle,
    /// All that was due is done.
    Done,
    /// Something is left for the next invocation.
    Left,
    /// Somebody else had the lease all the time.
    StoodBy,
}

/// Carries out what is due; lives as long as the function's process. See the [module](self).
pub struct Keeper {
    parts: Parts,
    evidence: Evidence,
}

impl Keeper {
    /// A keeper with these parts. Looks at nothing yet.
    pub fn new(mut parts: Parts) -> Self {
        let evidence = Evidence::default();
        for (route, sink) in &mut parts.routes {
            *sink = evidence.watch(route.name.clone(), sink.clone(), parts.clock.clone());
        }
        Self { parts, evidence }
    }

    /// Does what is due before `deadline`.
    ///
    /// *Cancellation*: as if the function had died: nothing is lost, what was in flight is published again, and the next
    /// invocation waits for the lease to stand still for its failover time.
    ///
    /// # Errors
    /// [`RelayError`] if it cannot go on: another history, another owner of the store, tables of another version.
    pub async fn keep(&self, deadline: Moment) -> Result<Kept, RelayError> {
        let left = deadline.since(self.parts.clock.moment());
        let stop = deadline.before((left / 4).min(Duration::from_secs(10)));
        self.prepare(stop).await?;
        let work = Work::new(&self.parts);
        if !work.is_due(stop).await? {
            return Ok(Kept::Idle);
        }
        let relay = self.relay(deadline.since(stop) / 2)?;
        let handle = relay.handle();
        let mut owned = false;
        self.evidence.give(&self.parts, &handle).await;
        let until = async {
            while self.parts.clock.moment() < stop {
                sleep(LOOK).await;
                owned |= handle.status().owner;
                self.evidence.give_again(&self.parts, &handle).await;
                match work.is_due(stop).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => tracing::warn!(%error, "what is due cannot be read now; trying again"),
                }
            }
        };
        relay.run(until).await?;
        Ok(match (owned, work.is_due(self.parts.clock.moment()).await?) {
            (false, true) => Kept::StoodBy,
            (_, true) => Kept::Left,
            (_, false) => Kept::Done,
        })
    }

    /// Compares the stream with what forwarders have noted, once an hour: what it holds and nobody was handed for 20 hours, or
    /// may have forgotten, is an error in the log, and noted for `outbox status` and [`measures`](Self::measures). Takes half of
    /// the time before `deadline`, so that those can be told.
    ///
    /// # Errors
    /// As the bookkeeping gave it. A stream that cannot be read is only warned about, and so is one that is not read in time: in
    /// an hour there is another look.
    pub async fn look_at_stream(&self, deadline: Moment) -> Result<(), StoreError> {
        let now = self.parts.clock.moment();
        let time = deadline.since(now) / 2;
        // The last quarter of it is for noting what was not read in time.
        let looked = timeout(time, Box::pin(stream::look(&self.parts, now + time / 4 * 3))).await;
        looked.unwrap_or_else(|_| {
            tracing::warn!("there was no time to compare the stream with what was handed in: give the keeper more");
            Ok(())
        })
    }

    /// What is kept now, in numbers, for alarms.
    ///
    /// # Errors
    /// As the bookkeeping gave it.
    pub async fn measures(&self) -> Result<Measures, StoreError> {
        Measures::of(&self.parts).await
    }

    /// Forgets discarded events whose records the stream does not remember any more: no batch brings them again.
    ///
    /// # Errors
    /// As the bookkeeping gave it.
    pub async fn forget_discarded(&self) -> Result<(), StoreError> {
        tombstones::forget(&self.parts).await
    }

    /// Says of each route that its events are published elsewhere, so that the relay reads nothing for it, and takes over from
    /// one that published it before.
    async fn prepare(&self, stop: Moment) -> Result<(), StoreError> {
        let Parts { routes, bookkeeping, published_elsewhere, .. } = &self.parts;
        let mut is_alone = false;
        for (route, _) in routes {
            let mut left = bookkeeping.checkpoints(&route.name).await?;
            let is_said = left.contains(published_elsewhere);
            left.retain(|known| known.partition != published_elsewhere.partition);
            if !left.is_empty() {
                if !is_alone {
                    takeover::refuse_beside_a_relay(&self.parts, stop).await?;
                    is_alone = true;
                }
                Box::pin(takeover::take_over(&self.parts, &route.name, &left)).await?;
            }
            if !is_said {
                bookkeeping.reset_checkpoint(&route.name, published_elsewhere).await?;
            }
        }
        Ok(())
    }

    fn relay(&self, drain: Duration) -> Result<Relay, RelayError> {
        let Parts { lease, failover, routes, store, history, bookkeeping, clock, .. } = &self.parts;
        let mut builder = Relay::builder()
            .name(lease)
            .holder("the keeper function")
            .clock(clock.clone())
            .source(history.clone())
            .store(store.clone())
            .bookkeeping(bookkeeping.clone())
            .failover(*failover)
            .drain_limit(drain);
        for (route, sink) in routes {
            builder = builder.route(route.clone(), sink.clone());
        }
        builder.build()
    }
}
