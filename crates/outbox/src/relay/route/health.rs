//! Whether a route's events flow: what its machines say, what is shown of it, and what is noted for those who ask later.

use std::collections::BTreeMap;

use super::{StoreError, Task, jobs::Done};
use crate::{
    bookkeeping::{HealthState, RouteHealth},
    pipeline::Health,
    relay::{metric, status::RouteState},
};

/// Whether events flow, as each machine says.
#[derive(Default)]
pub(super) struct HealthOf {
    pub(super) pipelines: BTreeMap<usize, Health>,
    pub(super) keeper: Option<Health>,
    /// Why the table is read again, while it is.
    pub(super) recovering: Option<String>,
    /// What was told last.
    told: Option<HealthState>,
    /// What the bookkeeping has yet to be told.
    unnoted: Option<RouteHealth>,
    /// Whether it is being told something: one note at a time, so that none is covered by an older one.
    noting: bool,
}

impl HealthOf {
    /// The route's, of all its machines': the worst that any says.
    fn combined(&self) -> HealthState {
        let mut said = self.pipelines.values().chain(&self.keeper);
        let reason = said.clone().find_map(|health| match health {
            Health::BackingOff { reason } => Some(reason),
            Health::Flowing | Health::Overloaded => None,
        });
        if let Some(reason) = reason {
            HealthState::BackingOff { reason: reason.clone() }
        } else if let Some(reason) = &self.recovering {
            HealthState::Recovering { reason: reason.clone() }
        } else if said.any(|health| *health == Health::Overloaded) {
            HealthState::Overloaded
        } else {
            HealthState::Flowing
        }
    }
}

impl Task {
    /// What the last owner noted of the route's health is over, also if it was this relay: it finds out anew.
    pub(super) async fn begin_healthy(&self) -> Result<(), StoreError> {
        self.show_health();
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

    /// A machine says otherwise than before: what that makes of the route's health is told if it is something else.
    pub(super) fn note_health(&mut self) {
        self.show_health();
        let state = self.health.combined();
        if *self.health.told.get_or_insert(HealthState::Flowing) == state {
            return;
        }
        self.health.told = Some(state.clone());
        match &state {
            HealthState::BackingOff { reason } => {
                tracing::warn!(route = %self.name, reason, "the sink as a whole does not take events; backing off");
            }
            HealthState::Overloaded => {
                tracing::warn!(route = %self.name, "too many keys are in trouble; nothing new is read");
            }
            HealthState::Recovering { reason } => {
                tracing::warn!(route = %self.name, reason, "the table is read again before anything else");
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

#[cfg(test)]
mod tests {
    use super::*;

    fn backing_off() -> Health {
        Health::BackingOff { reason: "nobody listens".to_owned() }
    }

    #[test]
    fn a_route_backs_off_until_the_last_of_its_partitions_flows() {
        let mut health = HealthOf::default();
        assert_eq!(health.combined(), HealthState::Flowing);
        health.pipelines.insert(1, backing_off());
        health.pipelines.insert(2, backing_off());
        health.pipelines.insert(1, Health::Flowing);
        assert!(matches!(health.combined(), HealthState::BackingOff { .. }));
        health.pipelines.remove(&2);
        assert_eq!(health.combined(), HealthState::Flowing, "the partition is done with");
    }

    #[test]
    fn of_several_troubles_the_worst_is_told() {
        let mut health = HealthOf::default();
        health.pipelines.insert(1, Health::Overloaded);
        assert_eq!(health.combined(), HealthState::Overloaded);
        health.recovering = Some("behind".to_owned());
        assert!(matches!(health.combined(), HealthState::Recovering { .. }));
        health.keeper = Some(backing_off());
        assert!(matches!(health.combined(), HealthState::BackingOff { .. }));
    }
}
