//! What people are shown of a relay.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{checks::at_once, rule::Rule, world::World};
use crate::{
    bookkeeping::{HealthState, Operator as _, RouteHealth},
    relay::{RelayStatus, RouteState, RouteStatus},
};

/// How long it may take until what is shown is so: gauges are set every few seconds.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(400);

/// Once everything has come right the owner's status says so, and so does the health that is noted for other processes.
pub(super) async fn all_is_well(world: &World, status: impl Fn() -> Option<RelayStatus>) {
    let until = Instant::now() + SHOWN_WITHIN;
    loop {
        let Some(wrong) = status().and_then(|status| wrong(world, &status)) else { return };
        if Instant::now() >= until {
            world.breach(Rule::Visible, format!("everything has come right, and {wrong}"));
            return;
        }
        sleep(LOOK).await;
    }
}

/// What is shown that is not so.
fn wrong(world: &World, status: &RelayStatus) -> Option<String> {
    let shown = status.routes.iter().find_map(|route| {
        let stalled = route.partitions.iter().any(|partition| partition.stalled);
        let RouteStatus { name, state, in_flight, troubled, .. } = route;
        let is_well = *state == RouteState::Flowing && (*in_flight, *troubled, stalled) == (0, 0, false);
        (!is_well).then(|| {
            format!(
                "route `{name}` is shown as {state:?}: {in_flight} in flight, {troubled} troubled, stalled: {stalled}"
            )
        })
    });
    shown.or_else(|| {
        status.routes.iter().find_map(|route| {
            let noted: Option<RouteHealth> = at_once(world.books.health(&route.name));
            let noted = noted.filter(|health| health.state != HealthState::Flowing)?;
            Some(format!("the health of route `{}` is noted as {:?}", route.name, noted.state))
        })
    })
}
