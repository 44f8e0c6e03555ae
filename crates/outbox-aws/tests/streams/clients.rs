//! Clients of a table's stream.

use aws_sdk_dynamodbstreams::{
    Client,
    config::{Credentials, Region, SharedCredentialsProvider},
};
use outbox_aws::Settings;

use crate::server;

/// A client of the streams of the tables that the tests use.
pub(crate) async fn streams() -> Client {
    streams_at(server::endpoint()).await
}

/// A client of another endpoint.
pub(crate) async fn streams_at(endpoint: Option<&str>) -> Client {
    let settings = Settings { endpoint: endpoint.map(str::to_owned), ..Settings::default() };
    let Some(_) = endpoint else { return outbox_aws::dynamodb::connect_streams(&settings).await };
    // An emulator takes any credentials, where the environment has none.
    let loaded = settings.load().await;
    let mut config = aws_sdk_dynamodbstreams::config::Builder::from(&loaded);
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_none() {
        let any = Credentials::new("test", "test", None, None, "tests");
        config = config.credentials_provider(SharedCredentialsProvider::new(any));
    }
    if loaded.region().is_none() {
        config = config.region(Region::new("eu-west-1"));
    }
    Client::from_conf(config.build())
}
