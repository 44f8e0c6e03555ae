//! What the services around a handler share: the store, the settings, and what is done for each of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, OnceCell};

use super::{
    jobs::{BindJob, PurgeIdsJob},
    metric,
    pass::Passed,
    settings::InboxSettings,
};
use crate::{
    clock::Clock,
    error::{ErrorKind, StoreError},
    inbox_store::InboxStore,
};

/// How often a sweep looks further for ids that expired out of turn, and finds none.
const LOOKS_FOR_IDS: u32 = 16;

/// What the services of an inbox share.
pub(crate) struct Core<S> {
    pub(crate) store: S,
    pub(crate) settings: Arc<InboxSettings>,
    pub(crate) clock: Arc<dyn Clock>,
    bound: Arc<OnceCell<()>>,
    /// Something kept is ready before its time.
    pub(crate) ready: Arc<Notify>,
    /// Behind which remembered id the next sweep looks for such as expired out of turn.
    looked: Arc<AtomicU64>,
}

impl<S: Clone> Clone for Core<S> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            settings: self.settings.clone(),
            clock: self.clock.clone(),
            bound: self.bound.clone(),
            ready: self.ready.clone(),
            looked: self.looked.clone(),
        }
    }
}

impl<S: InboxStore> Core<S> {
    pub(crate) fn new(store: S, settings: InboxSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            settings: Arc::new(settings),
            clock,
            bound: Arc::default(),
            ready: Arc::default(),
            looked: Arc::default(),
        }
    }

    /// Checks once that the settings make sense and that the store's records fit the mode.
    pub(crate) async fn bind(&self) -> Result<(), StoreError> {
        let bind = || async {
            self.settings.validate().map_err(|error| StoreError::new(ErrorKind::Invalid, error.to_string()))?;
            self.store.transact(BindJob { mode: self.settings.mode.name() }).await
        };
        self.bound.get_or_try_init(bind).await.copied()
    }

    /// Forgets ids that expired, in transactions of a bounded size: the oldest, for ids expire roughly in the order they
    /// came; and such as expired out of turn, which each sweep looks for where the last one stopped.
    pub(crate) async fn forget_ids(&self) -> Result<(), StoreError> {
        if self.forget_ids_behind(0, 1).await?.is_none() {
            return Ok(());
        }
        let looked = self.looked.load(Ordering::Relaxed);
        let end = self.forget_ids_behind(looked, LOOKS_FOR_IDS).await?;
        self.looked.store(end.unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    /// Goes on until it has looked `in_vain` times, and gives where; `None` at the end.
    async fn forget_ids_behind(&self, mut after: u64, mut in_vain: u32) -> Result<Option<u64>, StoreError> {
        loop {
            let job = PurgeIdsJob { now: self.clock.wall(), after };
            let purged = self.store.transact(job).await.map_err(|error| self.failed(error))?;
            in_vain -= u32::from(purged.forgotten == 0);
            match purged.after {
                Some(next) if in_vain > 0 => after = next,
                end => return Ok(end),
            }
        }
    }

    /// Counts what became of events, and wakes the sweeper if there is more to do.
    pub(crate) fn note(&self, passed: &Passed) {
        let mode = self.settings.mode.name();
        let mut outcomes = BTreeMap::<&'static str, u64>::new();
        for applied in &passed.applied {
            *outcomes.entry(applied.name()).or_default() += 1;
        }
        for (outcome, events) in outcomes {
            metrics::counter!(metric::EVENTS, "outcome" => outcome, "mode" => mode).increment(events);
        }
        if passed.more {
            self.ready.notify_one();
        }
    }

    /// Counts what a sweep has applied.
    pub(crate) fn swept(&self, applied: u64) {
        metrics::counter!(metric::SWEPT, "mode" => self.settings.mode.name()).increment(applied);
    }

    pub(crate) fn failed(&self, error: StoreError) -> StoreError {
        metrics::counter!(metric::STORE_FAILURES, "mode" => self.settings.mode.name()).increment(1);
        error
    }
}
