//! What a keeper has to do.

use std::time::Duration;

use jiff::Timestamp;
use outbox::{
    Moment, StoreError,
    bookkeeping::{FrontState, Trouble},
    route::RouteName,
};

use super::Parts;

/// Lanes in trouble are read in pages of so many.
const PAGE: usize = 1000;

/// Looks for it.
pub(super) struct Work<'a> {
    parts: &'a Parts,
}

impl<'a> Work<'a> {
    pub(super) fn new(parts: &'a Parts) -> Self {
        Self { parts }
    }

    /// Whether something is to be done before `until`: a front to be tried again or removed, a replay to be carried out.
    pub(super) async fn is_due(&self, until: Moment) -> Result<bool, StoreError> {
        let Parts { routes, bookkeeping, clock, .. } = self.parts;
        let left = until.since(clock.moment());
        let until = clock.wall().saturating_add(left).unwrap_or(Timestamp::MAX);
        let paused = bookkeeping.paused().await?;
        let mut names: Vec<RouteName> = Vec::new();
        let is_ours = |name: &RouteName| routes.iter().any(|(route, _)| route.name == *name) && !paused.contains(name);
        for replay in bookkeeping.replays().await?.into_iter().filter(|replay| is_ours(&replay.route)) {
            if !replay.finished {
                return Ok(true);
            }
            names.push(replay.route.replay(&replay.id));
        }
        names.extend(routes.iter().map(|(route, _)| route.name.clone()).filter(is_ours));
        for name in &names {
            if troubles(self.parts, name).await?.iter().any(|trouble| is_due(trouble, until)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn is_due(trouble: &Trouble, until: Timestamp) -> bool {
    match &trouble.front.state {
        FrontState::Retrying { due } => *due <= until,
        FrontState::Discarded { .. } => true,
        FrontState::Dead => false,
    }
}

/// All lanes of a route in trouble.
pub(super) async fn troubles(parts: &Parts, route: &RouteName) -> Result<Vec<Trouble>, StoreError> {
    let mut troubles: Vec<Trouble> = Vec::new();
    loop {
        let after = troubles.last().map(|trouble| trouble.lane.clone());
        let page = parts.bookkeeping.troubles(route, after.as_ref(), PAGE).await?;
        let full = page.len() == PAGE;
        troubles.extend(page);
        if !full {
            return Ok(troubles);
        }
    }
}

/// How long ago `since` was.
pub(super) fn age(now: Timestamp, since: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}
