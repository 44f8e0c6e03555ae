//! What the stream holds, whoever reads it.

use outbox::Clock as _;
use outbox_aws::testing::streams::Habits;

use crate::rig::{HOUR, Rig};

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_many_empty_pages_of_an_open_shard_is_found() {
    let rig = Rig::new().await;
    rig.clock.pass(2 * HOUR);
    rig.write("cart/1", [1]);
    rig.server.habits(Habits { empty_pages: 60, ..Habits::default() });
    let (source, now) = (rig.source().await, rig.clock.wall());
    assert!(source.inserted_between(now - HOUR, now + HOUR).await.unwrap().is_some());
    assert_eq!(source.inserted_between(now + HOUR, now + 2 * HOUR).await.unwrap(), None);
}
