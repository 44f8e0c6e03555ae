//! The bus: whether it is there. `PutEvents` to one that is not answers success.

use std::{sync::Arc, time::Duration};

use aws_sdk_eventbridge::Client;
use outbox::{Clock, Fault, Moment, SinkError};
use tokio::sync::Mutex;

use super::{failure, meaning::Meaning};

/// How long it is believed that a bus is there that was. What is put on one that was deleted within this time is lost.
const BELIEVED: Duration = Duration::from_mins(1);

/// The bus.
pub(super) struct Target {
    client: Client,
    bus: String,
    region: String,
    clock: Arc<dyn Clock>,
    /// Until when it is believed to be there. Who asks holds the lock, so that one asks for all.
    until: Mutex<Option<Moment>>,
}

impl Target {
    pub(super) fn new(client: Client, bus: String, region: String, clock: Arc<dyn Clock>) -> Self {
        Self { client, bus, region, clock, until: Mutex::new(None) }
    }

    /// Whether it is there, asked now.
    pub(super) async fn check(&self) -> Result<(), SinkError> {
        let mut until = self.until.lock().await;
        *until = None;
        self.ask().await?;
        *until = Some(self.clock.moment() + BELIEVED);
        Ok(())
    }

    /// Whether it is there, asked at most a minute ago.
    pub(super) async fn is_there(&self) -> Result<(), SinkError> {
        let mut until = self.until.lock().await;
        let now = self.clock.moment();
        if until.is_some_and(|until| now < until) {
            return Ok(());
        }
        self.ask().await?;
        *until = Some(now + BELIEVED);
        Ok(())
    }

    async fn ask(&self) -> Result<(), SinkError> {
        let Err(error) = self.client.describe_event_bus().name(&self.bus).send().await else { return Ok(()) };
        let (bus, region) = (&self.bus, &self.region);
        Err(match failure::answered(&error) {
            Some((Meaning::NoTarget, _)) => {
                let remedy = "make it, or mend `bus` or the region; until then nothing is put on it, for \
                              PutEvents would answer success and the events would be lost";
                SinkError::new(Fault::Sink, format!("there is no event bus `{bus}` in {region}: {remedy}"))
            }
            Some((Meaning::Denied, _)) => {
                let error = failure::of_call(&error, &format!("the event bus `{bus}`"));
                let why = "events:DescribeEventBus is needed, for PutEvents to a bus that is not there answers success";
                SinkError { message: format!("{}; {why}", error.message), ..error }
            }
            _ => failure::of_call(&error, &format!("the event bus `{bus}`")),
        })
    }
}
