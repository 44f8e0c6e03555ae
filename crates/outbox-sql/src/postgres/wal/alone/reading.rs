//! Reading from any place on, by a stream that has what comes behind it.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use outbox::{
    BusinessStore, ErrorKind, Page, StoreError,
    source::{Backlog, Limit},
};
use tokio::sync::MutexGuard;

use super::{
    Alone,
    anchor::{Look, Mark},
    buffer::Buffer,
    place::Place,
    stream::Stream,
};
use crate::postgres::wal::{
    replication::{Replication, literal},
    rows::Rows,
    standby,
};

/// Streams at once: of the reader that leads, and of some that are behind.
const MOST_STREAMS: usize = 3;
/// A stream that nobody has read for so long ends, if there is another one.
const UNUSED: Duration = Duration::from_secs(30);
/// How long a read that found nothing waits for what is committed already to come.
const CATCHING_UP: Duration = Duration::from_secs(1);
/// So much log that has nothing for us is noted as read.
const NOTED: u64 = 16 << 20;

impl Alone {
    /// Since when the log is whole.
    pub(super) async fn mark(&self) -> Result<Mark, StoreError> {
        let mark = Mark::of(&self.store.routes().await?)?;
        mark.ok_or_else(|| StoreError::new(ErrorKind::Invalid, "no route is registered, so nothing of the log is kept"))
    }

    /// A stream that has what comes behind `place`.
    pub(super) async fn stream_at(&self, place: Place) -> Result<Arc<Stream>, StoreError> {
        let mut streams = self.streams.lock().await;
        let ended: Vec<_> = streams.extract_if(.., |stream| stream.has_ended()).collect();
        let failure = ended.iter().filter_map(|stream| stream.failure()).find(|error| !error.kind().retry());
        if let Some(error) = failure {
            return Err(error);
        }
        let having = streams.iter().filter(|stream| stream.with(|buffer| buffer.find(place).is_some()));
        let best = having.max_by_key(|stream| stream.with(|buffer| buffer.base())).cloned();
        let stream = if let Some(stream) = best {
            stream
        } else {
            let newest = self.begin_stream(place).await?;
            make_room(&mut streams);
            streams.push(newest.clone());
            newest
        };
        stream.touch();
        if streams.len() > 1 {
            streams.retain(|other| Arc::ptr_eq(other, &stream) || other.used().elapsed() < UNUSED);
        }
        Ok(stream)
    }

    async fn begin_stream(&self, place: Place) -> Result<Arc<Stream>, StoreError> {
        self.store.inner.check_latest_claim().await?;
        let (mark, look) = (self.mark().await?, self.look().await?);
        self.check(&look, &mark, place)?;
        self.refuse(&look).await?;
        let producer = self.store.identity().await?.producer;
        let mut session = Replication::connect(&self.options).await?;
        let copy = format!("{}_", self.slot);
        let sql = format!(
            "SELECT slot_name::text FROM pg_copy_logical_replication_slot({}, ({} || pg_backend_pid())::name, true)",
            literal(&self.slot),
            literal(&copy)
        );
        let made = session.query(&sql).await.map_err(|error| error.context("copying the replication slot"))?;
        let made = made.into_iter().flatten().flatten().next().unwrap_or_default();
        // What the operator has accepted as lost is not waited for.
        let from = if place.lsn < mark.begin { Place::before(mark.begin, look.timeline) } else { place };
        let streaming = session.start(&made, &self.settings.publication, from.lsn).await?;
        let mut buffer = Buffer::new(place, look.timeline, look.snapshot.xmax());
        if from != place {
            buffer.expect_nothing();
        }
        buffer.gate(look.gate());
        let rows = Rows::new(&producer, self.layout.clone());
        tracing::debug!(slot = %self.slot, from = %from.lsn, "a stream of the server's log begins");
        let stream = Stream::begin(buffer, streaming, rows, self.news.clone(), self.settings.clock.clone());
        Ok(Arc::new(stream))
    }

    /// Makes sure that no commit waits for a stream, as for a standby.
    async fn refuse(&self, look: &Look) -> Result<(), StoreError> {
        let refused = standby::refuse(&look.standbys, &self.options).await;
        refused.map_err(|error| StoreError::new(ErrorKind::Unavailable, error.to_string()))
    }

    /// The same while there are streams: they end, so that the commits do.
    pub(super) async fn end_if_waited_for(&self, look: &Look) -> Result<(), StoreError> {
        let refused = self.refuse(look).await;
        if refused.is_err() {
            self.streams.lock().await.clear();
        }
        refused
    }

    /// What comes behind `place`, once all that was committed before has come.
    pub(super) async fn read(&self, place: Place, limit: Limit) -> Result<Page, StoreError> {
        let after = place.position();
        let stream = self.stream_at(place).await?;
        let page = |buffer: &mut Buffer| buffer.find(place).and_then(|index| buffer.page(index, limit));
        if let Some(page) = stream.with(page) {
            return Ok(page);
        }
        let seen = *self.news.borrow();
        let look = self.look().await?;
        let flushed = self.beside.flushed().await?;
        self.end_if_waited_for(&look).await?;
        stream.with(|buffer| buffer.gate(look.gate()));
        let is_enough = |buffer: &Buffer| {
            !buffer.is_to_prove() && buffer.find(place).is_some_and(|index| buffer.behind(index).0 > 0)
        };
        stream.come_to(flushed, CATCHING_UP, is_enough).await;
        if let Some(error) = stream.failure() {
            return Err(error);
        }
        let found = stream.with(|buffer| {
            let index = buffer.find(place)?;
            if let Some(page) = buffer.page(index, limit) {
                return Some(page);
            }
            let (came, is_end) = (buffer.came(), buffer.is_end(index));
            let is_far = is_end && came.0.saturating_sub(place.lsn.0) >= NOTED;
            let next = if is_far { Place::before(came, look.timeline).position() } else { after.clone() };
            // Whether this is the log that was read before is about to be seen.
            Some(Page { records: Vec::new(), next, more: buffer.is_to_prove(), end: false })
        });
        match found {
            Some(page) => {
                if page.records.is_empty() && !page.more {
                    // Whoever reads to the end need not be told of what came before.
                    self.told.fetch_max(seen, Relaxed);
                }
                Ok(page)
            }
            // It ended, or went on without us: the next read begins another one.
            None => Ok(Page { records: Vec::new(), next: after, more: true, end: false }),
        }
    }

    /// Rows that came and lie behind `place`.
    pub(super) async fn behind(&self, place: Place) -> Result<Backlog, StoreError> {
        let is_none = self.streams.lock().await.is_empty();
        if is_none && self.store.routes().await?.is_empty() {
            // There is no slot yet, so nothing is there to be read.
            return Ok(Backlog { entries: 0, exact: true, oldest: None });
        }
        if is_none {
            self.read(place, Limit { events: 1, bytes: 1 }).await?;
        }
        let streams = self.streams.lock().await;
        let known = streams.iter().find_map(|stream| {
            stream.with(|buffer| {
                let (entries, first) = buffer.behind(buffer.find(place)?);
                Some((entries, first.map(|first| first.recorded), buffer.is_full()))
            })
        });
        drop(streams);
        match known {
            Some((entries, oldest, is_full)) => Ok(Backlog { entries: entries as u64, exact: !is_full, oldest }),
            // What is behind all that is held here is not counted.
            None => Ok(Backlog { entries: 1, exact: false, oldest: None }),
        }
    }
}

/// Ends the stream that was not read for longest, if there are as many as there may be.
fn make_room(streams: &mut MutexGuard<'_, Vec<Arc<Stream>>>) {
    if streams.len() < MOST_STREAMS {
        return;
    }
    let oldest = streams.iter().enumerate().min_by_key(|(_, stream)| stream.used()).map(|(index, _)| index);
    if let Some(oldest) = oldest {
        streams.remove(oldest);
    }
}
