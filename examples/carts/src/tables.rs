//! The service's tables.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    error::ProvideErrorMetadata as _,
    operation::create_table::CreateTableError,
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableDescription,
        TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
    },
};
use outbox_aws::dynamodb::{InitOptions, Tables, schema};

use crate::{PRODUCER, carts::CartsError};

/// How often a table that is being made is looked at.
const LOOK: Duration = Duration::from_millis(250);
const LOOKS: u32 = 240;

/// What the tables are called.
#[derive(Clone, Debug)]
pub struct Names {
    /// Carts, an item each.
    pub carts: String,
    /// What was answered to requests with an `Idempotency-Key`, for a day.
    pub requests: String,
    /// The outbox.
    pub outbox: Tables,
}

impl Names {
    /// `PREFIX-carts`, `PREFIX-requests`, `PREFIX-entries` and `PREFIX-heads`.
    pub fn with_prefix(prefix: &str) -> Self {
        let outbox = Tables::with_prefix(prefix);
        Self { carts: format!("{prefix}-carts"), requests: format!("{prefix}-requests"), outbox }
    }
}

/// Makes the tables that are not there.
///
/// # Errors
/// [`CartsError::Store`], with what DynamoDB said.
pub async fn make_tables(client: &Client, names: &Names) -> Result<(), CartsError> {
    make(client, &names.carts).await?;
    make(client, &names.requests).await?;
    expire(client, &names.requests).await?;
    let made = schema::init(client, &names.outbox, &InitOptions::new(PRODUCER)).await;
    made.map(drop).map_err(|error| CartsError::Store(error.to_string()))
}

/// A table whose items are found by the text `id`.
pub(crate) async fn make(client: &Client, name: &str) -> Result<(), CartsError> {
    let said = |what: &dyn std::fmt::Display| CartsError::Store(format!("making table `{name}`: {what}"));
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build();
    let id = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S).build();
    let (key, id) = (key.map_err(|error| said(&error))?, id.map_err(|error| said(&error))?);
    let make = client.create_table().table_name(name).key_schema(key).attribute_definitions(id);
    if let Err(error) = make.billing_mode(BillingMode::PayPerRequest).send().await {
        match error.into_service_error() {
            CreateTableError::ResourceInUseException(_) => {}
            refused => return Err(said(&refused.message().unwrap_or("no answer"))),
        }
    }
    for _ in 0..LOOKS {
        let described = client.describe_table().table_name(name).send().await;
        let described = described.map_err(|error| said(&error.code().unwrap_or("no answer")))?;
        let table = described.table;
        if table.as_ref().and_then(|table| table.table_status.as_ref()) == Some(&TableStatus::Active) {
            let keys: Vec<_> =
                table.iter().flat_map(TableDescription::key_schema).map(KeySchemaElement::attribute_name).collect();
            return if keys == ["id"] {
                Ok(())
            } else {
                Err(said(&"it is there, with another key: use another prefix"))
            };
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(said(&"it did not become active within a minute"))
}

/// Lets items expire by `expires_at`.
async fn expire(client: &Client, name: &str) -> Result<(), CartsError> {
    let said = |what: &dyn std::fmt::Display| CartsError::Store(format!("time to live of table `{name}`: {what}"));
    let described = client.describe_time_to_live().table_name(name).send().await;
    let described = described.map_err(|error| said(&error.code().unwrap_or("no answer")))?.time_to_live_description;
    if let Some(set) = described
        && matches!(set.time_to_live_status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling))
    {
        let by = set.attribute_name.unwrap_or_default();
        return if by == "expires_at" {
            Ok(())
        } else {
            Err(said(&format!("it is on `{by}`: put it on `expires_at`")))
        };
    }
    let on = TimeToLiveSpecification::builder().attribute_name("expires_at").enabled(true).build();
    let set = client.update_time_to_live().table_name(name);
    let set = set.time_to_live_specification(on.map_err(|error| said(&error))?).send().await;
    set.map(drop).map_err(|error| said(&error.code().unwrap_or("no answer")))
}
