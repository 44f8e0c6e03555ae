//! What an event source mapping does: batches of each shard in order, one at a time; the lowest failure is the checkpoint,
//! and everything behind it comes again; what fails as a whole comes again as a whole, for ever.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    runtime::{Outcome, Sandbox},
    stream::Stream,
    world::World,
};

/// How a mapping is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    pub(crate) batch: usize,
    /// The function's timeout.
    pub(crate) timeout: Duration,
    /// How often a batch is tried before the test gives up.
    pub(crate) tries: usize,
}

impl Default for Mapping {
    fn default() -> Self {
        Self { batch: 100, timeout: Duration::from_secs(20), tries: 40 }
    }
}

/// What a mapping has seen of a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) invocations: usize,
    pub(crate) in_part: usize,
    pub(crate) failed: usize,
    pub(crate) died: usize,
}

/// The event of a batch.
pub(crate) fn payload(records: &[Value]) -> String {
    json!({ "Records": records }).to_string()
}

impl Mapping {
    /// Hands in all shards at once, each by a process of its own, to their ends.
    pub(crate) async fn run(self, world: &World, stream: &Stream) -> Seen {
        let mut shards = JoinSet::new();
        for records in stream.shards.clone() {
            let environment = world.environment();
            shards.spawn(async move { self.shard(&environment, &records).await });
        }
        let mut all = Seen::default();
        while let Some(seen) = shards.join_next().await {
            let seen = seen.unwrap();
            all.invocations += seen.invocations;
            all.in_part += seen.in_part;
            all.failed += seen.failed;
            all.died += seen.died;
        }
        all
    }

    /// Hands in one shard. A process that dies is followed by another.
    pub(crate) async fn shard(self, environment: &[(String, String)], records: &[Value]) -> Seen {
        let mut sandbox = World::forwarder(environment).await;
        let (mut seen, mut done, mut tries) = (Seen::default(), 0, 0);
        while done < records.len() {
            let batch = &records[done..(done + self.batch).min(records.len())];
            let outcome = sandbox.invoke(payload(batch), self.timeout).await;
            seen.invocations += 1;
            let moved = outcome.failed_from(batch).unwrap_or(batch.len());
            done += moved;
            tries = if moved > 0 { 0 } else { tries + 1 };
            assert!(tries < self.tries, "a batch was tried {tries} times; the last time: {outcome:?}");
            match outcome {
                Outcome::Answered(_) => seen.in_part += usize::from(moved < batch.len()),
                Outcome::Failed(_) => seen.failed += 1,
                Outcome::Died => {
                    seen.died += 1;
                    sandbox = World::forwarder(environment).await;
                }
            }
        }
        seen
    }
}

/// Hands one batch in to a process.
pub(crate) async fn invoke(sandbox: &mut Sandbox, records: &[Value]) -> Outcome {
    sandbox.invoke(payload(records), Mapping::default().timeout).await
}
