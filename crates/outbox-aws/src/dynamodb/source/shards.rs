//! What is known of each shard, and the places at which it is read.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use outbox::{ErrorKind, Moment, Page, PartitionId, Position, StoreError, source::Limit};
use tokio::sync::Semaphore;

use super::{Inner, backlog::Peeked, iterator::Asked, line::Line, place::InShard, stream::Listing};

/// Readers of one shard at a time.
///
/// Rule: "DynamoDB Streams", no more than two, or they are throttled.
const READERS: usize = 2;
/// Places of one shard that are kept with nothing fetched for them: an iterator each.
const PLACES: usize = 16;
/// For how long a shard is remembered that is not listed and not read any more.
const FORGET: Duration = Duration::from_hours(24);

/// For how long it holds that there was nothing: longer than any pause between two requests.
const QUIET: Duration = Duration::from_secs(3);

/// The shards that were read.
#[derive(Default)]
pub(super) struct Shards(Mutex<HashMap<PartitionId, Arc<Shard>>>);

/// One of them.
pub(super) struct Shard {
    readers: Semaphore,
    state: Mutex<State>,
}

struct State {
    /// Places that nobody reads at just now, the one that was used last at the end.
    lines: Vec<Line>,
    known: Known,
    peeked: Option<Peeked>,
    used: Moment,
}

/// What is known of a shard, whoever read it.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// What follows the shard was not created before this second: its latest record was, or then it was seen to be open with
    /// nothing more in it, or all of it was created later.
    pub(super) since: Option<i64>,
    /// Of a place whose next record was forgotten, the second before which nothing behind it was created.
    pub(super) forgotten: Option<i64>,
    /// The place behind which nothing was when it was last asked, and when that was.
    pub(super) quiet_at: Option<(InShard, Moment)>,
}

impl Shards {
    fn all(&self) -> MutexGuard<'_, HashMap<PartitionId, Arc<Shard>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, partition: &PartitionId, now: Moment) -> Arc<Shard> {
        self.all().entry(partition.clone()).or_insert_with(|| Arc::new(Shard::new(now))).clone()
    }

    /// What is known of a shard, if it was read.
    pub(super) fn known(&self, partition: &PartitionId) -> Option<Known> {
        self.all().get(partition).map(|shard| shard.state().known.clone())
    }

    /// Forgets shards that are gone.
    pub(super) fn keep(&self, listing: &Listing, now: Moment) {
        let listed: HashSet<PartitionId> = listing.shards.keys().map(|shard| listing.partition(shard)).collect();
        self.all().retain(|id, shard| listed.contains(id) || now.since(shard.state().used) < FORGET);
    }
}

impl Shard {
    fn new(now: Moment) -> Self {
        let state = State { lines: Vec::new(), known: Known::default(), peeked: None, used: now };
        Self { readers: Semaphore::new(READERS), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line at `place`, or a new one.
    fn take(&self, place: &InShard, now: Moment) -> Line {
        let mut state = self.state();
        state.used = now;
        match state.lines.iter().position(|line| line.place.is_at(place)) {
            Some(index) => state.lines.remove(index),
            None => Line::at(place.clone(), now),
        }
    }

    /// Keeps a line for whoever reads on from it.
    fn put(&self, line: Line) {
        let mut state = self.state();
        if line.is_at_end() {
            return;
        }
        // Two who began there at once made one each, and in turns they would ask twice as often.
        state.lines.retain(|other| !other.place.is_at(&line.place));
        let is_full = |line: &Line| !line.buffer.is_empty();
        let full = state.lines.iter().filter(|line| is_full(line)).count();
        if is_full(&line) && full >= READERS {
            let oldest = state.lines.iter().position(is_full).unwrap_or(0);
            state.lines.remove(oldest);
        } else if state.lines.len() >= PLACES {
            state.lines.remove(0);
        }
        state.lines.push(line);
    }

    /// What was peeked at, or is known otherwise, behind `place`.
    pub(super) fn peeked(&self, place: &InShard, now: Moment) -> Option<Peeked> {
        let state = self.state();
        let is_quiet = |(quiet, asked): &(InShard, Moment)| quiet.is_at(place) && now.since(*asked) < QUIET;
        if state.known.quiet_at.as_ref().is_some_and(is_quiet) {
            return Some(Peeked::nothing(place, now));
        }
        let line = state.lines.iter().find(|line| line.place.is_at(place) && !line.buffer.is_empty());
        let fresh = state.peeked.as_ref().filter(|peeked| peeked.is_of(place, now));
        line.map(|line| Peeked::of(place, line, now)).or_else(|| fresh.cloned())
    }

    pub(super) fn note_peeked(&self, peeked: Peeked) {
        self.state().peeked = Some(peeked);
    }

    /// Works on the line at `place` as one of the shard's readers. Whoever is dropped meanwhile leaves nothing behind: what
    /// was fetched is fetched again.
    pub(super) async fn fill(&self, place: &InShard, asked: &Asked<'_>) -> Result<(Line, Keep<'_>), StoreError> {
        // Never closed.
        let permit = self.readers.acquire().await.ok();
        let clock = &asked.inner.calls.clock;
        let mut line = self.take(place, clock.moment());
        let mut known = self.state().known.clone();
        let filled = line.fill(asked, &mut known).await;
        if filled.as_ref().is_err_and(|error| error.kind() == ErrorKind::Trimmed) {
            known.forgotten = known.forgotten.max(Some(place.since));
        }
        self.state().known = known;
        filled.map(|()| (line, Keep { shard: self, _permit: permit }))
    }
}

/// The right to put a line back.
pub(super) struct Keep<'a> {
    shard: &'a Shard,
    _permit: Option<tokio::sync::SemaphorePermit<'a>>,
}

impl Keep<'_> {
    pub(super) fn put(self, line: Line) {
        self.shard.put(line);
    }
}

impl Inner {
    pub(super) async fn read_shard(
        &self,
        partition: &PartitionId,
        after: &Position,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let place = InShard::parse(after)?;
        let asked = Asked::of(self, partition).await?;
        let shard = self.shards.of(partition, self.calls.clock.moment());
        let (mut line, keep) = shard.fill(&place, &asked).await?;
        if !line.buffer.is_empty() {
            // Nothing is handed out to a relay that another one has followed.
            self.store.claimed().check().await?;
        }
        let page = line.hand_out(after, limit);
        keep.put(line);
        Ok(page)
    }
}
