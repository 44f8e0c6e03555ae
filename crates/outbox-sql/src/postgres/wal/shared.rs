//! What those who read and the stream's work have in common.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicU64};

use outbox::{PartitionId, Source, StoreError};
use tokio::sync::{Notify, watch};

use super::{WalSettings, WalStatus, look::Beside, rows::Layout, slot::Held, state::State};
use crate::postgres::{connection::ConnectOptions, schema};

/// See the module.
pub(super) struct Shared {
    pub(super) table: Arc<dyn Source>,
    pub(super) beside: Beside,
    pub(super) options: ConnectOptions,
    pub(super) slot: String,
    pub(super) layout: Layout,
    pub(super) settings: WalSettings,
    phase: Mutex<Phase>,
    pub(super) partition: OnceLock<PartitionId>,
    /// Rises when there is something new to be read.
    pub(super) news: watch::Sender<u64>,
    /// Up to where somebody was told of it.
    pub(super) told: AtomicU64,
    /// The stream came further, or ended.
    pub(super) progress: Notify,
    /// There is room for more, or somebody waits to know how far the server is.
    pub(super) pump: Notify,
    /// There is something to look after.
    pub(super) house: Notify,
}

enum Phase {
    Streaming(Box<State>),
    /// And why.
    Polling(String),
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
            phase: Mutex::new(Phase::Polling("nothing was read yet".to_owned())),
            partition: OnceLock::new(),
            news: watch::Sender::new(0),
            told: AtomicU64::new(0),
            progress: Notify::new(),
            pump: Notify::new(),
            house: Notify::new(),
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream's state; `None` while there is no stream.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> Option<T> {
        match &mut *self.phase() {
            Phase::Streaming(state) => Some(act(state)),
            Phase::Polling(_) => None,
        }
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.with(|_| ()).is_some()
    }

    pub(super) fn begin_streaming(&self, state: State) {
        tracing::info!(slot = %self.slot, "reading the server's log");
        *self.phase() = Phase::Streaming(Box::new(state));
        self.wake();
    }

    pub(super) fn stop_streaming(&self, reason: &str) {
        let before = std::mem::replace(&mut *self.phase(), Phase::Polling(reason.to_owned()));
        let is_known = matches!(&before, Phase::Polling(before) if before == reason);
        if !is_known {
            tracing::warn!(slot = %self.slot, reason, "the table is polled, for the server's log is not read now");
        }
        self.wake();
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

    /// The only partition, once it was read.
    pub(super) fn partition(&self) -> Option<PartitionId> {
        self.partition.get().cloned()
    }

    /// The producer that the database's events are given.
    pub(super) async fn producer(&self) -> Result<String, StoreError> {
        let client = self.beside.connection().client().await?;
        Ok(schema::check(&*client).await?.producer)
    }

    pub(super) fn status(&self) -> WalStatus {
        let (polling, held, pin) = match &*self.phase() {
            Phase::Streaming(state) => (None, state.held, state.pin.clone()),
            Phase::Polling(reason) => (Some(reason.clone()), Held::default(), None),
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
