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
    /// The SDK's own retries are off: those who use it here retry under a deadline, with one token over all attempts.
    pub async fn load(&self) -> SdkConfig {
        let base = self.chain().load().await;
        let Some(role) = &self.role else { return base };
        let provider = AssumeRoleProvider::builder(role).session_name("outbox").configure(&base).build().await;
        self.chain().credentials_provider(provider).load().await
    }

    fn chain(&self) -> aws_config::ConfigLoader {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT).build();
        let mut chain = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if let Some(region) = &self.region {
            chain = chain.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &self.endpoint {
            chain = chain.endpoint_url(endpoint);
        }
        chain
    }
}
