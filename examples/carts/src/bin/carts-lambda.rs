//! The carts' API as a Lambda function behind API Gateway. `CARTS_TABLES` is the prefix of its tables, which have to be there.

use std::error::Error;

use carts::{Carts, Names, lambda};
use outbox_aws::Settings;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    tracing_subscriber::fmt().json().with_writer(std::io::stderr).without_time().init();
    let prefix = std::env::var("CARTS_TABLES").map_err(|_| "CARTS_TABLES is not set: name the prefix of the tables")?;
    let client = outbox_aws::dynamodb::connect(&Settings::default()).await;
    lambda::run(Carts::new(&client, Names::with_prefix(&prefix))).await
}
