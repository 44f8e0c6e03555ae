//! What those who read and the stream's work have in common.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use outbox::{PartitionId, Position, Source, StoreError, source::Limit};
use tokio::sync::{Notify, watch};

use super::{
    WalSettings, WalStatus,
    look::Beside,
    proof::Given,
    rows::Layout,
    slot::{Held, Pin},
    state::State,
};
use crate::postgres::{connection::ConnectOptions, position::Standing, schema};

/// See the module.
pub(super) struct Shared {
    pub(super) table: Arc<dyn Source>,
    pub(super) beside: Beside,
    pub(super) options: ConnectOptions,
    pub(super) slot: String,
    pub(super) layout: Layout,
    pub(super) settings: WalSettings,
    phase: Mutex<Phase>,
    /// How many streams were begun.
    begun: AtomicU64,
    pub(super) partition: OnceLock<PartitionId>,
    /// Rises when there is something new to be read.
    pub(super) news: watch::Sender<u64>,
    /// Up to where somebody was told of it.
    pub(super) told: AtomicU64,
    /// The stream came further, or ended.
    pub(super) progress: Notify,
    /// There is room for more, or somebody waits to know how far the server is.
    pub(super) pump: Notify,
    /// The publication under which all who are open began to write; `None` while none is known.
    settled: Mutex<Option<String>>,
    /// There is something to look after.
    pub(super) house: Notify,
    /// What the log gave last.
    pub(super) given: Mutex<Given>,
}

enum Phase {
    Streaming(Box<State>),
    /// And why, and what the slot holds meanwhile.
    Polling(String, Held),
}

impl Phase {
    fn held(&self) -> Held {
        match self {
            Self::Streaming(state) => state.held,
            Self::Polling(_, held) => *held,
        }
    }
}

impl Shared {
    pub(super) fn new(
        table: Arc<dyn Source>,
        beside: Beside,
        options: ConnectOptions,
        slot: String,
        (layout, settings): (Layout, WalSettings),
    ) -> Self {
        Self {
            table,
            beside,
            options,
            slot,
            layout,
            settings,
            phase: Mutex::new(Phase::Polling("nothing was read yet".to_owned(), Held::default())),
            begun: AtomicU64::new(0),
            partition: OnceLock::new(),
            news: watch::Sender::new(0),
            told: AtomicU64::new(0),
            progress: Notify::new(),
            pump: Notify::new(),
            settled: Mutex::default(),
            house: Notify::new(),
            given: Mutex::default(),
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody who is open wrote while the publication was another one.
    pub(super) fn is_settled(&self, publication: &str) -> bool {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(publication)
    }

    /// All have ended who may have.
    pub(super) fn settle(&self, publication: String) {
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = Some(publication);
    }

    /// The stream's state; `None` while there is no stream.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> Option<T> {
        match &mut *self.phase() {
            Phase::Streaming(state) => Some(act(state)),
            Phase::Polling(..) => None,
        }
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.stream().is_some()
    }

    /// Which stream there is.
    pub(super) fn stream(&self) -> Option<u64> {
        self.with(|state| state.number)
    }

    /// The table was read behind `position` since `stream` began, so that is one of the same history.
    pub(super) fn know(&self, stream: Option<u64>, position: &Position) {
        self.with(|state| {
            if stream == Some(state.number) {
                state.chain.know(position.clone());
            }
        });
    }

    pub(super) fn begin_streaming(&self, mut state: State) {
        tracing::info!(slot = %self.slot, "reading the server's log");
        state.number = self.begun.fetch_add(1, Relaxed);
        *self.phase() = Phase::Streaming(Box::new(state));
        self.wake();
    }

    pub(super) fn stop_streaming(&self, reason: &str) {
        let mut phase = self.phase();
        let held = phase.held();
        let before = std::mem::replace(&mut *phase, Phase::Polling(reason.to_owned(), held));
        drop(phase);
        let is_known = matches!(&before, Phase::Polling(before, _) if before == reason);
        if !is_known {
            tracing::warn!(slot = %self.slot, reason, "the table is polled, for the server's log is not read now");
        }
        self.wake();
    }

    /// The slot holds so much.
    pub(super) fn holds(&self, held: Held, pin: Option<Pin>) {
        match &mut *self.phase() {
            Phase::Streaming(state) => (state.held, state.pin) = (held, pin),
            Phase::Polling(_, before) => *before = held,
        }
    }

    /// Tells whoever waits that there is something new.
    pub(super) fn wake(&self) {
        self.news.send_modify(|news| *news += 1);
        self.progress.notify_waiters();
    }

    /// Tells those who wait for the stream to come so far.
    pub(super) fn came(&self) {
        self.progress.notify_waiters();
    }

    /// So much of the log is confirmed at once, however soon that is: the budget is of bytes, not of time.
    pub(super) fn share_of_the_budget(&self) -> u64 {
        self.settings.budget / 8
    }

    /// The only partition, once it was read.
    pub(super) fn partition(&self) -> Option<PartitionId> {
        self.partition.get().cloned()
    }

    /// Whether `position`, where nothing is read in part, is one of the table's history, by reading behind it and behind all
    /// that can be seen.
    ///
    /// # Errors
    /// As the table says.
    pub(super) async fn check(&self, partition: &PartitionId, position: &Standing) -> Result<(), StoreError> {
        const NOTHING: Limit = Limit { events: 0, bytes: 0 };
        let seen = self.beside.snapshot().await?;
        let passed = position.passed.seen_by_either(&seen);
        let place = Standing::at_rest(passed, position.log).position();
        self.table.read(partition, &place, NOTHING).await.map(drop)
    }

    /// The producer that the database's events are given.
    pub(super) async fn producer(&self) -> Result<String, StoreError> {
        let client = self.beside.connection().client().await?;
        Ok(schema::check(&*client).await?.producer)
    }

    pub(super) fn status(&self) -> WalStatus {
        let (polling, held, pin) = match &*self.phase() {
            Phase::Streaming(state) => (None, state.held, state.pin.clone()),
            Phase::Polling(reason, held) => (Some(reason.clone()), *held, None),
        };
        WalStatus {
            slot: self.slot.clone(),
            polling,
            held_bytes: held.whole,
            unread_bytes: held.unconfirmed,
            pinned_by: pin,
        }
    }
}
