//! Routes: health, pause, replays, new names and ends.

use std::{collections::BTreeSet, sync::Arc};

use super::{keep_it, replay};
use crate::{
    bookkeeping::{
        Bookkeeping, Checkpoint, HealthState, KeepOutcome, Lease, Operator, Replay, RouteHealth, Settlement,
    },
    error::ErrorKind,
    filter::Filter,
    testing::sample::{at, dead, keep, kept_ids, lane, partition, position, route, settlement, take, witness},
};

/// Runs every check of this room.
pub async fn all(fresh: &impl AsyncFn() -> Arc<dyn Operator>) {
    checks! {
        "`Operator::health`: how the route is doing, as last noted." => {
            health_is_as_last_noted(fresh().await);
        }
        "`Operator::pause` pauses or resumes a route." => {
            a_route_is_paused_until_it_is_resumed(fresh().await);
        }
        "`Operator::replays`: replays that were asked for, the finished ones last." => {
            replays_are_listed_the_finished_ones_last(fresh().await);
        }
        "`Operator::rename_route` gives everything of a route another route's name; `ErrorKind::Invalid` if that has anything." => {
            a_renamed_route_takes_everything_along(fresh().await);
            a_route_is_not_renamed_over_another(fresh().await);
        }
        "`Operator::forget_route` forgets everything of a route." => {
            a_forgotten_route_leaves_nothing(fresh().await);
        }
        "`Operator::reset_checkpoint` sets a route's checkpoint, whatever it was, and forgets the witnesses behind it." => {
            a_reset_checkpoint_forgets_later_witnesses(fresh().await);
        }
        "`Operator::routes`: every name that has a checkpoint, by name." => {
            every_route_with_a_checkpoint_is_known(fresh().await);
        }
    }
}

/// The health of a route is what its relay noted last, in each of its states.
pub async fn health_is_as_last_noted(operator: Arc<dyn Operator>) {
    const RULE: &str = "health is as last noted";
    let lease = take(&*operator, "relay").await;
    assert_eq!(operator.health(&route("a")).await.expect("health can be read"), None, "{RULE}: nothing yet");
    let reason = "connection refused".to_owned();
    let states = [
        HealthState::BackingOff { reason: reason.clone() },
        HealthState::Overloaded,
        HealthState::Recovering { reason: reason.clone() },
        HealthState::Stopped { reason },
        HealthState::Flowing,
    ];
    for (state, seconds) in states.into_iter().zip(1..) {
        let noted = RouteHealth { state, since: at(seconds) };
        operator.note_health(&lease, &route("a"), &noted).await.expect("health can be noted");
        let read = operator.health(&route("a")).await.expect("health can be read");
        assert_eq!(read, Some(noted), "{RULE}");
    }
    assert_eq!(operator.health(&route("b")).await.expect("health can be read"), None, "{RULE}: of this route only");
}

/// Pausing twice is pausing once.
pub async fn a_route_is_paused_until_it_is_resumed(operator: Arc<dyn Operator>) {
    const RULE: &str = "a route is paused until it is resumed";
    for (name, pause, expected) in [
        ("a", true, vec!["a"]),
        ("b", true, vec!["a", "b"]),
        ("a", true, vec!["a", "b"]),
        ("a", false, vec!["b"]),
        ("a", false, vec!["b"]),
        ("never", false, vec!["b"]),
    ] {
        operator.pause(&route(name), pause).await.expect("a route can be paused and resumed");
        let paused = operator.paused().await.expect("paused routes can be listed");
        let paused: BTreeSet<_> = paused.into_iter().collect();
        assert_eq!(paused, expected.into_iter().map(route).collect(), "{RULE}: after {name}, {pause}");
    }
}

/// A replay comes back as it was asked for; it is put again when it is finished, and is then behind the others.
pub async fn replays_are_listed_the_finished_ones_last(operator: Arc<dyn Operator>) {
    const RULE: &str = "replays are listed, the finished ones last";
    let plain = Replay {
        filter: Filter::default(),
        event: None,
        since: None,
        until: Some(at(50)),
        ends: Vec::new(),
        ..replay("two")
    };
    for asked in [&replay("one"), &plain] {
        operator.put_replay(asked).await.expect("a replay can be asked for");
    }
    let listed: BTreeSet<_> = operator.replays().await.expect("replays can be listed").iter().map(id_of).collect();
    assert_eq!(listed, ["one", "two"].map(str::to_owned).into(), "{RULE}");
    let done = Replay { finished: true, ..replay("one") };
    let lease = take(&*operator, "relay").await;
    let former = Lease { epoch: lease.epoch - 1, ..lease.clone() };
    let refused = operator.note_replayed(&former, "one").await.map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::Fenced), "{RULE}: only the owner says what is done");
    assert_eq!(operator.replays().await.expect("replays can be listed").iter().filter(|one| one.finished).count(), 0);
    let before = operator.operator_changes().await.expect("changes can be counted");
    for id in ["one", "unknown"] {
        operator.note_replayed(&lease, id).await.expect("a replay can be finished");
    }
    assert_eq!(operator.operator_changes().await.expect("changes can be counted"), before, "{RULE}: by its relay");
    assert_eq!(
        operator.replays().await.expect("replays can be listed"),
        [plain, done],
        "{RULE}: as they were asked for"
    );
}

fn id_of(replay: &Replay) -> String {
    replay.id.clone()
}

/// Gives `name` something of everything that a bookkeeping has of a route.
async fn furnish(operator: &Arc<dyn Operator>, lease: &Lease, name: &str) {
    let at_route = route(name);
    let checkpoint = Checkpoint { partition: partition(), position: position(7), finished: false };
    operator.checkpoint(lease, &at_route, &checkpoint, Some(&witness(7))).await.expect("a checkpoint is stored");
    keep_it(&**operator, lease, name, &keep("gone", Some(dead(1)), [1])).await;
    let bookkeeping: Arc<dyn Bookkeeping> = operator.clone();
    let discarded = settlement(&bookkeeping, &at_route, &lane("gone"), 1, None).await;
    let discarded = Settlement { discarded: true, ..discarded };
    operator.settle(lease, &at_route, &discarded).await.expect("the owner settles");
    keep_it(&**operator, lease, name, &keep("k", Some(dead(1)), [1, 2])).await;
    let health = RouteHealth { state: HealthState::Overloaded, since: at(1) };
    operator.note_health(lease, &at_route, &health).await.expect("health can be noted");
    operator.pause(&at_route, true).await.expect("a route can be paused");
    let asked = Replay { route: at_route, ..replay(&format!("of-{name}")) };
    operator.put_replay(&asked).await.expect("a replay can be asked for");
}

/// What a bookkeeping has of a route, in short.
async fn furniture(operator: &dyn Operator, name: &str) -> Vec<String> {
    let route = route(name);
    let mut found = Vec::new();
    let checkpoints = operator.checkpoints(&route).await.expect("checkpoints can be read");
    found.extend(checkpoints.iter().map(|checkpoint| format!("checkpoint {}", checkpoint.position)));
    let troubles = operator.troubles(&route, None, 10).await.expect("troubles can be read");
    found.extend(troubles.iter().map(|trouble| format!("{:?} with {}", trouble.lane, trouble.kept)));
    for id in kept_ids(operator, &route, &lane("k")).await {
        found.push(format!("kept {id}"));
    }
    let tombstones = operator.tombstones(&route).await.expect("tombstones can be read");
    found.extend(tombstones.iter().map(|(id, ..)| format!("tombstone {id}")));
    let health = operator.health(&route).await.expect("health can be read");
    found.extend(health.map(|health| format!("health {:?}", health.state)));
    let paused = operator.paused().await.expect("paused routes can be listed");
    found.extend(paused.iter().filter(|paused| **paused == route).map(|_| "paused".to_owned()));
    let replays = operator.replays().await.expect("replays can be listed");
    found.extend(replays.iter().filter(|replay| replay.route == route).map(|_| "a replay".to_owned()));
    found
}

/// Checkpoints, kept events, tombstones, health, pause and replays go by the new name.
pub async fn a_renamed_route_takes_everything_along(operator: Arc<dyn Operator>) {
    const RULE: &str = "a renamed route takes everything along";
    let lease = take(&*operator, "relay").await;
    furnish(&operator, &lease, "a").await;
    let before = furniture(&*operator, "a").await;
    assert_eq!(before.len(), 8, "{RULE}: (there is something of everything: {before:?})");
    operator.rename_route(&route("a"), &route("c")).await.expect("a route can be renamed");
    assert_eq!(furniture(&*operator, "c").await, before, "{RULE}");
    assert_eq!(furniture(&*operator, "a").await, Vec::<String>::new(), "{RULE}: nothing is left");
    let parked = keep_it(&*operator, &lease, "c", &keep("k", None, [3])).await;
    assert!(matches!(parked, KeepOutcome::Stored { .. }), "{RULE}: and it works under the new name: {parked:?}");
}

/// Two routes cannot become one.
pub async fn a_route_is_not_renamed_over_another(operator: Arc<dyn Operator>) {
    const RULE: &str = "a route is not renamed over another";
    let lease = take(&*operator, "relay").await;
    furnish(&operator, &lease, "a").await;
    furnish(&operator, &lease, "b").await;
    let before = (furniture(&*operator, "a").await, furniture(&*operator, "b").await);
    let refused = operator.rename_route(&route("a"), &route("b")).await.map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::Invalid), "{RULE}");
    let after = (furniture(&*operator, "a").await, furniture(&*operator, "b").await);
    assert_eq!(after, before, "{RULE}: and nothing changed");
}

/// A retired route leaves nothing, and others keep everything.
pub async fn a_forgotten_route_leaves_nothing(operator: Arc<dyn Operator>) {
    const RULE: &str = "a forgotten route leaves nothing";
    let lease = take(&*operator, "relay").await;
    furnish(&operator, &lease, "a").await;
    furnish(&operator, &lease, "b").await;
    let other = furniture(&*operator, "b").await;
    for _ in 0..2 {
        operator.forget_route(&route("a")).await.expect("a route can be forgotten, and again");
        assert_eq!(furniture(&*operator, "a").await, Vec::<String>::new(), "{RULE}");
    }
    assert_eq!(furniture(&*operator, "b").await, other, "{RULE}: others keep everything");
}

/// After an adoption the lost history bears no witness any more.
pub async fn a_reset_checkpoint_forgets_later_witnesses(operator: Arc<dyn Operator>) {
    const RULE: &str = "a reset checkpoint forgets later witnesses";
    let lease = take(&*operator, "relay").await;
    for number in 1..=5 {
        let checkpoint = Checkpoint { partition: partition(), position: position(number), finished: false };
        let stored = operator.checkpoint(&lease, &route("a"), &checkpoint, Some(&witness(number))).await;
        stored.expect("a checkpoint is stored");
    }
    let back = Checkpoint { partition: partition(), position: position(3), finished: false };
    operator.reset_checkpoint(&route("a"), &back).await.expect("a checkpoint can be reset");
    let read = operator.checkpoints(&route("a")).await.expect("checkpoints can be read");
    assert_eq!(read, [back], "{RULE}: the checkpoint is as it was set");
    let witnesses = operator.witnesses(&partition()).await.expect("witnesses can be read");
    assert!(!witnesses.contains(&witness(4)) && !witnesses.contains(&witness(5)), "{RULE}: {witnesses:?}");
    let fresh = Checkpoint { partition: partition(), position: position(1), finished: false };
    operator.reset_checkpoint(&route("new"), &fresh).await.expect("a route without a checkpoint can be given one");
    let read = operator.checkpoints(&route("new")).await.expect("checkpoints can be read");
    assert_eq!(read, [fresh], "{RULE}: of any route");
}

/// So that an adoption finds all that a bookkeeping has read, whatever the business store knows of it.
pub async fn every_route_with_a_checkpoint_is_known(operator: Arc<dyn Operator>) {
    const RULE: &str = "every route with a checkpoint is known";
    let lease = take(&*operator, "relay").await;
    let known = async || operator.routes().await.expect("routes can be listed");
    assert_eq!(known().await, [], "{RULE}: nothing yet");
    operator.pause(&route("paused"), true).await.expect("a route can be paused");
    let replay = route("b").replay("one");
    let checkpoint = Checkpoint { partition: partition(), position: position(7), finished: false };
    for name in [&route("c"), &replay, &route("b")] {
        operator.checkpoint(&lease, name, &checkpoint, Some(&witness(7))).await.expect("a checkpoint is stored");
    }
    assert_eq!(known().await, [route("b"), replay, route("c")], "{RULE}: by name, replays too");
    operator.rename_route(&route("c"), &route("a")).await.expect("a route can be renamed");
    operator.forget_route(&route("b")).await.expect("a route can be forgotten");
    assert_eq!(known().await, [route("a")], "{RULE}: as they are called now");
}
