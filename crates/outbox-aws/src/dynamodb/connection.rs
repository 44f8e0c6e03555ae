//! The client.

use aws_sdk_dynamodb::Client;

use crate::Settings;

/// A client as `settings` say. No request is made.
pub async fn connect(settings: &Settings) -> Client {
    Client::new(&settings.load().await)
}
