//! How AWS is reached, whatever the service: credentials by the SDK's default chain, and what may be set besides.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, Region, SdkConfig, retry::RetryConfig, sts::AssumeRoleProvider, timeout::TimeoutConfig,
};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// How long one attempt may take. Then its answer counts as lost, and it is tried again.
const ATTEMPT: Duration = Duration::from_secs(6);

/// Where AWS is and who asks. What is left out comes from the SDK's default chain: environment, profile, SSO, web
/// identity, container, instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The Region, as `eu-west-1`.
    pub region: Option<String>,
    /// The URL of an endpoint in place of AWS's own, as of an emulator or a VPC endpoint. Holds for every service.
    pub endpoint: Option<String>,
    /// The ARN of a role to be assumed.
    pub role: Option<String>,
}

impl Settings {
    /// Loads the configuration. No request is made yet, but that a role is assumed when it is first needed.
    ///
    /// The SDK's own retries are off: those who use it here retry under a deadline, with one token over all attempts. They are
    /// on for those who give credentials, as the SDK has them by default: nobody here sees their answers.
    pub async fn load(&self) -> SdkConfig {
        let asking = Box::pin(self.chain().load()).await;
        Box::pin(self.signing(asking)).await
    }

    /// The configuration for what is signed with the credentials that `asking` is given.
    async fn signing(&self, asking: SdkConfig) -> SdkConfig {
        let mut chain = self.chain().retry_config(RetryConfig::disabled());
        if let Some(region) = asking.region() {
            chain = chain.region(region.clone());
        }
        if let Some(role) = &self.role {
            let role = AssumeRoleProvider::builder(role).session_name("outbox").configure(&asking).build().await;
            chain = chain.credentials_provider(role);
        } else if let Some(provider) = asking.credentials_provider() {
            chain = chain.credentials_provider(provider);
        }
        chain.load().await
    }

    fn chain(&self) -> aws_config::ConfigLoader {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT).build();
        let mut chain = aws_config::defaults(BehaviorVersion::v2026_01_12()).timeout_config(timeouts);
        if let Some(region) = &self.region {
            chain = chain.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &self.endpoint {
            chain = chain.endpoint_url(endpoint);
        }
        chain
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use aws_credential_types::{Credentials, provider::ProvideCredentials as _};

    use super::*;
    use crate::testing::proxy::{Fault, Proxy};

    const ASSUMED: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>assumed</AccessKeyId>\
        <SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>\
        </Credentials></AssumeRoleResult></AssumeRoleResponse>";

    #[tokio::test]
    async fn a_role_is_asked_for_again_where_it_was_not_given_out_just_now_and_nothing_else_is() {
        let proxy = Proxy::alone().await;
        proxy.script("AssumeRole", [Fault::error("ServiceUnavailable"), Fault::Answer(200, ASSUMED.to_owned())]);
        let settings = Settings {
            region: Some("eu-west-1".to_owned()),
            endpoint: Some(proxy.url().to_owned()),
            role: Some("arn:aws:iam::111122223333:role/publisher".to_owned()),
        };
        let asking = settings.chain().credentials_provider(Credentials::from_keys("own", "secret", None)).load().await;
        let config = settings.signing(asking).await;
        let given = config.credentials_provider().unwrap().provide_credentials().await.unwrap();
        assert_eq!((given.access_key_id(), proxy.calls("AssumeRole").len()), ("assumed", 2));
        assert!(!config.retry_config().unwrap().has_retry());
    }
}
