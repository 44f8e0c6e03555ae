//! A sink behind a gate.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Side, StepGate};
use crate::{
    event::Event,
    sink::{Batch, Outcome, Sink, SinkError, SinkLimits},
    testing::io::Io,
};

/// Publishes when its gate lets it.
pub(super) struct GatedSink {
    pub(super) inner: Arc<dyn Sink>,
    pub(super) gate: StepGate,
}

#[async_trait]
impl Sink for GatedSink {
    fn limits(&self) -> SinkLimits {
        self.inner.limits()
    }

    fn size(&self, event: &Event) -> usize {
        self.inner.size(event)
    }

    async fn check(&self) -> Result<(), SinkError> {
        self.gate.step(Io::Check, Side::Before).await;
        let answer = self.inner.check().await;
        self.gate.step(Io::Check, Side::After).await;
        answer
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        self.gate.step(Io::Publish, Side::Before).await;
        let answer = self.inner.publish(batch).await;
        self.gate.step(Io::Publish, Side::After).await;
        answer
    }
}
