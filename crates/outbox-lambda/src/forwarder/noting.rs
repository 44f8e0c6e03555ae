//! What is noted after an invocation: what comes again, and how the route fares. Only duplicates and the status depend on it,
//! and how soon an event that nobody accepts is kept.

use std::time::Duration;

use outbox::{
    Moment, StoreError,
    bookkeeping::{HealthState, RouteHealth},
};
use outbox_aws::dynamodb::Redelivery;

use super::{Forwarder, Parts, invocation::Ended};
use crate::batch::Batch;

impl Forwarder {
    /// Notes what is known of a batch that fails, forgets that of one that is done, and how the route fares.
    pub(super) async fn note(&self, batch: &Batch, ended: &Ended, was_noted: bool) {
        let Parts { route, redeliveries, .. } = &self.parts;
        if was_noted
            && ended.done > 0
            && let Some(first) = batch.first_number()
            && let Err(error) = redeliveries.forget_redelivery(&route.name, first).await
        {
            tracing::warn!(%error, "what was noted of a batch that is done is left for the keeper to sweep");
        }
        let next = batch.records.get(ended.done).and_then(|record| record.number.as_deref());
        let known = Redelivery { done: ended.beyond.clone(), doubted: ended.doubted };
        if let (Some(next), true) = (next, known != Redelivery::default()) {
            let lease = self.share.lease(&*self.parts.bookkeeping).await;
            let noted = match lease {
                Ok(lease) => redeliveries.note_redelivery(&lease, &route.name, next, &known).await,
                Err(error) => Err(error),
            };
            if let Err(error) = noted {
                tracing::warn!(%error, "what was done of a failed batch could not be noted: it is published again");
            }
        }
        self.note_health(&ended.health).await;
        Box::pin(self.note_handed_in(batch, ended)).await;
    }

    /// Notes the route's health for `outbox status`, if it is another than was noted: also by a process that is gone.
    async fn note_health(&self, state: &HealthState) {
        const LOOK_AGAIN: Duration = Duration::from_mins(1);
        let Parts { route, bookkeeping, clock, .. } = &self.parts;
        let mut noted = self.health.lock().await;
        let now = clock.moment();
        let is_fresh = |at: &Moment| now.since(*at) < LOOK_AGAIN;
        let known = match noted.as_ref().filter(|(_, at)| is_fresh(at)) {
            Some((state, _)) => Ok(Some(state.clone())),
            None => bookkeeping.health(&route.name).await.map(|health| health.map(|health| health.state)),
        };
        let result = async {
            let known = known?.unwrap_or(HealthState::Flowing);
            if std::mem::discriminant(&known) != std::mem::discriminant(state) {
                let lease = self.share.lease(&**bookkeeping).await?;
                let health = RouteHealth { state: state.clone(), since: clock.wall() };
                bookkeeping.note_health(&lease, &route.name, &health).await?;
            }
            Ok::<_, StoreError>(())
        };
        match result.await {
            Ok(()) => *noted = Some((state.clone(), now)),
            Err(error) => {
                *noted = None;
                tracing::warn!(%error, "how the route fares could not be noted");
            }
        }
    }
}
