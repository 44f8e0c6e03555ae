//! Reading for a relay: from the stream where that has what comes next, else from the table.

use std::{
    cmp::Ordering,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use async_trait::async_trait;
use outbox::{
    KeyOrder, Page, Partition, PartitionId, Position, Source, StoreError,
    bookkeeping::Checkpoint,
    source::{Backlog, Limit, Recovery},
    store::Registration,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    WalSource,
    chain::{Found, Target},
    pump,
    shared::Shared,
    state::State,
};
use crate::postgres::position::{Reading, Snapshot, Standing};

/// How long a read that found nothing waits for what is committed already to come.
const CATCHING_UP: Duration = Duration::from_secs(1);
/// How long it waits to ask again how far the server is.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(5);

/// The stream's task, which ends with this.
pub(super) struct Reader {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Reader {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared), task: Mutex::default() }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Begins to stream, if nobody does.
    fn start(&self) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(pump::run(self.shared.clone())));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

impl Shared {
    /// Which comes first: what was read from the earlier snapshot on. A range of the table may end with a later one than the
    /// stream has come to, and yet who is in it is behind whoever stands in the stream.
    fn order(&self, left: &Position, right: &Position) -> Ordering {
        let passed = match (Standing::parse(left), Standing::parse(right)) {
            (Ok(left), Ok(right)) => left.passed.cmp(&right.passed),
            (Err(_), _) | (_, Err(_)) => Ordering::Equal,
        };
        passed.then_with(|| self.table.order(left, right))
    }

    /// Gives all who stand behind the last that has come the same name of that place: the furthest of theirs.
    fn meet(&self, state: &mut State, after: &Position) -> Position {
        match state.chain.end_name() {
            Some(name) if self.order(name, after).is_ge() => name.clone(),
            Some(_) | None => {
                state.chain.name_end(after.clone());
                after.clone()
            }
        }
    }

    /// What the stream has behind `after`; `None` while there is no stream.
    fn find(&self, after: &Position, limit: Limit) -> Result<Option<Found>, StoreError> {
        let news = *self.news.borrow();
        let found = self.with(|state| {
            let was_full = state.chain.is_full();
            let mut found = state.chain.find(after, limit)?;
            if matches!(found, Found::End(_)) && state.chain.is_end(after) {
                found = Found::End(self.meet(state, after));
            }
            if was_full && !state.chain.is_full() {
                self.pump.notify_one();
            }
            if let Found::Page(page) = &found
                && let Some(last) = page.records.last()
            {
                self.gave(state.number, last);
            }
            Ok(found)
        });
        let found = found.transpose()?;
        if matches!(found, Some(Found::End(_))) {
            // Whoever reads to the end need not be told of what came before.
            self.told.fetch_max(news, Relaxed);
        }
        Ok(found)
    }

    /// Waits until what was committed before this call has come, though not for long: there is a wake-up for what comes
    /// later.
    async fn catch_up(&self) -> Result<(), StoreError> {
        let flushed = self.beside.flushed().await?;
        let seen = *self.news.borrow();
        let reached = async {
            let mut rounds = 0;
            loop {
                let progress = self.progress.notified();
                tokio::pin!(progress);
                progress.as_mut().enable();
                let waits = self.with(|state| {
                    state.wants_reply = state.came() < flushed;
                    state.wants_reply
                });
                if waits != Some(true) || *self.news.borrow() > seen {
                    return;
                }
                self.pump.notify_one();
                progress.await;
                rounds += 1;
                if rounds > 3 {
                    sleep(BETWEEN_QUESTIONS).await;
                }
            }
        };
        // Where the log was flushed up to the middle of a message, the server cannot say that it has come so far.
        let _ = timeout(CATCHING_UP, reached).await;
        Ok(())
    }

    /// Reads in the table behind `after`: to a place of the stream, if there is one.
    async fn read_table(
        &self,
        partition: &PartitionId,
        after: &Position,
        target: Option<Target>,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let standing = Standing::parse(after)?;
        let target = target.filter(|_| !matches!(standing.reading, Reading::Range { .. }));
        let told = match (&standing.reading, &target) {
            (Reading::Range { .. }, _) | (Reading::Rest, None) => None,
            (Reading::Log { inside: Some((row, _)) }, _) => Some(standing.passed.and(row.xid)),
            (Reading::Log { inside: None }, None) => Some(standing.passed.clone()),
            (Reading::Rest | Reading::Log { inside: None }, Some(target)) => {
                Some(target.to.seen_by_either(&standing.passed))
            }
        };
        if let Some(told) = &told
            && self.is_hidden(told).await?
        {
            return Ok(later(after));
        }
        let begin = match (&standing.reading, target) {
            (Reading::Range { .. } | Reading::Log { inside: Some(_) }, _) | (_, None) => after.clone(),
            (Reading::Rest | Reading::Log { inside: None }, Some(target)) => {
                let reading = Reading::Range { to: target.to.seen_by_either(&standing.passed), last: None, then: None };
                let log = target.log.max(standing.log);
                Standing { passed: standing.passed.clone(), reading, log }.position()
            }
        };
        let stream = self.stream();
        let mut page = self.table.read(partition, &begin, limit).await?;
        if page.next == begin {
            page.next = after.clone();
        }
        self.lead_into_stream(&mut page, stream).await?;
        Ok(page)
    }

    /// Whether the table may not be asked for what `told` sees yet: what the log tells of can be seen a moment later, and much
    /// later where a standby has to confirm it.
    async fn is_hidden(&self, told: &Snapshot) -> Result<bool, StoreError> {
        let is_seen = self.beside.snapshot().await?.sees_all_of(told);
        Ok(!is_seen && self.beside.has_given(told.xmax().saturating_sub(1)).await?)
    }

    /// Says of a page that came to the end of what was to be read in the table, since `stream` began, whether that has more.
    async fn lead_into_stream(&self, page: &mut Page, stream: Option<u64>) -> Result<(), StoreError> {
        const ONE: Limit = Limit { events: 1, bytes: 1 };
        if Standing::parse(&page.next)?.reading != Reading::Rest {
            return Ok(());
        }
        self.know(stream, &page.next);
        if !page.more && self.is_streaming() {
            let mut found = self.find(&page.next, ONE)?;
            if matches!(found, Some(Found::End(_))) {
                self.catch_up().await?;
                found = self.find(&page.next, ONE)?;
            }
            page.more = matches!(found, Some(Found::Page(_) | Found::Elsewhere(_) | Found::Unknown));
        }
        Ok(())
    }
}

/// Nothing yet: it is asked again.
fn later(after: &Position) -> Page {
    Page { records: Vec::new(), next: after.clone(), more: true, end: false }
}

#[async_trait]
impl Source for WalSource {
    fn key_order(&self) -> KeyOrder {
        self.reader.shared.table.key_order()
    }

    fn order(&self, left: &Position, right: &Position) -> Ordering {
        self.reader.shared.order(left, right)
    }

    fn passed_by_both(&self, one: &Position, other: &Position) -> Position {
        self.reader.shared.table.passed_by_both(one, other)
    }

    fn after_loss(&self, position: &Position, agreed: &Position) -> Position {
        self.reader.shared.table.after_loss(position, agreed)
    }

    fn leading_to(&self, from: &Position, end: &Position) -> Position {
        self.reader.shared.table.leading_to(from, end)
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        self.reader.shared.table.partitions().await
    }

    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError> {
        self.reader.shared.table.start(partition, registration).await
    }

    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        let shared = &self.reader.shared;
        if shared.partition.get() != Some(partition) {
            let listed = shared.table.partitions().await?;
            if !listed.iter().any(|listed| listed.id == *partition) {
                // The table knows what to say.
                return shared.table.read(partition, after, limit).await;
            }
            // The table is one partition.
            let _ = shared.partition.set(partition.clone());
        }
        self.reader.start();
        shared.prove(partition).await?;
        let mut found = shared.find(after, limit)?;
        if matches!(found, Some(Found::Unknown)) {
            let (stream, standing) = (shared.stream(), Standing::parse(after)?);
            if shared.is_hidden(&standing.passed).await? {
                return Ok(later(after));
            }
            shared.check(partition, &standing).await?;
            shared.know(stream, after);
            found = shared.find(after, limit)?;
        }
        if matches!(found, Some(Found::End(_))) {
            shared.catch_up().await?;
            found = shared.find(after, limit)?;
        }
        match found {
            // Behind the last that has come there may be more that was committed already: the next read waits for it.
            Some(Found::Page(page)) => Ok(Page { more: true, ..page }),
            Some(Found::End(next)) => Ok(Page { records: Vec::new(), next, more: false, end: false }),
            Some(Found::Elsewhere(target)) => shared.read_table(partition, after, Some(target), limit).await,
            Some(Found::Unknown) | None => shared.read_table(partition, after, None, limit).await,
        }
    }

    async fn changed(&self) {
        let shared = &self.reader.shared;
        let mut news = shared.news.subscribe();
        loop {
            let now = *news.borrow_and_update();
            if now > shared.told.load(Relaxed) {
                shared.told.fetch_max(now, Relaxed);
                return;
            }
            if shared.is_streaming() {
                // The sender lives as long as this does.
                let _ = news.changed().await;
            } else {
                tokio::select! {
                    biased;
                    _ = news.changed() => {}
                    () = shared.table.changed() => return,
                }
            }
        }
    }

    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        self.reader.shared.table.backlog(partition, after).await
    }

    async fn recovery(
        &self,
        registration: &Registration,
        checkpoints: &[Checkpoint],
    ) -> Result<Option<Recovery>, StoreError> {
        self.reader.shared.table.recovery(registration, checkpoints).await
    }
}
