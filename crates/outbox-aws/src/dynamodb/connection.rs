//! The client.

use aws_sdk_dynamodb::Client;

use crate::Settings;

/// A client as `settings` say. No request is made.
pub async fn connect(settings: &Settings) -> Client {
    Client::new(&settings.load().await)
}

/// A client for the tables' streams, as `settings` say. No request is made.
pub async fn connect_streams(settings: &Settings) -> aws_sdk_dynamodbstreams::Client {
    aws_sdk_dynamodbstreams::Client::new(&settings.load().await)
}
