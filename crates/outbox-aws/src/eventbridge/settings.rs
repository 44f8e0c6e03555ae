//! What an EventBridge sink is configured with.

use std::time::Duration;

use outbox::SinkLimits;

use crate::Settings;

/// The most bytes of an entry, and of a call: fewer than 1 MB, whatever the service takes for a megabyte.
///
/// Rule: `PutEvents` of the API reference, "the total entry size must be less than 1MB".
pub const MAX_ENTRY_BYTES: usize = 999_999;
/// The fewest that make sense: an event of ours has some hundred bytes of attributes.
const MIN_ENTRY_BYTES: usize = 4096;
/// Entries of a call. Rule: `PutEventsRequestEntryList` of the service's model.
const MAX_ENTRIES: usize = 10;
/// The largest event whose payload is left in S3: more than any entry of an outbox holds, as base64.
#[cfg(feature = "s3")]
const MAX_CLAIMED_BYTES: usize = 16 << 20;

/// What an EventBridge sink is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBridgeSettings {
    /// The bus: its name, or its ARN.
    pub bus: String,
    /// Where AWS is and who asks.
    pub aws: Settings,
    /// How long a call may take.
    pub timeout: Duration,
    /// Calls at the same time, 1 to 1024.
    pub max_calls: usize,
    /// Entries of a call, 1 to 10.
    pub max_entries: usize,
    /// Bytes of an entry, and of a call, by the service's measure: 4096 to [`MAX_ENTRY_BYTES`].
    pub max_entry_bytes: usize,
    /// Where payloads are left that are too large.
    #[cfg(feature = "s3")]
    pub claim_check: Option<ClaimCheckSettings>,
}

/// Where payloads are left that are too large.
#[cfg(feature = "s3")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimCheckSettings {
    /// The bucket.
    pub bucket: String,
    /// What the objects' keys begin with, as `events/`.
    pub prefix: String,
    /// The ARN of a key of KMS that objects are encrypted with; otherwise as the bucket says.
    pub kms_key: Option<String>,
}

impl EventBridgeSettings {
    /// Settings for `bus` that suit most.
    pub fn new(bus: impl Into<String>) -> Self {
        Self {
            bus: bus.into(),
            aws: Settings::default(),
            timeout: Duration::from_secs(10),
            max_calls: 8,
            max_entries: MAX_ENTRIES,
            max_entry_bytes: MAX_ENTRY_BYTES,
            #[cfg(feature = "s3")]
            claim_check: None,
        }
    }

    /// What a sink with these settings takes, if they are valid.
    pub fn limits(&self) -> SinkLimits {
        #[cfg(feature = "s3")]
        let max_bytes = if self.claim_check.is_some() { MAX_CLAIMED_BYTES } else { self.max_entry_bytes };
        #[cfg(not(feature = "s3"))]
        let max_bytes = self.max_entry_bytes;
        SinkLimits {
            ordered_calls: false,
            max_events: self.max_entries,
            max_bytes,
            max_event_bytes: max_bytes,
            max_calls: self.max_calls,
        }
    }

    /// How long publishing may take at most: the bus is described, each payload is left in S3, and then as many calls are
    /// made as there are entries, where each fills one.
    pub fn longest_publish(&self) -> Duration {
        #[cfg(feature = "s3")]
        let each = if self.claim_check.is_some() { 2 } else { 0 };
        #[cfg(not(feature = "s3"))]
        let each = 0;
        let calls = (each * self.max_entries).max(1) + 1;
        self.timeout.saturating_mul(u32::try_from(calls).unwrap_or(u32::MAX))
    }

    /// Checks every setting, without any effect.
    ///
    /// # Errors
    /// [`SettingsError`] names the first setting that cannot be used, and the remedy.
    pub fn validate(&self) -> Result<(), SettingsError> {
        check_bus(&self.bus)?;
        let within = |field, value: usize, low: usize, high: usize| {
            let message = || format!("is {value}: use {low} to {high}");
            if (low..=high).contains(&value) { Ok(()) } else { Err(SettingsError::of(field, message())) }
        };
        within("max_calls", self.max_calls, 1, 1024)?;
        within("max_entries", self.max_entries, 1, MAX_ENTRIES)?;
        within("max_entry_bytes", self.max_entry_bytes, MIN_ENTRY_BYTES, MAX_ENTRY_BYTES)?;
        if self.timeout.is_zero() {
            return Err(SettingsError::of("timeout", "is zero: give a call some seconds, as `10s`"));
        }
        #[cfg(feature = "s3")]
        if let Some(claim_check) = &self.claim_check {
            claim_check.validate()?;
        }
        Ok(())
    }
}

#[cfg(feature = "s3")]
impl ClaimCheckSettings {
    /// Into `bucket`, without a prefix.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self { bucket: bucket.into(), prefix: String::new(), kms_key: None }
    }

    /// Rule: "Bucket naming rules" and "Object key naming guidelines" of S3's user guide.
    fn validate(&self) -> Result<(), SettingsError> {
        let letters = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
        let is_name = (3..=63).contains(&self.bucket.len()) && letters(&self.bucket, ".-");
        if !is_name || self.bucket.chars().any(|c| c.is_ascii_uppercase()) {
            let problem = "is not a bucket: write its name alone, 3 to 63 of a-z, 0-9, `.` and `-`, as `carts-events`";
            return Err(SettingsError::of("bucket", problem));
        }
        if self.prefix.len() > 512 || self.prefix.starts_with('/') || !letters(&self.prefix, "!_.*'()/-") {
            let problem = "cannot begin keys: use up to 512 of A-Z, a-z, 0-9 and `!_.*'()/-`, as `events/`";
            return Err(SettingsError::of("prefix", problem));
        }
        if self.kms_key.as_ref().is_some_and(|key| !key.starts_with("arn:") || !key.contains(":kms:")) {
            let problem = "is not a key's ARN: write it as `arn:aws:kms:eu-west-1:111122223333:key/…`";
            return Err(SettingsError::of("kms_key", problem));
        }
        Ok(())
    }
}

/// Rule: `NonPartnerEventBusNameOrArn` of the service's model.
fn check_bus(bus: &str) -> Result<(), SettingsError> {
    let name = match bus.strip_prefix("arn:") {
        None => bus,
        Some(arn) => match arn.split(':').collect::<Vec<_>>()[..] {
            [partition, "events", region, account, resource]
                if partition.starts_with("aws")
                    && !region.is_empty()
                    && account.len() == 12
                    && account.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                resource.strip_prefix("event-bus/").unwrap_or_default()
            }
            _ => "",
        },
    };
    let is_name = !name.is_empty()
        && bus.len() <= 1600
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if is_name {
        return Ok(());
    }
    let problem = "is not an event bus: write its name, as `carts`, or its ARN, as \
                   `arn:aws:events:eu-west-1:111122223333:event-bus/carts`";
    Err(SettingsError::of("bus", problem))
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct SettingsError {
    /// The setting, by its name in [`EventBridgeSettings`] or in those of its claim check.
    pub field: &'static str,
    /// What is wrong with it, and the remedy.
    pub problem: String,
}

impl SettingsError {
    fn of(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }

    pub(super) fn no_region() -> Self {
        Self::of("region", "is not known: write it, as `region = \"eu-west-1\"`, or set AWS_REGION")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(settings: &EventBridgeSettings) -> Option<&'static str> {
        settings.validate().err().map(|error| error.field)
    }

    #[test]
    fn a_bus_is_a_name_or_an_arn() {
        for bus in ["default", "carts.v1_a-b", "arn:aws-cn:events:cn-north-1:111122223333:event-bus/carts"] {
            assert_eq!(refused(&EventBridgeSettings::new(bus)), None, "{bus}");
        }
        for bus in [
            "",
            "a b",
            "carts/one",
            "arn:aws:events:eu-west-1:1:event-bus/carts",
            "arn:aws:events:eu-west-1:111122223333:rule/carts",
            "arn:aws:sqs:eu-west-1:111122223333:event-bus/carts",
        ] {
            assert_eq!(refused(&EventBridgeSettings::new(bus)), Some("bus"), "{bus}");
        }
    }

    #[test]
    fn numbers_that_the_service_does_not_take_are_refused_by_name() {
        let good = EventBridgeSettings::new("carts");
        assert_eq!(refused(&EventBridgeSettings { max_entries: 11, ..good.clone() }), Some("max_entries"));
        assert_eq!(refused(&EventBridgeSettings { max_entry_bytes: 1 << 20, ..good.clone() }), Some("max_entry_bytes"));
        assert_eq!(refused(&EventBridgeSettings { max_calls: 0, ..good.clone() }), Some("max_calls"));
        assert_eq!(refused(&EventBridgeSettings { timeout: Duration::ZERO, ..good }), Some("timeout"));
    }

    #[cfg(feature = "s3")]
    #[test]
    fn a_claim_check_names_a_bucket_a_prefix_and_a_keys_arn() {
        let of = |claim_check| EventBridgeSettings { claim_check: Some(claim_check), ..EventBridgeSettings::new("a") };
        let good = ClaimCheckSettings::new("carts-events");
        assert_eq!(refused(&of(good.clone())), None);
        for bucket in ["", "s3://carts", "Carts", "a/b"] {
            assert_eq!(refused(&of(ClaimCheckSettings::new(bucket))), Some("bucket"), "{bucket}");
        }
        assert_eq!(refused(&of(ClaimCheckSettings { prefix: "/a".into(), ..good.clone() })), Some("prefix"));
        assert_eq!(refused(&of(ClaimCheckSettings { prefix: "a b".into(), ..good.clone() })), Some("prefix"));
        assert_eq!(refused(&of(ClaimCheckSettings { kms_key: Some("alias/a".into()), ..good })), Some("kms_key"));
    }
}
