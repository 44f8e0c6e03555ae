//! What an operator does to the bookkeeping.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    MemoryBookkeeping, Numbers, State,
    lanes::{LaneState, RouteState, bury},
};
use crate::{
    bookkeeping::{
        Checkpoint, DeadLetter, FrontState, Kept, KeptContent, KeptId, Operator, Replay, RouteHealth, Selector,
    },
    error::{ErrorKind, StoreError},
    event::Key,
    route::RouteName,
};

fn key_of(content: &KeptContent) -> Option<&Key> {
    match content {
        KeptContent::Event(event) => event.key(),
        KeptContent::Undecodable(row) => row.key.as_ref(),
    }
}

fn selects(selector: &Selector, kept: &Kept) -> bool {
    let kind = match &kept.content {
        KeptContent::Event(event) => Some(event.kind()),
        KeptContent::Undecodable(_) => None,
    };
    selector.id.is_none_or(|id| id == kept.id)
        && selector.key.as_ref().is_none_or(|key| key_of(&kept.content) == Some(key))
        && selector.kind.as_deref().is_none_or(|wanted| kind == Some(wanted))
}

/// The front of a lane, if it is a dead letter that `selector` means.
fn dead_letter<'a>(selector: &Selector, lane: &'a LaneState) -> Option<&'a Kept> {
    lane.events.first().filter(|front| lane.front.state == FrontState::Dead && selects(selector, front))
}

impl State {
    /// Gives the dead letters that `selector` means another state, and their troubles another generation.
    fn change_dead_letters(&mut self, route: &RouteName, selector: &Selector, change: impl Fn(&mut LaneState)) -> u64 {
        let Some(state) = self.routes.get_mut(route) else { return 0 };
        let mut changed = 0;
        for lane in state.lanes.values_mut() {
            if dead_letter(selector, lane).is_some() {
                change(lane);
                lane.generation = Numbers::next(&mut self.numbers.generation);
                changed += 1;
            }
        }
        self.operator_changes += u64::from(changed > 0);
        changed
    }
}

/// Removes what is of `key` from a route, and leaves tombstones; lanes that are left empty are released. Gives how many
/// events it was.
fn erase_from(route: &mut RouteState, key: &Key, numbers: &mut Numbers) -> u64 {
    let mut erased = 0;
    route.lanes.retain(|_, lane| {
        let gone: Vec<_> = lane.events.extract_if(.., |kept| key_of(&kept.content) == Some(key)).collect();
        if !gone.is_empty() {
            lane.generation = Numbers::next(&mut numbers.generation);
        }
        bury(&mut route.graves, &gone);
        erased += gone.len() as u64;
        !lane.events.is_empty()
    });
    erased
}

/// The name that a route, or a replay's temporary route of it, has when `from` is renamed `to`.
fn renamed(name: &RouteName, from: &RouteName, to: &RouteName) -> Option<RouteName> {
    if name == from {
        return Some(to.clone());
    }
    let replay = name.as_str().strip_prefix(from.as_str())?.strip_prefix("/replay/")?;
    Some(to.replay(replay))
}

#[async_trait]
impl Operator for MemoryBookkeeping {
    async fn dead_letters(
        &self,
        route: &RouteName,
        selector: &Selector,
        after: Option<KeptId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let listed = |state: &RouteState| {
            let lanes = state.lanes.values();
            let mut letters: Vec<_> = lanes
                .filter_map(|lane| dead_letter(selector, lane).map(|kept| (lane, kept)))
                .filter(|(_, kept)| after.is_none_or(|after| kept.id > after))
                .map(|(lane, kept)| DeadLetter {
                    route: route.clone(),
                    kept: kept.clone(),
                    front: lane.front.clone(),
                    parked: lane.parked(),
                })
                .collect();
            letters.sort_by_key(|letter| letter.kept.id);
            letters.truncate(limit);
            letters
        };
        Ok(self.read(route, listed))
    }

    async fn redrive(&self, route: &RouteName, selector: &Selector, now: Timestamp) -> Result<u64, StoreError> {
        Ok(self.state().change_dead_letters(route, selector, |lane| {
            lane.front.state = FrontState::Retrying { due: now };
            lane.front.attempts = 0;
        }))
    }

    async fn discard(&self, route: &RouteName, selector: &Selector, reason: &str) -> Result<u64, StoreError> {
        Ok(self.state().change_dead_letters(route, selector, |lane| {
            lane.front.state = FrontState::Discarded { reason: reason.to_owned() };
        }))
    }

    async fn erase(&self, key: &Key) -> Result<u64, StoreError> {
        let mut state = self.state();
        let State { routes, numbers, .. } = &mut *state;
        let erased = routes.values_mut().map(|route| erase_from(route, key, numbers)).sum();
        state.operator_changes += u64::from(erased > 0);
        Ok(erased)
    }

    async fn health(&self, route: &RouteName) -> Result<Option<RouteHealth>, StoreError> {
        Ok(self.read(route, |state| state.health.clone()))
    }

    async fn paused(&self) -> Result<Vec<RouteName>, StoreError> {
        let state = self.state();
        Ok(state.routes.iter().filter(|(_, route)| route.paused).map(|(name, _)| name.clone()).collect())
    }

    async fn pause(&self, route: &RouteName, paused: bool) -> Result<(), StoreError> {
        let mut state = self.state();
        let route = state.routes.entry(route.clone()).or_default();
        let changed = route.paused != paused;
        route.paused = paused;
        state.operator_changes += u64::from(changed);
        Ok(())
    }

    async fn replays(&self) -> Result<Vec<Replay>, StoreError> {
        let mut replays = self.state().replays.clone();
        replays.sort_by_key(|replay| replay.finished);
        Ok(replays)
    }

    async fn put_replay(&self, replay: &Replay) -> Result<(), StoreError> {
        let mut state = self.state();
        match state.replays.iter_mut().find(|known| known.id == replay.id) {
            Some(known) => *known = replay.clone(),
            None => state.replays.push(replay.clone()),
        }
        state.operator_changes += 1;
        Ok(())
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        let mut state = self.state();
        let replayed = state.replays.iter().any(|replay| replay.route == *to);
        if replayed || state.routes.get(to).is_some_and(|route| !route.is_blank()) {
            let message = format!("the bookkeeping has something of route `{to}` already: choose another name");
            return Err(StoreError::new(ErrorKind::Invalid, message));
        }
        for name in state.routes.keys().cloned().collect::<Vec<_>>() {
            if let Some(renamed) = renamed(&name, from, to)
                && let Some(route) = state.routes.remove(&name)
            {
                state.routes.insert(renamed, route);
            }
        }
        for replay in state.replays.iter_mut().filter(|replay| replay.route == *from) {
            replay.route = to.clone();
        }
        state.operator_changes += 1;
        Ok(())
    }

    async fn forget_route(&self, route: &RouteName) -> Result<(), StoreError> {
        let mut state = self.state();
        state.routes.retain(|name, _| renamed(name, route, route).is_none());
        state.replays.retain(|replay| replay.route != *route);
        state.operator_changes += 1;
        Ok(())
    }

    async fn routes(&self) -> Result<Vec<RouteName>, StoreError> {
        let state = self.state();
        let read = state.routes.iter().filter(|(_, route)| !route.checkpoints.is_empty());
        Ok(read.map(|(name, _)| name.clone()).collect())
    }

    async fn renew_id(&self, id: &str) -> Result<(), StoreError> {
        let mut state = self.state();
        id.clone_into(&mut state.id);
        state.claims.clear();
        state.operator_changes += 1;
        Ok(())
    }

    async fn reset_checkpoint(&self, route: &RouteName, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let mut state = self.state();
        let route = state.routes.entry(route.clone()).or_default();
        route.checkpoints.insert(checkpoint.partition.clone(), checkpoint.clone());
        if let Some(witnesses) = route.witnesses.get_mut(&checkpoint.partition) {
            witnesses.go_back_to(&checkpoint.position);
        }
        state.operator_changes += 1;
        Ok(())
    }
}
