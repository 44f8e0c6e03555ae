//! What an operator does: list dead letters, redrive, discard, erase; and how routes are doing.

use std::collections::HashSet;

use jiff::Timestamp;
use outbox::{
    ErrorKind, Key, Lane, RouteName, StoreError,
    bookkeeping::{DeadLetter, FrontState, HealthState, Kept, KeptContent, KeptId, Lease, RouteHealth, Selector},
};

use super::{
    books::{Books, ROWS, Sent, damaged},
    lanes::LaneRow,
    routes::RouteRow,
    rows::{If, Row},
};
use crate::dynamodb::item::{item, text, text_of};

const CHANGING: &str = "changing dead letters";

/// What becomes of a dead letter.
#[derive(Clone)]
pub(super) enum Verdict {
    /// It is tried at once, with no attempt counted.
    Redriven(Timestamp),
    /// It is given up, for this reason.
    Discarded(String),
}

impl Books {
    /// Lanes of a route whose fronts are dead letters, by number, behind `after`.
    async fn dead(
        &self,
        route: &RouteRow,
        selector: &Selector,
        after: Option<KeptId>,
    ) -> Result<Vec<LaneRow>, StoreError> {
        let mut lanes = self.lanes(route).await?;
        lanes.retain(|lane| is_dead(lane, selector) && after.is_none_or(|after| lane.first > after.0));
        lanes.sort_by_key(|lane| lane.first);
        Ok(lanes)
    }

    /// Those of `lanes` whose fronts a selector means, with the fronts.
    async fn meant(
        &self,
        lanes: Vec<LaneRow>,
        selector: &Selector,
        limit: usize,
    ) -> Result<Vec<(LaneRow, Kept)>, StoreError> {
        let mut meant = Vec::new();
        for lane in lanes {
            if meant.len() >= limit {
                break;
            }
            // One that was settled since is no dead letter any more.
            let Some(kept) = self.kept_in(&lane, 1).await?.and_then(|mut kept| kept.pop()) else { continue };
            if means(selector, &kept.content) {
                meant.push((lane, kept));
            }
        }
        Ok(meant)
    }

    pub(super) async fn dead_letters(
        &self,
        name: &RouteName,
        selector: &Selector,
        after: Option<KeptId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let Some(route) = self.route(name).await? else { return Ok(Vec::new()) };
        let letter = |(lane, kept): (LaneRow, _)| DeadLetter {
            route: name.clone(),
            kept,
            parked: lane.trouble.kept.saturating_sub(1),
            front: lane.trouble.front,
        };
        let dead = self.dead(&route, selector, after).await?;
        Ok(self.meant(dead, selector, limit).await?.into_iter().map(letter).collect())
    }

    /// Changes the fronts that are meant, as many at once as one transaction takes, and gives each trouble another
    /// generation: a keeper that does not know of the change yet cannot settle over it.
    pub(super) async fn change(
        &self,
        name: &RouteName,
        selector: &Selector,
        verdict: &Verdict,
    ) -> Result<u64, StoreError> {
        let Some(route) = self.route(name).await? else { return self.note_change(CHANGING).await.map(|()| 0) };
        let mut done = 0;
        for some in self.dead(&route, selector, None).await?.chunks(ROWS / 2) {
            done += self.change_some(name, &route, some.to_vec(), selector, verdict).await?;
        }
        if done == 0 {
            self.note_change(CHANGING).await?;
        }
        Ok(done)
    }

    /// The same, of lanes that one transaction takes.
    async fn change_some(
        &self,
        name: &RouteName,
        route: &RouteRow,
        mut lanes: Vec<LaneRow>,
        selector: &Selector,
        verdict: &Verdict,
    ) -> Result<u64, StoreError> {
        let mut pauses = self.calls.pauses();
        loop {
            let meant = self.meant(lanes, selector, usize::MAX).await?;
            if meant.is_empty() {
                return Ok(0);
            }
            let changed = meant.len() as u64;
            let first = self.numbers(meant.len()).await?;
            let (mut rows, mut read) = (vec![self.changed()?], Vec::new());
            for (generation, (mut lane, _)) in (first..).zip(meant) {
                read.push(lane.row.clone());
                lane.trouble.generation = generation;
                match verdict {
                    Verdict::Redriven(now) => {
                        lane.trouble.front.state = FrontState::Retrying { due: *now };
                        lane.trouble.front.attempts = 0;
                    }
                    Verdict::Discarded(reason) => {
                        lane.trouble.front.state = FrontState::Discarded { reason: reason.clone() };
                    }
                }
                rows.push(self.writes_lane(&lane)?);
            }
            match self.write(None, Some(self.called(route)?), rows, CHANGING).await? {
                Sent::Done => return Ok(changed),
                Sent::Changed if pauses.wait(&*self.calls.clock).await => {}
                Sent::Changed => return Err(Self::busy(CHANGING)),
            }
            if self.route(name).await?.is_none_or(|now| now.id != route.id) {
                return Ok(0);
            }
            lanes = Vec::new();
            for row in &read {
                lanes.extend(self.lane(row).await?.filter(|lane| is_dead(lane, selector)));
            }
        }
    }

    async fn note_change(&self, what: &'static str) -> Result<(), StoreError> {
        self.write(None, None, vec![self.changed()?], what).await.map(drop)
    }

    /// Erases every kept event of `key`, and releases its lanes, one part of a lane after the other.
    pub(super) async fn erase(&self, key: &Key) -> Result<u64, StoreError> {
        const ERASING: &str = "erasing kept events";
        let mut erased = 0;
        for (id, name) in self.names().await? {
            let Some(route) = self.route(&name).await?.filter(|route| route.id == id) else { continue };
            for lane in self.lanes(&route).await? {
                let is_meant = match &lane.trouble.lane {
                    Lane::Key(of) => of == key,
                    Lane::Event(_) => lane.keys.contains(key.as_str()),
                };
                if !is_meant {
                    continue;
                }
                if lane.keys.len() > 1 {
                    let message = format!(
                        "{ERASING}: lane `{}` of route `{name}` holds events of other keys besides, whose producers gave the same id: discard them by number",
                        lane.trouble.lane.to_text()
                    );
                    return Err(StoreError::new(ErrorKind::Invalid, message));
                }
                erased += self.erase_lane(&route, &lane.row).await?;
            }
        }
        self.note_change(ERASING).await?;
        // What could not be deleted before, too: erased is what is not there any more.
        let swept = self.sweep_all_passed().await.and(self.sweep_abandoned().await);
        swept.map_err(|error| {
            error.context(
                "the events are erased, and some of their payloads are still in the table: erase the key again",
            )
        })?;
        Ok(erased)
    }

    async fn erase_lane(&self, route: &RouteRow, row: &Row) -> Result<u64, StoreError> {
        const ERASING: &str = "erasing kept events";
        let (mut erased, mut pauses) = (0, self.calls.pauses());
        while let Some(mut lane) = self.lane(row).await? {
            let indexes = self.indexes(&lane, |_| false).await?;
            let numbers = indexes.iter().flat_map(|index| &index.entries).map(|entry| entry.0);
            let part: HashSet<_> = numbers.filter(|number| *number >= lane.first).take(ROWS).collect();
            let removal = self.removal(&lane, &part, true).await?;
            let passed = removal.as_ref().and_then(|removal| removal.passed(&lane));
            let sent = match &removal {
                None => Sent::Changed,
                Some(removal) => {
                    let mut rows = vec![self.changed()?];
                    for (identity, stored) in &removal.removed {
                        rows.push(self.buries(route, identity, stored)?);
                    }
                    if let Some(passed) = &passed {
                        rows.push(self.notes_passed(passed)?);
                    }
                    rows.push(match removal.left() {
                        None => self.releases_lane(&lane)?,
                        Some(first) => {
                            lane.first = first;
                            lane.trouble.kept -= removal.removed.len() as u64;
                            self.writes_lane(&lane)?
                        }
                    });
                    self.write(None, Some(self.called(route)?), rows, ERASING).await?
                }
            };
            match (sent, removal) {
                (Sent::Done, Some(removal)) => {
                    erased += removal.removed.len() as u64;
                    if let Some(passed) = &passed {
                        self.sweep_passed(passed).await;
                    }
                }
                _ if pauses.wait(&*self.calls.clock).await => {}
                _ => return Err(Self::busy(ERASING)),
            }
        }
        Ok(erased)
    }

    pub(super) async fn note_health(
        &self,
        lease: &Lease,
        name: &RouteName,
        health: &RouteHealth,
    ) -> Result<(), StoreError> {
        const NOTING: &str = "noting a route's health";
        let (state, reason) = match &health.state {
            HealthState::Flowing => ("flowing", None),
            HealthState::BackingOff { reason } => ("backing_off", Some(reason)),
            HealthState::Overloaded => ("overloaded", None),
            HealthState::Recovering { reason } => ("recovering", Some(reason)),
            HealthState::Stopped { reason } => ("stopped", Some(reason)),
        };
        let mut attributes = item([("state", text(state)), ("since", text(health.since.to_string()))]);
        attributes.extend(reason.map(|reason| ("reason".to_owned(), text(reason))));
        let mut pauses = self.calls.pauses();
        loop {
            let route = self.route_or_new(name).await?;
            let put = self.actions().put(&Row::new("health", &route.id), attributes.clone(), If::Anything)?;
            match self.write(Some(lease), Some(self.called(&route)?), vec![put], NOTING).await? {
                Sent::Done => return Ok(()),
                Sent::Changed if pauses.wait(&*self.calls.clock).await => {}
                Sent::Changed => return Err(Self::busy(NOTING)),
            }
        }
    }

    pub(super) async fn health(&self, name: &RouteName) -> Result<Option<RouteHealth>, StoreError> {
        let Some(route) = self.route(name).await? else { return Ok(None) };
        let Some(found) = self.get(&Row::new("health", &route.id), "reading a route's health").await? else {
            return Ok(None);
        };
        let wrong = |what| damaged("health", &route.id, what);
        let reason = || text_of(&found, "reason").map(str::to_owned).ok_or_else(|| wrong("reason"));
        let state = match text_of(&found, "state") {
            Some("flowing") => HealthState::Flowing,
            Some("overloaded") => HealthState::Overloaded,
            Some("backing_off") => HealthState::BackingOff { reason: reason()? },
            Some("recovering") => HealthState::Recovering { reason: reason()? },
            Some("stopped") => HealthState::Stopped { reason: reason()? },
            Some(_) | None => return Err(wrong("state")),
        };
        let since = text_of(&found, "since").and_then(|since| since.parse().ok()).ok_or_else(|| wrong("since"))?;
        Ok(Some(RouteHealth { state, since }))
    }
}

/// Whether the front of a lane is a dead letter, and no other than the one that is asked for by number.
fn is_dead(lane: &LaneRow, selector: &Selector) -> bool {
    lane.trouble.front.state == FrontState::Dead && selector.id.is_none_or(|id| id.0 == lane.first)
}

/// Whether a selector means this front.
fn means(selector: &Selector, content: &KeptContent) -> bool {
    let (key, kind) = match content {
        KeptContent::Event(event) => (event.key(), Some(event.kind())),
        KeptContent::Undecodable(row) => (row.key.as_ref(), None),
    };
    selector.key.as_ref().is_none_or(|wanted| key == Some(wanted))
        && selector.kind.as_deref().is_none_or(|wanted| kind == Some(wanted))
}
