//! The forwarder: publishes a batch of a stream's records within one invocation.
//!
//! A pipeline is made for each invocation and fed with the batch; between invocations nobody owns anything. What holds:
//!
//! 1. A record counts as done only if each event of it was accepted, is not the route's, or is durably kept.
//! 2. A key's failure is kept, its later events are parked, and the batch goes on. The batch fails, from its first record on
//!    that is not done, only if the sink as a whole takes nothing until the deadline, there is no time for all of it, or the
//!    bookkeeping cannot be written. Where the sink takes nothing and does not say whose fault that is, it may be that of one
//!    event that stands alone in its batch: after some minutes of it that is kept, too.
//! 3. Nothing is answered while a call is in flight: what has no answer by the deadline is given up, and comes again.
//! 4. What was done behind the first record that is not is noted, and left out when the batch comes again. After a function
//!    that died, all that it published of its batch is published again.
//!
//! Forwarders of a route share a lease of their own, under which they write the bookkeeping; the keeper has the relay's.
//! Which shard a batch is of the service does not tell, so the watermark is the route's: the one that is behind counts.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use outbox::{
    BusinessStore, Clock, Entropy, ErrorKind, Moment, Operator, PartitionId, RouteName, RouteSettings, Sink, Source,
    StoreError,
    bookkeeping::{HealthState, Lease},
    route::AfterDeadLetter,
    store::Registration,
};
use outbox_aws::dynamodb::{DynamoBookkeeping, EntryReader, Redelivery};
use tokio::{
    sync::{Mutex, OnceCell},
    time::timeout,
};

use crate::batch::{Answer, Batch, NotABatch};

mod gaps;
mod invocation;
mod jobs;
mod left;
mod noting;
pub(crate) mod share;
mod standing;
mod turns;
pub(crate) mod watermark;

use invocation::Invocation;
use share::Share;

/// Where it is noted what is known of a failed batch.
#[async_trait]
pub trait Redeliveries: Send + Sync {
    /// What is known of the batch that begins with the record of this sequence number.
    ///
    /// # Errors
    /// As the store gave it.
    async fn redelivery(&self, route: &RouteName, batch: &str) -> Result<Redelivery, StoreError>;

    /// Notes what is known of the batch that will begin with the record of this sequence number.
    ///
    /// # Errors
    /// As the store gave it.
    async fn note_redelivery(
        &self,
        lease: &Lease,
        route: &RouteName,
        batch: &str,
        redelivery: &Redelivery,
    ) -> Result<(), StoreError>;

    /// Forgets it, for all of the batch is done.
    ///
    /// # Errors
    /// As the store gave it.
    async fn forget_redelivery(&self, route: &RouteName, batch: &str) -> Result<(), StoreError>;
}

#[async_trait]
impl Redeliveries for DynamoBookkeeping {
    async fn redelivery(&self, route: &RouteName, batch: &str) -> Result<Redelivery, StoreError> {
        Self::redelivery(self, route, batch).await
    }

    async fn note_redelivery(
        &self,
        lease: &Lease,
        route: &RouteName,
        batch: &str,
        redelivery: &Redelivery,
    ) -> Result<(), StoreError> {
        Self::note_redelivery(self, lease, route, batch, redelivery).await
    }

    async fn forget_redelivery(&self, route: &RouteName, batch: &str) -> Result<(), StoreError> {
        Self::forget_redelivery(self, route, batch).await
    }
}

/// Everything that a forwarder works with.
#[derive(Clone)]
pub struct Parts {
    /// The route.
    pub route: RouteSettings,
    /// Its sink.
    pub sink: Arc<dyn Sink>,
    /// The service's tables.
    pub store: Arc<dyn BusinessStore>,
    /// Reads entries that the stream left out, by [`Source::fetch`] alone.
    pub entries: Arc<dyn Source>,
    /// What is kept.
    pub bookkeeping: Arc<dyn Operator>,
    /// What is noted of failed batches.
    pub redeliveries: Arc<dyn Redeliveries>,
    /// Where it is noted how far the route is.
    pub watermarks: DynamoBookkeeping,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where jitter comes from.
    pub entropy: Arc<dyn Entropy>,
}

/// Why an invocation failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// What was handed in is no batch.
    #[error(transparent)]
    NotABatch(#[from] NotABatch),
    /// A store cannot be worked with, and nothing of the batch is done.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// What is known of the route once the tables were looked at.
struct Known {
    reader: EntryReader,
    gapless: bool,
}

/// Publishes batches to one route; lives as long as the function's process. See the [module](self).
pub struct Forwarder {
    parts: Parts,
    known: OnceCell<Known>,
    share: Share,
    paused: standing::Paused,
    /// What this process noted last of the route's health, and when it looked at it.
    health: Mutex<Option<(HealthState, Moment)>>,
    watermark: watermark::Noted,
}

impl Forwarder {
    /// A forwarder with these parts. Looks at nothing yet.
    pub fn new(parts: Parts) -> Self {
        let share = Share::new(&parts.route.name);
        Self {
            parts,
            known: OnceCell::new(),
            share,
            paused: standing::Paused::default(),
            health: Mutex::default(),
            watermark: watermark::Noted::default(),
        }
    }

    /// Publishes the batch `payload` before `deadline`, and answers for it.
    ///
    /// *Cancellation*: as if the function had died: nothing is lost, and what was published is published again.
    ///
    /// # Errors
    /// [`ForwardError`] if nothing of the batch is done, and trying again at once will not help.
    pub async fn forward(&self, payload: &str, deadline: Moment) -> Result<Answer, ForwardError> {
        let known = self.known.get_or_try_init(|| self.look()).await?;
        let batch = Batch::read(payload, &known.reader)?;
        if batch.records.iter().all(|record| record.entry.is_none()) {
            return Ok(batch.answer(batch.records.len()));
        }
        let lease = self.share.lease(&*self.parts.bookkeeping).await?;
        let time = Time::until(self.parts.clock.moment(), deadline);
        // Before anything else: the batch may be one that no function gets through.
        self.alarm_if_old(&batch, &lease, &time).await;
        let standing = standing::look(&self.parts, &self.paused, batch.first_number(), &time).await?;
        let Some(standing) = standing else {
            tracing::info!(route = %self.parts.route.name, "an operator paused the route: the batch waits");
            return Ok(batch.answer(0));
        };
        let was_noted = standing.is_noted();
        let invocation = Invocation::new(&self.parts, &self.share, lease, known.gapless, &batch, standing, time);
        let ended = invocation.run().await;
        let left = time.answer.since(self.parts.clock.moment());
        if timeout(left, self.note(&batch, &ended, was_noted)).await.is_err() {
            tracing::warn!(route = %self.parts.route.name, "there was no time to note how far the batch is");
        }
        match ended.fatal {
            Some(error) if ended.done == 0 => Err(error.into()),
            Some(error) => {
                tracing::error!(route = %self.parts.route.name, %error, "the rest of the batch is not done");
                Ok(batch.answer(ended.done))
            }
            None => Ok(batch.answer(ended.done)),
        }
    }

    /// Looks whose the tables are, and registers the route.
    async fn look(&self) -> Result<Known, StoreError> {
        let Parts { route, sink, store, bookkeeping, clock, .. } = &self.parts;
        let (identity, id) = tokio::try_join!(store.identity(), bookkeeping.id())?;
        if let Some(owner) = identity.bookkeeping().filter(|owner| *owner != id) {
            let message = format!(
                "the tables are read by bookkeeping {owner}, not by {id}: name that one; if it is lost, run `outbox adopt`"
            );
            return Err(StoreError::new(ErrorKind::Ownership, message));
        }
        let registered = store.routes().await?;
        let before = registered.iter().find(|known| known.route == route.name);
        let gapless = route.filter.keeps_keys_whole()
            && route.retry.after_dead_letter == AfterDeadLetter::Park
            && before.is_none_or(|before| before.gapless && before.filter == route.filter);
        let registration = Registration {
            route: route.name.clone(),
            filter: route.filter.clone(),
            start: route.start,
            start_position: None,
            max_event_bytes: sink.limits().max_counted_bytes(),
            gapless,
            registered: clock.wall(),
        };
        let registration = store.register(registration).await?;
        Ok(Known { reader: EntryReader::new(&identity.producer), gapless: registration.gapless })
    }
}

/// Of one invocation: when no new call is made, and when what is under way is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    pub(crate) drain: Moment,
    pub(crate) give_up: Moment,
    /// When the answer has to be on its way.
    pub(crate) answer: Moment,
}

impl Time {
    /// A quarter of the time, but ten seconds at most, are for what is under way then; a tenth of it, but a second at most,
    /// for noting and answering.
    pub(crate) fn until(now: Moment, deadline: Moment) -> Self {
        let left = deadline.since(now);
        let (reserve, last) = ((left / 4).min(Duration::from_secs(10)), (left / 10).min(Duration::from_secs(1)));
        Self { drain: deadline.before(reserve), give_up: deadline.before(last), answer: deadline.before(last / 2) }
    }
}

impl Batch {
    fn first_number(&self) -> Option<&str> {
        self.records.first()?.number.as_deref()
    }
}

/// The partition that everything is kept under: the same whichever shard it came from.
fn partition() -> PartitionId {
    PartitionId::new("lambda")
}

/// Events by the position behind their record and their number in it.
type Done = BTreeSet<(String, u32)>;
