//! What stands in the way of a call, told apart.

use std::time::Duration;

use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError, future};
use aws_sdk_dynamodb::{
    Client,
    config::{Region, SharedCredentialsProvider},
};
use outbox::{ErrorKind, StoreError, WriteError};
use outbox_aws::{
    Settings,
    dynamodb::{CommitError, Tables, Writer, connect, schema},
};

use crate::{
    fixture::event,
    proxy::{Fault, Proxy},
    server,
};

/// A machine that has none, for this reason.
#[derive(Debug)]
struct NoCredentials(fn() -> CredentialsError);

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(self.0()))
    }
}

/// What comes of a call that cannot be signed, for this reason.
async fn unsigned(reason: fn() -> CredentialsError) -> StoreError {
    let loaded = Settings { endpoint: server::endpoint().map(str::to_owned), ..Settings::default() }.load().await;
    let config = aws_sdk_dynamodb::config::Builder::from(&loaded).region(Region::new("eu-west-1"));
    let config = config.credentials_provider(SharedCredentialsProvider::new(NoCredentials(reason)));
    schema::check(&Client::from_conf(config.build()), &Tables::with_prefix("any")).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_credentials_stop_and_name_the_remedy() {
    for reason in [
        || CredentialsError::not_loaded("there is none"),
        || CredentialsError::invalid_configuration("a role that assumes itself"),
        || CredentialsError::provider_error(CredentialsError::not_loaded("none to assume the role with")),
    ] {
        let error = unsigned(reason).await;
        assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
        assert!(error.to_string().contains("check the credentials"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_cannot_be_had_just_now_are_waited_for() {
    for reason in [
        || CredentialsError::provider_error("the role is not given out: 503"),
        || CredentialsError::provider_timed_out(Duration::from_secs(5)),
        || CredentialsError::unhandled("an answer cut short"),
    ] {
        let error = unsigned(reason).await;
        assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::Unavailable, false), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_there_may_come_back() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = server::client_at(Some(&nobody)).await;
    let writer = Writer::new(&client, Tables::with_prefix("any")).patience(Duration::from_millis(300));
    let mut transaction = writer.transaction();
    transaction.write([event("cart/1")]);
    let error = transaction.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::Write(WriteError::RetryTransaction { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_refuses_is_told_by_its_code() {
    let Some(endpoint) = server::emulator() else { return };
    let proxy = Proxy::before(endpoint).await;
    let client = server::client_at(Some(proxy.url())).await;
    for (code, kind) in [
        ("AccessDeniedException", ErrorKind::NotPermitted),
        ("UnrecognizedClientException", ErrorKind::NotPermitted),
        ("ExpiredTokenException", ErrorKind::NotPermitted),
        ("ValidationException", ErrorKind::Invalid),
        ("NeverHeardOf", ErrorKind::Invalid),
    ] {
        proxy.script("DescribeTable", [Fault::error(code)]);
        let error = schema::check(&client, &Tables::with_prefix("any")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{code}: {error}");
        assert!(error.to_string().contains(code), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_give_region_and_endpoint() {
    let settings = Settings {
        region: Some("eu-central-1".to_owned()),
        endpoint: Some("http://127.0.0.1:9".to_owned()),
        ..Settings::default()
    };
    let client = connect(&settings).await;
    assert_eq!(client.config().region().map(ToString::to_string).as_deref(), Some("eu-central-1"));
    assert_eq!(settings.load().await.endpoint_url(), Some("http://127.0.0.1:9"));
}
