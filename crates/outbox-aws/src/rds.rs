//! Tokens in place of passwords, for PostgreSQL on RDS and Aurora.

use std::{borrow::Cow, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_config::{Region, SdkConfig};
use aws_credential_types::{Credentials, provider::ProvideCredentials};
use aws_sigv4::{
    http_request::{self, SignableBody, SignableRequest, SignatureLocation, SigningParams, SigningSettings},
    sign::v4,
};
use outbox::{Clock, ErrorKind, StoreError, System};
use outbox_sql::postgres::PasswordSource;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::OnceCell;

use crate::Settings;

/// How long a token lets in: as long as RDS takes one ("IAM database authentication", Amazon RDS User Guide).
const GOOD_FOR: Duration = Duration::from_mins(15);
/// What stays as it is in a signed query: "Create a canonical request", IAM User Guide.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Makes the password of each connection out of AWS credentials, for a role of the database that was granted `rds_iam`.
///
/// A token is made on this machine, without a request, and good for the 15 minutes in which a connection can be made with
/// it; a connection that was made lasts. Credentials are asked for anew each time, so that theirs may expire.
pub struct RdsTokens {
    settings: Settings,
    /// Once it was needed.
    config: OnceCell<SdkConfig>,
    clock: Arc<dyn Clock>,
}

impl RdsTokens {
    /// Credentials and Region as `settings` say, looked for when the first password is asked for; an endpoint has no part
    /// in this.
    pub fn new(settings: Settings) -> Self {
        Self { settings, config: OnceCell::new(), clock: Arc::new(System) }
    }

    /// The clock that tokens are dated by. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Who asks, and in which Region.
    async fn credentials(&self) -> Result<(Credentials, Region), StoreError> {
        let config = self.config.get_or_init(|| self.settings.load()).await;
        let Some(region) = config.region().cloned() else {
            return Err(StoreError::new(ErrorKind::Invalid, "no Region of the database is known: set AWS_REGION"));
        };
        let Some(provider) = config.credentials_provider() else {
            return Err(StoreError::new(ErrorKind::Invalid, "there is nobody to ask for AWS credentials"));
        };
        let credentials = provider.provide_credentials().await.map_err(|error| {
            StoreError::new(ErrorKind::Unavailable, "AWS credentials for the database cannot be had").because(error)
        })?;
        Ok((credentials, region))
    }
}

#[async_trait]
impl PasswordSource for RdsTokens {
    async fn password(&self, host: &str, port: u16, user: &str) -> Result<String, StoreError> {
        let (credentials, region) = self.credentials().await?;
        let identity = credentials.into();
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(GOOD_FOR);
        let unsigned = |error: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::new(ErrorKind::Invalid, "a token for the database cannot be signed").because(error)
        };
        let params: SigningParams<'_> = v4::SigningParams::builder()
            .identity(&identity)
            .region(region.as_ref())
            .name("rds-db")
            .time(self.clock.wall().into())
            .settings(settings)
            .build()
            .map_err(|error| unsigned(error.into()))?
            .into();
        let token = format!("{host}:{port}/?Action=connect&DBUser={}", encoded(user));
        let url = format!("https://{token}");
        let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]))
            .map_err(|error| unsigned(error.into()))?;
        let signed = http_request::sign(request, &params).map_err(|error| unsigned(error.into()))?;
        let (instructions, _) = signed.into_parts();
        let query = instructions.params().iter().map(|(name, value)| format!("&{name}={}", encoded(value)));
        Ok(query.fold(token, |token, pair| token + &pair))
    }
}

fn encoded(value: &str) -> Cow<'_, str> {
    utf8_percent_encode(value, ENCODED).into()
}

#[cfg(test)]
mod tests {
    use aws_credential_types::provider::SharedCredentialsProvider;
    use jiff::Timestamp;
    use outbox::Moment;

    use super::*;

    struct Noon;

    impl Clock for Noon {
        fn moment(&self) -> Moment {
            Moment::default()
        }

        fn wall(&self) -> Timestamp {
            "2026-11-21T12:00:00Z".parse().unwrap()
        }
    }

    async fn token(session: Option<&str>) -> String {
        let credentials = Credentials::new(
            "AKIDEXAMPLE",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            session.map(str::to_owned),
            None,
            "a test",
        );
        let config = SdkConfig::builder()
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .region(Region::new("eu-west-1"))
            .build();
        let tokens = RdsTokens { config: config.into(), ..RdsTokens::new(Settings::default()).clock(Arc::new(Noon)) };
        tokens.password("orders.abc123.eu-west-1.rds.amazonaws.com", 5432, "outbox_relay").await.unwrap()
    }

    fn parts(token: &str) -> std::collections::BTreeSet<&str> {
        token.split('&').collect()
    }

    /// As boto3 1.43's `generate_db_auth_token` makes it of the same, at the same time.
    #[tokio::test]
    async fn a_token_is_that_of_the_services_own_library() {
        let theirs = "orders.abc123.eu-west-1.rds.amazonaws.com:5432/?Action=connect&DBUser=outbox_relay\
            &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20261121%2Feu-west-1%2Frds-db%2Faws4_request\
            &X-Amz-Date=20261121T120000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
            &X-Amz-Signature=a0d91580bf951ce702b3345e92fecf3d7fc6653b4fc6a9e643319ba924364567";
        assert_eq!(parts(&token(None).await), parts(theirs));
    }

    #[tokio::test]
    async fn a_token_of_credentials_that_do_not_last_names_their_session() {
        let theirs = "orders.abc123.eu-west-1.rds.amazonaws.com:5432/?Action=connect&DBUser=outbox_relay\
            &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20261121%2Feu-west-1%2Frds-db%2Faws4_request\
            &X-Amz-Date=20261121T120000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
            &X-Amz-Security-Token=a%2Fsession%2Btoken%3D%3D\
            &X-Amz-Signature=8130b87d07404d47f3f48f3470cef7faab8ac1bb8103594980422d04279921dd";
        assert_eq!(parts(&token(Some("a/session+token==")).await), parts(theirs));
    }
}
