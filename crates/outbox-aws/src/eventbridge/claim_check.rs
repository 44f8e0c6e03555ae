//! Payloads that an entry does not take, left in S3.

use aws_config::SdkConfig;
use aws_sdk_s3::{Client, config::Builder, primitives::ByteStream, types::ServerSideEncryption};
use outbox::{Event, Fault, Outcome, SinkError};
use sha2::{Digest as _, Sha256};

use super::{failure, meaning::Meaning, settings::ClaimCheckSettings};

/// Where payloads are left.
pub(super) struct ClaimCheck {
    client: Client,
    bucket: String,
    prefix: String,
    kms_key: Option<String>,
}

impl ClaimCheck {
    pub(super) fn new(settings: &ClaimCheckSettings, config: &SdkConfig) -> Self {
        // An emulator's name has no subdomains for buckets.
        let config = Builder::from(config).force_path_style(config.endpoint_url().is_some()).build();
        let ClaimCheckSettings { bucket, prefix, kms_key } = settings.clone();
        Self { client: Client::from_conf(config), bucket, prefix, kms_key }
    }

    /// Whether the bucket is there.
    pub(super) async fn check(&self) -> Result<(), SinkError> {
        let asked = self.client.head_bucket().bucket(&self.bucket).send().await;
        asked.map(|_| ()).map_err(|error| {
            let bucket = &self.bucket;
            match failure::answered(&error) {
                Some((Meaning::NoTarget, _)) => {
                    let remedy = "make it, or mend `bucket` or the region";
                    SinkError::new(Fault::Sink, format!("there is no bucket `{bucket}`: {remedy}"))
                }
                _ => failure::of_call(&error, &format!("the bucket `{bucket}`")),
            }
        })
    }

    /// Leaves the payload of `event`, and gives the event that says where; or a refusal, if it cannot be left.
    ///
    /// The object is called by its content: a retry puts the same one again, and whatever else comes under the same id is
    /// another one.
    pub(super) async fn leave(&self, event: &Event) -> Result<Result<Event, Outcome>, SinkError> {
        let Some(data) = event.data() else {
            let reason = "its attributes alone are more than an entry takes".to_owned();
            return Ok(Err(Outcome::Refused { permanent: true, reason }));
        };
        let key = format!("{}{:x}", self.prefix, Hex(&Sha256::digest(data)));
        let left = match event.with_data_at(&format!("s3://{}/{key}", self.bucket)) {
            Ok(left) => left,
            Err(error) => return Ok(Err(Outcome::Refused { permanent: true, reason: error.to_string() })),
        };
        let mut put = self.client.put_object().bucket(&self.bucket).key(key);
        put = put.content_type(event.content_type().unwrap_or(outbox::event::JSON));
        if let Some(kms_key) = &self.kms_key {
            put = put.server_side_encryption(ServerSideEncryption::AwsKms).ssekms_key_id(kms_key);
        }
        match put.body(ByteStream::from(data.clone())).send().await {
            Ok(_) => Ok(Ok(left)),
            Err(error) => match failure::answered(&error) {
                Some((Meaning::Unwanted, code)) if code == "EntityTooLarge" => {
                    let reason = "its payload is more than an object of S3 takes".to_owned();
                    Ok(Err(Outcome::Refused { permanent: true, reason }))
                }
                _ => Err(failure::of_call(&error, &format!("the bucket `{}`", self.bucket))),
            },
        }
    }
}

/// Bytes as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl std::fmt::LowerHex for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
