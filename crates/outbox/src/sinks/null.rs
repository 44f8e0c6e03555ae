//! A sink that keeps nothing.

use async_trait::async_trait;

use crate::{
    event::Event,
    sink::{Batch, Outcome, Sink, SinkError, SinkLimits},
};

/// Accepts every event at once and keeps none: for benchmarks, and to measure how fast a source can be read. Events
/// that go here are gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

#[async_trait]
impl Sink for NullSink {
    fn limits(&self) -> SinkLimits {
        SinkLimits {
            ordered_calls: true,
            max_events: 1_000,
            max_bytes: usize::MAX,
            max_event_bytes: usize::MAX,
            max_calls: 4,
        }
    }

    fn size(&self, event: &Event) -> usize {
        event.data().map_or(0, bytes::Bytes::len)
    }

    async fn check(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        Ok(vec![Outcome::Accepted; batch.events.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventRef, testing_event};

    #[tokio::test]
    async fn every_event_is_accepted() {
        let events = (1..=3).map(|n| EventRef::single(testing_event("t", Some("k"), n))).collect();
        let batch = Batch { events, gapless: true, replay: None };
        assert_eq!(NullSink.publish(&batch).await.unwrap(), vec![Outcome::Accepted; 3]);
    }
}
