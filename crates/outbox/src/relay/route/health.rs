//! Whether a route's events flow: what its machines say, what is shown of it, and what is noted for those who ask later.

use super::{StoreError, Task, jobs::Done};
use crate::{
    bookkeeping::{HealthState, RouteHealth},
    pipeline::Health,
    relay::{metric, status::RouteState},
};

/// Whether events flow, as each machine says.
#[derive(Default)]
pub(super) struct HealthOf {
    pub(super) pipeline: Option<Health>,
    pub(super) keeper: Option<Health>,
    /// What the bookkeeping has yet to be told.
    unnoted: Option<RouteHealth>,
    /// Whether it is being told something: one note at a time, so that none is covered by an older one.
    noting: bool,
}

impl HealthOf {
    fn combined(&self) -> Health {
        let backing_off = |health: &&Health| matches!(health, Health::BackingOff { .. });
        let both = [&self.pipeline, &self.keeper].into_iter().flatten();
        both.clone().find(backing_off).or_else(|| both.clone().next()).cloned().unwrap_or(Health::Flowing)
    }
}

impl Task {
    /// What the last owner noted of the route's health is over: this one finds out anew.
    pub(super) async fn begin_healthy(&self) -> Result<(), StoreError> {
        let noted = self.parts.bookkeeping.health(&self.name).await?;
        if noted.is_none_or(|health| health.state == HealthState::Flowing) {
            return Ok(());
        }
        let health = RouteHealth { state: HealthState::Flowing, since: self.parts.clock.wall() };
        self.parts.bookkeeping.note_health(self.guard.lease(), &self.name, &health).await
    }

    pub(super) fn show_health(&self) {
        let state = if self.paused { RouteState::Paused } else { self.health.combined().into() };
        let backing_off = matches!(state, RouteState::BackingOff { .. });
        metrics::gauge!(metric::BACKING_OFF, "route" => self.name.to_string()).set(f64::from(u8::from(backing_off)));
        self.counts.set_state(state);
    }

    /// A machine says otherwise than before.
    pub(super) fn note_health(&mut self) {
        self.show_health();
        let state = match self.health.combined() {
            Health::Flowing => HealthState::Flowing,
            Health::Overloaded => HealthState::Overloaded,
            Health::BackingOff { reason } => HealthState::BackingOff { reason },
        };
        match &state {
            HealthState::BackingOff { reason } => {
                tracing::warn!(route = %self.name, reason, "the sink as a whole does not take events; backing off");
            }
            HealthState::Overloaded => {
                tracing::warn!(route = %self.name, "too many keys are in trouble; nothing new is read");
            }
            HealthState::Flowing | HealthState::Stopped { .. } => {
                tracing::info!(route = %self.name, "events flow again");
            }
        }
        self.health.unnoted = Some(RouteHealth { state, since: self.parts.clock.wall() });
        self.store_health();
    }

    /// Notes what is not noted yet.
    pub(super) fn store_health(&mut self) {
        if self.health.noting {
            return;
        }
        let Some(health) = self.health.unnoted.take() else { return };
        self.health.noting = true;
        let (bookkeeping, guard, route) = (self.parts.bookkeeping.clone(), self.guard.clone(), self.name.clone());
        self.jobs.spawn(async move {
            let result = bookkeeping.note_health(guard.lease(), &route, &health).await;
            Done::HealthNoted { health, result }
        });
    }

    /// What failed is tried again with the next report; what came up meanwhile goes out at once.
    pub(super) fn health_noted(&mut self, health: RouteHealth, result: &Result<(), StoreError>) {
        self.health.noting = false;
        if result.is_ok() {
            self.store_health();
        } else if self.health.unnoted.is_none() {
            self.health.unnoted = Some(health);
        }
    }
}
