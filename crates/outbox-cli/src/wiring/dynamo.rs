//! Tables of DynamoDB.

use outbox_aws::dynamodb::{self, BookkeepingOptions, DynamoBookkeeping, DynamoStore, SourceOptions, StreamsSource};

use crate::{
    config::{BookkeepingConfig, Config, DynamoConfig},
    exit::Failure,
};

/// The service's tables alone.
///
/// # Errors
/// As DynamoDB says.
pub(crate) async fn dynamo(config: &DynamoConfig) -> Result<DynamoStore, Failure> {
    let client = dynamodb::connect(&config.aws).await;
    Ok(DynamoStore::open(&client, &config.tables(), dynamodb::StoreOptions::default()).await?)
}

/// The stream of those tables.
///
/// # Errors
/// As DynamoDB says.
pub(crate) async fn stream(config: &DynamoConfig, store: &DynamoStore) -> Result<StreamsSource, Failure> {
    let streams = dynamodb::connect_streams(&config.aws).await;
    let options = SourceOptions { recovery_share: config.recovery_share, accept_loss: config.accept_loss };
    Ok(StreamsSource::open(store, &streams, options).await?)
}

/// Where functions note how far they are, if functions publish.
///
/// # Errors
/// As DynamoDB says.
pub(crate) async fn watermarks(config: &Config) -> Result<Option<DynamoBookkeeping>, Failure> {
    match &config.relay.bookkeeping {
        BookkeepingConfig::Dynamo { table, aws } if !config.forwarders.is_empty() => {
            let client = dynamodb::connect(aws).await;
            Ok(Some(DynamoBookkeeping::open(&client, table, BookkeepingOptions::default()).await?))
        }
        BookkeepingConfig::Dynamo { .. } => Ok(None),
        #[cfg(feature = "sql")]
        BookkeepingConfig::Sqlite(_) | BookkeepingConfig::Postgres { .. } => Ok(None),
    }
}
