//! Everything at once: faults by chance, functions killed at any time, the keeper beside them; and then the exact comparison.

use std::{sync::Arc, time::Duration};

use outbox_aws::testing::proxy::Fault;
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    forwarding::carts,
    mapping::{Mapping, payload},
    runtime::Outcome,
    world::World,
};

/// A keeper that is invoked again and again, beside forwarders.
pub(crate) struct Keeping {
    over: Arc<Notify>,
    keeping: JoinHandle<()>,
}

impl Keeping {
    pub(crate) fn beside(world: &Arc<World>) -> Self {
        let over = Arc::new(Notify::new());
        let keeping = tokio::spawn({
            let (world, over) = (world.clone(), over.clone());
            async move {
                let mut keeper = world.keeper().await;
                loop {
                    tokio::select! {
                        biased;
                        () = over.notified() => return,
                        outcome = keeper.invoke("{}".to_owned(), Duration::from_secs(20)) => {
                            assert!(matches!(outcome, Outcome::Answered(_)), "{outcome:?}");
                        }
                    }
                }
            }
        });
        Self { over, keeping }
    }

    /// Ends it once nothing is kept any more.
    pub(crate) async fn end(self, world: &World) {
        let emptied = async {
            while world.kept().await.lanes > 0 {
                assert!(!self.keeping.is_finished(), "the keeper failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(2), emptied).await.expect("what is kept is published in the end");
        self.over.notify_one();
        self.keeping.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_and_kills_at_any_time_lose_and_reorder_nothing() {
    let (world, stream) = (Arc::new(World::new().await), carts(3, 24, 600));
    let mut calls = 0_u32;
    world.bus.rule("PutEvents", move |_| {
        calls += 1;
        match calls {
            0..200 if calls.is_multiple_of(7) => Fault::entries([(0, "InternalFailure"), (2, "ThrottlingException")]),
            0..200 if calls.is_multiple_of(11) => Fault::LoseAnswer,
            0..200 if calls.is_multiple_of(13) => Fault::error("InternalException"),
            60..75 => Fault::error("ServiceUnavailable"),
            _ => Fault::Pass,
        }
    });
    let keeping = Keeping::beside(&world);
    let mut shards = tokio::task::JoinSet::new();
    for (number, records) in stream.shards.clone().into_iter().enumerate() {
        let (environment, bus) = (world.environment(), world.clone());
        shards.spawn(async move {
            // The third batch of each shard dies in the middle, at a time of its own.
            let mapping = Mapping { batch: 40, timeout: Duration::from_secs(8), ..Mapping::default() };
            mapping.shard(&environment, &records[..80.min(records.len())]).await;
            let rest = &records[80.min(records.len())..];
            let mut doomed = World::forwarder(&environment).await;
            let killer = doomed.killer();
            let calls = bus.bus.calls("PutEvents").len() + 1 + number;
            let (_, ()) =
                tokio::join!(doomed.invoke(payload(&rest[..40.min(rest.len())]), Duration::from_secs(8)), async {
                    let wait = async {
                        while bus.bus.calls("PutEvents").len() < calls {
                            tokio::time::sleep(Duration::from_millis(2)).await;
                        }
                    };
                    // It may be done before so many calls were made.
                    let _made = tokio::time::timeout(Duration::from_secs(4), wait).await;
                    killer.kill().await;
                });
            mapping.shard(&environment, rest).await;
        });
    }
    while let Some(shard) = shards.join_next().await {
        shard.unwrap();
    }
    keeping.end(&world).await;
    let duplicates = world.assert_exact(&stream);
    assert!(duplicates < 400, "{duplicates}");
}
