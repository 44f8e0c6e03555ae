//! A sink that says when each event came: what the benchmarks of latency measure by, in another process than the writer's.

use async_trait::async_trait;
use outbox::{Batch, Event, Outcome, Sink, SinkError, SinkLimits};

/// Now, in nanoseconds since 1970: the same clock in every process.
pub fn nanos() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap()
}

/// Prints each event's payload, a number, and when it came.
pub struct StopWatch;

#[async_trait]
impl Sink for StopWatch {
    fn limits(&self) -> SinkLimits {
        SinkLimits { ordered_calls: true, max_events: 100, max_bytes: 1 << 20, max_event_bytes: 1 << 20, max_calls: 1 }
    }

    fn size(&self, _: &Event) -> usize {
        100
    }

    async fn check(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let now = nanos();
        for event in &batch.events {
            println!("{} {now}", event.json::<u64>().unwrap());
        }
        Ok(vec![Outcome::Accepted; batch.events.len()])
    }
}
