//! The bookkeeping's id, and another one when an operator decides for one of two copies.

use std::sync::Arc;

use crate::{
    bookkeeping::{Checkpoint, Operator},
    store::Claim,
    testing::sample::{partition, position, route, take, witness},
};

/// Runs every check of this room.
pub async fn all(fresh: &impl AsyncFn() -> Arc<dyn Operator>) {
    checks! {
        "`Operator::renew_id` gives the bookkeeping another id, and forgets every noted claim." => {
            another_id_takes_the_place_of_the_former(fresh().await);
            claims_made_under_the_former_id_are_forgotten(fresh().await);
        }
    }
}

async fn id(operator: &dyn Operator) -> String {
    operator.id().await.expect("a bookkeeping has an id")
}

/// Nothing else changes: the lease is held on, and routes go on at their checkpoints.
pub async fn another_id_takes_the_place_of_the_former(operator: Arc<dyn Operator>) {
    const RULE: &str = "another id takes the place of the former";
    let lease = take(&*operator, "relay").await;
    let checkpoint = Checkpoint { partition: partition(), position: position(7), finished: false };
    let stored = operator.checkpoint(&lease, &route("a"), &checkpoint, Some(&witness(7))).await;
    stored.expect("a checkpoint is stored");
    for _ in 0..2 {
        operator.renew_id("another").await.expect("a bookkeeping can be given another id, and the same again");
        assert_eq!(id(&*operator).await, "another", "{RULE}");
    }
    operator.renew(&lease).await.expect("the lease is held on");
    let read = operator.checkpoints(&route("a")).await.expect("checkpoints can be read");
    assert_eq!(read, [checkpoint], "{RULE}: and of nothing else");
    let witnesses = operator.witnesses(&partition()).await.expect("witnesses can be read");
    assert_eq!(witnesses, [witness(7)], "{RULE}: and of nothing else");
}

/// They are another bookkeeping's, under whatever lease they were noted.
pub async fn claims_made_under_the_former_id_are_forgotten(operator: Arc<dyn Operator>) {
    const RULE: &str = "claims made under the former id are forgotten";
    let former = id(&*operator).await;
    let claim = |bookkeeping: &str, epoch| Claim {
        bookkeeping: bookkeeping.to_owned(),
        epoch,
        nonce: format!("nonce {epoch}"),
    };
    for name in ["relay", "other"] {
        let lease = take(&*operator, name).await;
        operator.note_claims(&lease, &[claim(&former, 3), claim(&former, 5)]).await.expect("an owner notes claims");
    }
    operator.renew_id("another").await.expect("a bookkeeping can be given another id");
    for name in ["relay", "other"] {
        assert_eq!(operator.claims(name).await.expect("noted claims can be read"), [], "{RULE}: of {name}");
    }
    let lease = take(&*operator, "relay").await;
    let own = claim("another", lease.epoch);
    operator.note_claims(&lease, std::slice::from_ref(&own)).await.expect("an owner notes claims");
    let noted = operator.claims("relay").await.expect("noted claims can be read");
    assert_eq!(noted, [own], "{RULE}: and new ones are noted by the new id");
    assert!(!noted[0].is_followed_by(&former, &[claim(&former, 100)]), "{RULE}: a copy is another bookkeeping");
}
