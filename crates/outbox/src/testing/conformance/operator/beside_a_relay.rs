//! What an operator does while a relay is at work on the same.

use std::sync::Arc;

use super::{any, by_key, dead_letters, discard, front, keep_it, known, redrive, replay, settled};
use crate::{
    bookkeeping::{Checkpoint, FrontState, KeepOutcome, Operator, SettleOutcome},
    testing::{
        conformance::{RACES, in_time},
        sample::{dead, keep, key, partition, position, retrying, route, take},
    },
};

/// Runs every check of this room.
pub async fn all(fresh: &impl AsyncFn() -> Arc<dyn Operator>) {
    checks! {
        "`Bookkeeping::settle`: a front whose state changes in the store meanwhile (redriven, discarded) is not overwritten." => {
            a_settlement_does_not_overwrite_a_redrive(fresh().await);
            a_settlement_does_not_overwrite_a_discard(fresh().await);
            a_redrive_at_the_moment_of_a_settlement_is_not_lost(fresh().await);
            an_erased_trouble_cannot_be_settled(fresh().await);
        }
        "`Bookkeeping::operator_changes` rises whenever an operator changed something." => {
            each_change_is_noticed(fresh().await);
        }
    }
}

async fn changes(operator: &dyn Operator) -> u64 {
    operator.operator_changes().await.expect("changes are counted")
}

/// A settlement repeated after a lost answer, with a redrive between: the redrive holds, and the keeper is told.
pub async fn a_settlement_does_not_overwrite_a_redrive(operator: Arc<dyn Operator>) {
    const RULE: &str = "a settlement does not overwrite a redrive";
    let lease = take(&*operator, "relay").await;
    keep_it(&*operator, &lease, "a", &keep("k", Some(retrying(9)), [1, 2])).await;
    let gave_up = known(&operator, "k", 0, Some(dead(10))).await;
    assert_eq!(settled(&*operator, &lease, &gave_up).await, SettleOutcome::Left(2), "{RULE}: (it is a dead letter)");
    assert_eq!(redrive(&*operator, &any()).await, 1, "{RULE}: (it is redriven)");
    let redriven = front(&*operator, "k").await;
    assert_eq!(settled(&*operator, &lease, &gave_up).await, SettleOutcome::Changed, "{RULE}: the keeper is told");
    assert_eq!(front(&*operator, "k").await, redriven, "{RULE}: the redrive holds");
    let loaded = known(&operator, "k", 1, Some(retrying(0))).await;
    assert_eq!(
        settled(&*operator, &lease, &loaded).await,
        SettleOutcome::Left(1),
        "{RULE}: once loaded again it goes on"
    );
    assert_eq!(front(&*operator, "k").await, retrying(0), "{RULE}: and its next settlement counts");
}

/// Likewise for a discard: neither the front's state nor its removal by a keeper that does not know of it.
pub async fn a_settlement_does_not_overwrite_a_discard(operator: Arc<dyn Operator>) {
    const RULE: &str = "a settlement does not overwrite a discard";
    let lease = take(&*operator, "relay").await;
    keep_it(&*operator, &lease, "a", &keep("k", Some(dead(9)), [1, 2])).await;
    let late = known(&operator, "k", 0, Some(retrying(1))).await;
    assert_eq!(discard(&*operator, &any()).await, 1, "{RULE}: (it is discarded)");
    let discarded = front(&*operator, "k").await;
    assert_eq!(settled(&*operator, &lease, &late).await, SettleOutcome::Changed, "{RULE}: the keeper is told");
    assert_eq!(front(&*operator, "k").await, discarded, "{RULE}: the discard holds");
}

/// Whichever comes first, after a redrive and a settlement at the same moment the redrive holds.
pub async fn a_redrive_at_the_moment_of_a_settlement_is_not_lost(operator: Arc<dyn Operator>) {
    const RULE: &str = "a redrive at the moment of a settlement is not lost";
    let lease = take(&*operator, "relay").await;
    for round in 0..RACES as u64 {
        let name = format!("k{round}");
        keep_it(&*operator, &lease, "a", &keep(&name, Some(dead(9)), [1])).await;
        let again = known(&operator, &name, 0, Some(dead(10))).await;
        let settling = tokio::spawn({
            let (operator, lease) = (operator.clone(), lease.clone());
            async move { settled(&*operator, &lease, &again).await }
        });
        let redriving = tokio::spawn({
            let (operator, selector) = (operator.clone(), by_key(&name));
            async move { redrive(&*operator, &selector).await }
        });
        in_time(RULE, settling).await.expect("a settlement does not panic");
        let redriven = in_time(RULE, redriving).await.expect("a redrive does not panic");
        assert_eq!(redriven, 1, "{RULE}: it was a dead letter all the time");
        let state = front(&*operator, &name).await.state;
        assert!(matches!(state, FrontState::Retrying { .. }), "{RULE}: {state:?}");
    }
}

/// A keeper at work on a key that is erased is told, and the key's next trouble is another one.
pub async fn an_erased_trouble_cannot_be_settled(operator: Arc<dyn Operator>) {
    const RULE: &str = "an erased trouble cannot be settled";
    let lease = take(&*operator, "relay").await;
    keep_it(&*operator, &lease, "a", &keep("k", Some(retrying(1)), [1, 2])).await;
    let late = known(&operator, "k", 1, Some(retrying(2))).await;
    operator.erase(&key("k")).await.expect("a key can be erased");
    assert_eq!(settled(&*operator, &lease, &late).await, SettleOutcome::Changed, "{RULE}");
    let parked = keep_it(&*operator, &lease, "a", &keep("k", None, [3])).await;
    assert_eq!(parked, KeepOutcome::KeyFree, "{RULE}: the key is free");
    keep_it(&*operator, &lease, "a", &keep("k", Some(retrying(1)), [4])).await;
    assert_eq!(settled(&*operator, &lease, &late).await, SettleOutcome::Changed, "{RULE}: nor a later one instead");
}

/// A running relay looks again after each change, and is not disturbed without one.
pub async fn each_change_is_noticed(operator: Arc<dyn Operator>) {
    const RULE: &str = "each change is noticed";
    let lease = take(&*operator, "relay").await;
    let kept = |name: &'static str| keep(name, Some(dead(1)), [1]);
    for name in ["redriven", "discarded", "erased"] {
        keep_it(&*operator, &lease, "a", &kept(name)).await;
    }
    let settlement = known(&operator, "redriven", 0, Some(dead(2))).await;
    settled(&*operator, &lease, &settlement).await;
    let mut before = changes(&*operator).await;
    let mut expect_change = async |what: &str| {
        let now = changes(&*operator).await;
        assert!(now > before, "{RULE}: {what}");
        before = now;
    };
    redrive(&*operator, &by_key("redriven")).await;
    expect_change("redrive").await;
    discard(&*operator, &by_key("discarded")).await;
    expect_change("discard").await;
    operator.erase(&key("erased")).await.expect("a key can be erased");
    expect_change("erase").await;
    operator.pause(&route("a"), true).await.expect("a route can be paused");
    expect_change("pause").await;
    operator.pause(&route("a"), false).await.expect("a route can be resumed");
    expect_change("resume").await;
    operator.put_replay(&replay("one")).await.expect("a replay can be asked for");
    expect_change("replay").await;
    let back = Checkpoint { partition: partition(), position: position(1), finished: false };
    operator.reset_checkpoint(&route("a"), &back).await.expect("a checkpoint can be reset");
    expect_change("reset").await;
    operator.renew_id("another").await.expect("a bookkeeping can be given another id");
    expect_change("another id").await;
    operator.rename_route(&route("a"), &route("c")).await.expect("a route can be renamed");
    expect_change("rename").await;
    operator.forget_route(&route("c")).await.expect("a route can be forgotten");
    expect_change("forget").await;
    let before = changes(&*operator).await;
    keep_it(&*operator, &lease, "a", &kept("k")).await;
    operator.renew(&lease).await.expect("the lease is held");
    dead_letters(&*operator, &any()).await;
    assert_eq!(changes(&*operator).await, before, "{RULE}: a relay's own writes and an operator's looks are none");
}
