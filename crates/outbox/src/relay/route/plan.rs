//! What a route's task is to do: a configured route, or a replay of one.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{
    bookkeeping::Replay,
    entry::Record,
    event::Event,
    pipeline::Takes,
    route::{RouteName, RouteSettings, Start},
    sink::Sink,
    store::Registration,
};

/// A route to be run.
pub(in crate::relay) struct Plan {
    pub(super) name: RouteName,
    pub(super) settings: RouteSettings,
    pub(super) sink: Arc<dyn Sink>,
    /// The calls that the sink takes at the same time, shared with the replays of the route.
    pub(super) calls: Arc<Semaphore>,
    pub(super) registration: Registration,
    pub(super) gapless: bool,
    pub(super) replay: Option<Replay>,
}

impl Plan {
    pub(in crate::relay) fn new(
        settings: RouteSettings,
        sink: Arc<dyn Sink>,
        calls: Arc<Semaphore>,
        registration: Registration,
    ) -> Self {
        let gapless = registration.gapless;
        Self { name: settings.name.clone(), settings, sink, calls, registration, gapless, replay: None }
    }

    /// The temporary route of a replay: the same sink, from the replay's start to where the route stood.
    pub(in crate::relay) fn replay(
        settings: RouteSettings,
        sink: Arc<dyn Sink>,
        calls: Arc<Semaphore>,
        registration: Registration,
        replay: Replay,
    ) -> Self {
        let gapless = registration.gapless && replay.filter.keeps_keys_whole() && replay.event.is_none();
        let start = replay.since.map_or(Start::Beginning, Start::Time);
        Self {
            name: settings.name.replay(&replay.id),
            settings,
            sink,
            calls,
            registration: Registration { start, start_position: None, ..registration },
            gapless,
            replay: Some(replay),
        }
    }

    /// Which events go out.
    pub(super) fn takes(&self) -> Takes {
        let route = self.settings.filter.compile();
        let open = self.settings.filter.is_open();
        let Some(replay) = &self.replay else {
            return if open {
                Arc::new(|_: &Record, _: &Event| true)
            } else {
                Arc::new(move |_: &Record, event: &Event| route.matches(event))
            };
        };
        let asked = replay.filter.compile();
        let (id, since, until) = (replay.event.clone(), replay.since, replay.until);
        Arc::new(move |record: &Record, event: &Event| {
            since.is_none_or(|since| record.recorded >= since)
                && until.is_none_or(|until| record.recorded < until)
                && id.as_deref().is_none_or(|id| event.id() == id)
                && route.matches(event)
                && asked.matches(event)
        })
    }
}
