//! The service's database as a relay sees it, where its rows are in the log alone.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use async_trait::async_trait;
use outbox::{
    BusinessStore, ErrorKind, Position, RouteName, Start, StoreError,
    source::Limit,
    store::{Agreement, Claim, OpenTransaction, Purged, Registration, Retention, StoreIdentity, Witness},
};
use tokio_postgres::types::{ToSql, Type};

use super::{
    Alone, LogStore,
    anchor::{Mark, plain},
    place::Place,
};

/// How often the slot is moved on behind what every route has stored.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long it may take to see whether the log is the one that was read before.
const PROVING: Duration = Duration::from_secs(60);
const ONE: Limit = Limit { events: 1, bytes: 1 };

/// What would need rows that are kept.
pub(super) fn no_history(what: &str) -> StoreError {
    let message = format!(
        "{what} is not possible where rows are read in the server's log alone, which holds only what is not published yet: \
         begin at \"now\" or at \"beginning\", or name a growing id by mapping.id"
    );
    StoreError::new(ErrorKind::Invalid, message)
}

impl Alone {
    /// Where a new route begins, with the mark; makes the slot for the first one.
    async fn start_of(&self, wanted: &Registration, known: &[Registration]) -> Result<String, StoreError> {
        if matches!(wanted.start, Start::Time(_)) {
            return Err(no_history("a start at a time"));
        }
        let mark = match Mark::of(known)? {
            Some(mark) => mark,
            None => self.make().await?,
        };
        let look = self.look().await?;
        self.check(&look, &mark, Place::before(look.confirmed.unwrap_or_default(), look.timeline))?;
        let start = match wanted.start {
            Start::Beginning if look.confirmed.is_some_and(|confirmed| confirmed > mark.begin) => {
                let route = &wanted.route;
                let message = format!(
                    "the route `{route}` cannot start at the beginning: what the others have published is in the server's log \
                     no more, and nowhere else; write `start = \"now\"` for it"
                );
                return Err(StoreError::new(ErrorKind::Invalid, message));
            }
            Start::Beginning => Place::before(mark.begin, look.timeline),
            Start::Now | Start::Time(_) => Place::before(look.written, look.timeline),
        };
        Ok(mark.with(start))
    }

    /// Looks whether the log is still whole, and lets go of what every route is past.
    async fn keep(&self, passed: Place) -> Result<(), StoreError> {
        self.store.inner.check_latest_claim().await?;
        let (mark, look) = (self.mark().await?, self.look().await?);
        self.end_if_waited_for(&look).await?;
        self.check(&look, &mark, passed)?;
        let is_much = look.held > self.settings.budget;
        if is_much && !self.is_much.swap(is_much, Relaxed) {
            tracing::warn!(
                slot = %self.slot, bytes = look.held, passed = %passed.lsn,
                "the server keeps much log, for a route that is behind, is paused, or is registered and not configured; \
                 or for an open transaction: `outbox status` shows them"
            );
        }
        self.is_much.store(is_much, Relaxed);
        // The row that was read last stays, to prove that this log is the one that was read.
        match look.confirmed {
            Some(confirmed) if passed.lsn > confirmed => self.let_go(passed.lsn).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Whether what was read at `place` is there.
    async fn prove(&self, place: Place) -> Result<(), StoreError> {
        let reading = async {
            while self.read(place, ONE).await?.more {
                let stream = self.stream_at(place).await?;
                if !stream.with(|buffer| buffer.is_to_prove()) {
                    return Ok(());
                }
            }
            Ok(())
        };
        tokio::time::timeout(PROVING, reading).await.unwrap_or_else(|_| {
            let message = format!("reading the log: what was read last has not come again within {PROVING:?}");
            Err(StoreError::new(ErrorKind::Unavailable, message))
        })
    }

    /// Compares with the latest witness; without one, with what was registered.
    async fn compare(&self, witnesses: &[Witness]) -> Result<Agreement, StoreError> {
        let routes = self.store.routes().await?;
        if routes.is_empty() {
            return Ok(Agreement::Whole);
        }
        let places = witnesses.iter().filter_map(|witness| Place::parse(&witness.position).ok());
        let latest = places.max();
        let compared = if let Some(latest) = latest {
            self.prove(latest).await
        } else {
            // Where nothing but the log of others was passed, routes stand where the slot does, which nobody witnesses.
            let (mark, look) = (self.mark().await?, self.look().await?);
            self.check(&look, &mark, Place::before(look.confirmed.unwrap_or_default(), 0))
        };
        match compared {
            Err(error) if error.kind() == ErrorKind::HistoryChanged => {
                tracing::error!(%error, "the server's log is not whole any more");
                let lost = latest.unwrap_or(Place::BEGINNING).position();
                Ok(Agreement::Lost { agreed: None, lost, behind: 0 })
            }
            other => other.map(|()| Agreement::Whole),
        }
    }

    /// Takes the log as it is now: what is missing of it is missing.
    async fn accept(&self) -> Result<(), StoreError> {
        self.streams.lock().await.clear();
        let routes = self.store.routes().await?;
        let Some(before) = Mark::of(&routes)? else { return Ok(()) };
        let look = self.look().await?;
        let mark = match look.confirmed {
            Some(confirmed) if self.is_readable().await? => {
                Mark { begin: before.begin.max(confirmed), publication: look.publication }
            }
            Some(_) | None => self.make().await?,
        };
        for registration in routes {
            let start = Place::parse(&Position::new(plain(registration.clone()).start_position.unwrap_or_default()))?;
            self.put_start(&registration.route, &mark.with(start)).await?;
        }
        Ok(())
    }

    async fn put_start(&self, route: &RouteName, start: &str) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE outbox.routes SET start_position = $2 WHERE name = $1";
        let params: [(&(dyn ToSql + Sync), Type); 2] = [(&route.as_str(), Type::TEXT), (&start, Type::TEXT)];
        let client = self.connection.client().await?;
        let limit = client.limit();
        limit.within("noting since when the log is whole", client.execute_typed(SQL, &params)).await.map(drop)
    }
}

#[async_trait]
impl BusinessStore for LogStore {
    async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        self.inner.store.identity().await
    }

    async fn claim(&self, claim: &Claim, seen: Option<&Claim>) -> Result<bool, StoreError> {
        let is_ours = self.inner.store.claim(claim, seen).await?;
        // What was begun under an older claim is not ours to read on.
        self.inner.streams.lock().await.clear();
        Ok(is_ours)
    }

    async fn disown(&self) -> Result<(), StoreError> {
        self.inner.store.disown().await
    }

    async fn routes(&self) -> Result<Vec<Registration>, StoreError> {
        Ok(self.inner.store.routes().await?.into_iter().map(plain).collect())
    }

    async fn register(&self, wanted: Registration) -> Result<Registration, StoreError> {
        let known = self.inner.store.routes().await?;
        // What has no places cannot be counted.
        let mut wanted = Registration { gapless: false, ..wanted };
        if !known.iter().any(|known| known.route == wanted.route) {
            wanted.start_position = Some(self.inner.start_of(&wanted, &known).await?);
        }
        self.inner.store.register(wanted).await.map(plain)
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        self.inner.store.rename_route(from, to).await
    }

    async fn retire_route(&self, route: &RouteName) -> Result<(), StoreError> {
        self.inner.store.retire_route(route).await
    }

    async fn purge(&self, _: &Position, _: Retention) -> Result<Purged, StoreError> {
        let message = "the rows of a mapped table that is read in the log alone are not Outbox's to remove: their owner may, at any \
             time; leave the retention out";
        Err(StoreError::new(ErrorKind::Invalid, message))
    }

    fn status_interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    async fn keep_status(&self, passed: &Position) -> Result<bool, StoreError> {
        self.inner.keep(Place::parse(passed)?).await.map(|()| false)
    }

    async fn agreement(&self, witnesses: &[Witness]) -> Result<Agreement, StoreError> {
        self.inner.compare(witnesses).await
    }

    async fn raise_incarnation(&self, _: Option<&Position>, _: bool) -> Result<u32, StoreError> {
        let raised = self.inner.store.raise_incarnation(None, false).await?;
        self.inner.accept().await?;
        Ok(raised)
    }

    async fn oldest_transaction(&self) -> Result<Option<OpenTransaction>, StoreError> {
        self.inner.store.oldest_transaction().await
    }
}

/// So that what is wrong is told in the same words wherever it is found.
#[cfg(test)]
mod tests {
    use super::{super::anchor::lost, *};

    #[test]
    fn what_is_lost_is_told_with_what_to_do() {
        let error = lost("the slot is gone");
        assert_eq!(error.kind(), ErrorKind::HistoryChanged);
        assert!(error.to_string().contains("`outbox adopt`"), "{error}");
        assert!(no_history("a replay").to_string().contains("mapping.id"));
    }
}
