//! What stands in the way of a call, told apart.

use std::time::Duration;

use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError, future};
use aws_sdk_dynamodb::{
    Client,
    config::{Region, SharedCredentialsProvider},
};
use outbox::{ErrorKind, WriteError};
use outbox_aws::{
    Settings,
    dynamodb::{CommitError, Tables, Writer, connect, schema},
};

use crate::{
    fixture::event,
    proxy::{Fault, Proxy},
    server,
};

/// A machine that has none.
#[derive(Debug)]
struct NoCredentials;

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("there is none")))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_credentials_stop_and_name_the_remedy() {
    let loaded = Settings { endpoint: server::endpoint().map(str::to_owned), ..Settings::default() }.load().await;
    let config = aws_sdk_dynamodb::config::Builder::from(&loaded).region(Region::new("eu-west-1"));
    let config = config.credentials_provider(SharedCredentialsProvider::new(NoCredentials));
    let error = schema::check(&Client::from_conf(config.build()), &Tables::with_prefix("any")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
    assert!(error.to_string().contains("check the credentials"), "{error}");
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
    let endpoint = server::endpoint().expect("faults are scripted before an emulator: name one by OUTBOX_TEST_AWS");
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
