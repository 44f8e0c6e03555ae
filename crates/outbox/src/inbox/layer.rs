//! The layer that puts an inbox around a handler.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tower::Layer;

use super::{
    claims::{ClaimLayer, ClaimSettings},
    core::Core,
    service::InboxService,
    settings::{InboxRetry, InboxSettings, Join, Kinds, Mode, SettingsError},
};
use crate::{
    clock::{Clock, System},
    inbox_store::InboxStore,
};

/// Makes an [`InboxService`] of a handler: a [`tower::Layer`].
///
/// ```
/// use outbox::inbox::{Answer, InboxLayer, memory};
/// use tower::{Layer, Service};
/// # async fn run(event: outbox::Event) -> Result<(), outbox::StoreError> {
/// let store = memory::MemoryInbox::<Vec<String>>::new();
/// let handler = memory::handler_fn(|seen: &mut Vec<String>, event: &outbox::Event| {
///     seen.push(event.id().to_owned());
///     Answer::Done
/// });
/// let mut service = InboxLayer::in_order(store).layer(handler);
/// let applied = service.call(event).await?;
/// assert!(applied.may_be_acknowledged());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct InboxLayer<S> {
    store: S,
    settings: InboxSettings,
    clock: Arc<dyn Clock>,
}

impl<S: InboxStore> InboxLayer<S> {
    /// Effects where order does not matter ([`Mode::Once`]).
    pub fn once(store: S) -> Self {
        Self::of(store, InboxSettings::new(Mode::Once))
    }

    /// Copies of state ([`Mode::Latest`]).
    pub fn latest(store: S) -> Self {
        Self::of(store, InboxSettings::new(Mode::Latest))
    }

    /// Effects that build on each other ([`Mode::InOrder`]).
    pub fn in_order(store: S) -> Self {
        Self::of(store, InboxSettings::new(Mode::InOrder))
    }

    /// Effects across keys ([`Mode::AfterCause`]) of events that those of `producers` caused, waiting for them for at
    /// most `max_wait`.
    pub fn after_cause(store: S, producers: impl IntoIterator<Item = impl Into<String>>, max_wait: Duration) -> Self {
        let producers: BTreeSet<String> = producers.into_iter().map(Into::into).collect();
        Self::of(store, InboxSettings::new(Mode::AfterCause { producers, max_wait }))
    }

    /// An inbox with these settings.
    pub fn of(store: S, settings: InboxSettings) -> Self {
        Self { store, settings, clock: Arc::new(System) }
    }

    /// Where the consumer begins.
    pub fn join(mut self, join: Join) -> Self {
        self.settings.join = join;
        self
    }

    /// Which event types create, change and remove.
    pub fn kinds(mut self, kinds: Kinds) -> Self {
        self.settings.kinds = kinds;
        self
    }

    /// When failures are tried again.
    pub fn retry(mut self, retry: InboxRetry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// How long ids are remembered at least.
    pub fn remember_ids_for(mut self, duration: Duration) -> Self {
        self.settings.remember_ids_for = duration;
        self
    }

    /// The clock; the system's unless set.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The settings as they are.
    pub fn settings(&self) -> &InboxSettings {
        &self.settings
    }

    /// For a handler whose effect is outside of the store: each event is claimed before and completed after.
    ///
    /// # Errors
    /// [`SettingsError`] if a claim could end before its handler must have, or another setting makes no sense.
    pub fn claim(self, claim: ClaimSettings) -> Result<ClaimLayer<S>, SettingsError> {
        claim.validate()?;
        self.settings.validate()?;
        Ok(ClaimLayer { core: self.core(), claim })
    }

    fn core(&self) -> Core<S> {
        Core::new(self.store.clone(), self.settings.clone(), self.clock.clone())
    }
}

impl<S: InboxStore, H> Layer<H> for InboxLayer<S> {
    type Service = InboxService<S, H>;

    fn layer(&self, handler: H) -> InboxService<S, H> {
        InboxService::new(self.core(), handler)
    }
}
