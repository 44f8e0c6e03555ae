//! EventBridge: a sink that puts events on a custom event bus.
//!
//! # An event as an entry
//!
//! | of the entry | is |
//! |---|---|
//! | `Source` | the producer: the event's `source` |
//! | `DetailType` | the event's `type`, at most 128 characters: a longer one is refused, and becomes a dead letter |
//! | `Detail` | the whole event as a CloudEvent in JSON, structured: attributes, and the payload as `data`, or as `data_base64` if it is no JSON. So it always is a JSON object, which [`outbox::cloudevents::json::decode`] reads |
//! | `Time` | the event's `time`, to the second, which is what EventBridge keeps; all of it stands in the detail |
//! | `Resources` | the event's `subject` if it is an ARN, else none |
//! | `EventBusName` | as configured |
//!
//! A call has at most ten entries, and fewer bytes together than 1 MB, by the service's own measure: 14 for a time, and the
//! UTF-8 bytes of source, detail type, detail and resources. Its documents do not say whether that is meant of a call or of
//! an entry, and whether a megabyte is 1,000,000 bytes: the sink stays within the narrowest reading. What is larger
//! by itself becomes a dead letter, or its payload is left in S3 if a claim check is configured (feature `s3`): put there
//! before the event, under its own digest, so that a retry puts the same object again. The event then has the attribute
//! `dataref` in place of its payload.
//!
//! EventBridge keeps no order and knows no duplicates: of a key there is one event in a call and one call at a time, and
//! consumers put right the rest by place and id.
//!
//! # Is the bus there?
//! `PutEvents` to a bus that does not exist answers success. So the bus is described before anything is put on it, and
//! again after each minute in which events were put. Without the right to describe it, nothing is published.
//!
//! # Answers
//!
//! | answer | whose | what happens |
//! |---|---|---|
//! | an entry with an `EventId` | – | accepted |
//! | an entry: `ThrottlingException` | a throttle | its key waits |
//! | an entry: `MalformedDetail`, `InvalidArgument`, `RedactionFailure` | the event's | refused for good: dead letter |
//! | an entry: `NotAuthorizedFor…`, `AccessDeniedException`, no such bus, while others of the call were accepted or refused for good | the event's | refused, and tried again as the route's `retry` says |
//! | an entry: `InternalFailure`, anything else, while others of the call were accepted or refused for good | unknown | failed: tried again; a dead letter only after the attempts and `doubt`, while others are accepted |
//! | every entry: `AccessDeniedException`, `InvalidAccountIdException` | the sink's | backoff; grant the right |
//! | every entry: throttled | a throttle | the route waits |
//! | every entry: `InternalFailure`, `NotAuthorizedFor…`, anything else | unknown | backoff; events of other keys find out whose fault it is |
//! | a call: throttled, 429 | a throttle | the route waits |
//! | a call: no such bus, access denied, credentials, 503, not connected | the sink's | backoff |
//! | a call: `ValidationException`, 413 | an event's | the call is split until the culprit stands alone: dead letter |
//! | a call: 500, no whole answer, anything else | unknown | backoff; events of other keys find out whose fault it is |
//!
//! The SDK's own retries are off: the relay decides what is tried again, and only what failed is.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use aws_config::{SdkConfig, timeout::TimeoutConfig};
use aws_sdk_eventbridge::{Client, config::retry::RetryConfig, types::PutEventsRequestEntry};
use outbox::{Batch, Clock, Event, Outcome, Sink, SinkError, SinkLimits};

mod answer;
#[cfg(feature = "s3")]
mod claim_check;
mod entry;
mod failure;
mod meaning;
mod settings;
mod target;

#[cfg(feature = "s3")]
pub use settings::ClaimCheckSettings;
pub use settings::{EventBridgeSettings, MAX_ENTRY_BYTES, SettingsError};

use entry::Entry;
use target::Target;

/// Puts events on an event bus. See the [module](self) for entries and answers.
pub struct EventBridgeSink {
    client: Client,
    target: Target,
    #[cfg(feature = "s3")]
    claim_check: Option<claim_check::ClaimCheck>,
    bus: String,
    max_entry_bytes: usize,
    limits: SinkLimits,
}

impl EventBridgeSink {
    /// Makes the sink that `settings` describe, with credentials by the SDK's default chain. Connects nowhere yet.
    ///
    /// # Errors
    /// [`SettingsError`] names the first setting that cannot be used, and the remedy.
    pub async fn connect(settings: EventBridgeSettings, clock: Arc<dyn Clock>) -> Result<Self, SettingsError> {
        let config = settings.aws.load().await;
        Self::new(settings, &config, clock)
    }

    /// The same, for who has an SDK's configuration already: `settings.aws` does not count.
    ///
    /// # Errors
    /// [`SettingsError`] names the first setting that cannot be used, and the remedy.
    pub fn new(
        settings: EventBridgeSettings,
        config: &SdkConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SettingsError> {
        settings.validate()?;
        let Some(region) = config.region() else { return Err(SettingsError::no_region()) };
        let timeouts = config.timeout_config().map_or_else(TimeoutConfig::builder, TimeoutConfig::to_builder);
        let timeouts = timeouts.operation_attempt_timeout(settings.timeout).build();
        let config = config.to_builder().retry_config(RetryConfig::disabled()).timeout_config(timeouts).build();
        let client = Client::new(&config);
        Ok(Self {
            target: Target::new(client.clone(), settings.bus.clone(), region.to_string(), clock),
            #[cfg(feature = "s3")]
            claim_check: settings.claim_check.as_ref().map(|settings| claim_check::ClaimCheck::new(settings, &config)),
            client,
            limits: settings.limits(),
            max_entry_bytes: settings.max_entry_bytes,
            bus: settings.bus,
        })
    }

    /// Each event as an entry, with its payload left in S3 if it is too large; or why it cannot be one.
    async fn entries(&self, batch: &Batch) -> Result<Vec<Result<Entry, Outcome>>, SinkError> {
        let mut entries = Vec::with_capacity(batch.events.len());
        for event in &batch.events {
            entries.push(match Entry::of(event, batch, &self.bus) {
                Ok(entry) if entry.bytes > self.max_entry_bytes => self.too_large(event, batch, entry.bytes).await?,
                other => other,
            });
        }
        Ok(entries)
    }

    #[cfg(feature = "s3")]
    async fn too_large(&self, event: &Event, batch: &Batch, bytes: usize) -> Result<Result<Entry, Outcome>, SinkError> {
        let Some(claim_check) = &self.claim_check else { return Ok(Err(self.refuse_too_large(bytes))) };
        let left = match claim_check.leave(event).await? {
            Ok(left) => left,
            Err(refused) => return Ok(Err(refused)),
        };
        Ok(match Entry::of(&left, batch, &self.bus) {
            Ok(entry) if entry.bytes > self.max_entry_bytes => Err(self.refuse_too_large(entry.bytes)),
            other => other,
        })
    }

    #[cfg(not(feature = "s3"))]
    #[expect(clippy::unused_async, reason = "with a claim check it asks S3")]
    async fn too_large(&self, _: &Event, _: &Batch, bytes: usize) -> Result<Result<Entry, Outcome>, SinkError> {
        Ok(Err(self.refuse_too_large(bytes)))
    }

    fn refuse_too_large(&self, bytes: usize) -> Outcome {
        let most = self.max_entry_bytes;
        let reason = format!("the entry has {bytes} bytes, and the bus takes {most}: configure a claim check");
        Outcome::Refused { permanent: true, reason }
    }

    /// One call: an outcome for each entry.
    async fn put(&self, entries: Vec<PutEventsRequestEntry>) -> Result<Vec<Outcome>, SinkError> {
        let count = entries.len();
        let answer = self.client.put_events().set_entries(Some(entries)).send().await;
        match answer {
            Ok(answer) => answer::outcomes(answer.entries(), count, &self.bus),
            Err(error) => failure::of_put(&error, count, &self.bus),
        }
    }
}

impl fmt::Debug for EventBridgeSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBridgeSink").field("bus", &self.bus).field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[async_trait]
impl Sink for EventBridgeSink {
    fn limits(&self) -> SinkLimits {
        self.limits
    }

    /// The whole event's bytes by the service's measure, though its payload may be left in S3.
    fn size(&self, event: &Event) -> usize {
        entry::size(event)
    }

    /// Describes the bus, and looks whether the bucket of the claim check is there.
    async fn check(&self) -> Result<(), SinkError> {
        self.target.check().await?;
        #[cfg(feature = "s3")]
        if let Some(claim_check) = &self.claim_check {
            claim_check.check().await?;
        }
        Ok(())
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        self.target.is_there().await?;
        let mut outcomes = Vec::with_capacity(batch.events.len());
        let mut entries = Vec::new();
        for (position, entry) in self.entries(batch).await?.into_iter().enumerate() {
            match entry {
                Ok(entry) => {
                    // Replaced by the service's answer, or left if that is not to be had.
                    outcomes.push(Outcome::Throttled { after: None });
                    entries.push((position, entry));
                }
                Err(refused) => outcomes.push(refused),
            }
        }
        let mut answered = false;
        for call in entry::calls(entries, self.limits.max_events, self.max_entry_bytes) {
            let (positions, entries): (Vec<_>, Vec<_>) =
                call.into_iter().map(|(at, entry)| (at, entry.request)).unzip();
            match self.put(entries).await {
                Ok(answers) => {
                    answered = true;
                    positions.into_iter().zip(answers).for_each(|(at, outcome)| outcomes[at] = outcome);
                }
                // What was accepted before it is not to come again: the rest waits, and the next call tells why.
                Err(error) if answered => {
                    tracing::debug!(%error, "a later call for the same batch failed");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(outcomes)
    }
}
