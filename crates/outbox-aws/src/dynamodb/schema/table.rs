//! One table: made as its shape says, or found to have it.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, StreamSpecification,
    StreamViewType, TableDescription, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};
use outbox::{ErrorKind, StoreError};

use crate::dynamodb::calls::{Calls, attempted};

/// How long a table may take to be made.
pub(in crate::dynamodb) const PATIENCE: Duration = Duration::from_mins(2);

pub(super) const NUMBER: ScalarAttributeType = ScalarAttributeType::N;
pub(super) const TEXT: ScalarAttributeType = ScalarAttributeType::S;

/// What a table has to be like.
pub(super) struct Shape {
    /// The partition key: text.
    pub(super) partition: &'static str,
    /// The sort key.
    pub(super) sort: Option<(&'static str, ScalarAttributeType)>,
    /// What its stream shows at least.
    pub(super) stream: Option<StreamViewType>,
    /// By which attribute items expire.
    pub(super) expiry: Option<&'static str>,
}

pub(super) struct Table<'a> {
    pub(super) calls: &'a Calls,
    pub(super) name: &'a str,
}

impl Table<'_> {
    /// Makes the table, unless it is there, and its expiry.
    pub(super) async fn make(&self, shape: &Shape) -> Result<(), StoreError> {
        if self.describe().await?.is_none() {
            self.create(shape).await?;
        }
        let described = self.until_active().await?;
        self.check_shape(&described, shape)?;
        match (shape.expiry, self.expiry().await?) {
            (None, _) => Ok(()),
            (Some(_), None) => self.set_expiry(shape).await,
            (Some(wanted), Some(found)) => self.check_expiry(wanted, Some(&found)),
        }
    }

    /// Makes sure that the table is as it has to be.
    pub(super) async fn check(&self, shape: &Shape) -> Result<(), StoreError> {
        let Some(described) = self.describe().await? else {
            return Err(self.incompatible("is missing: check name and region, or run `outbox init`"));
        };
        self.check_shape(&described, shape)?;
        match shape.expiry {
            None => Ok(()),
            Some(wanted) => self.check_expiry(wanted, self.expiry().await?.as_deref()),
        }
    }

    pub(super) fn incompatible(&self, what: &str) -> StoreError {
        StoreError::new(ErrorKind::Incompatible, format!("table `{}` {what}", self.name))
    }

    pub(super) async fn describe(&self) -> Result<Option<TableDescription>, StoreError> {
        let attempt = || self.calls.client().describe_table().table_name(self.name).send();
        match self.calls.call(attempt).await {
            Ok(output) => Ok(output.table),
            Err(failure) if failure.code.as_deref() == Some("ResourceNotFoundException") => Ok(None),
            Err(failure) => Err(failure.store_error("looking at a table")),
        }
    }

    async fn create(&self, shape: &Shape) -> Result<(), StoreError> {
        const MAKING: &str = "making a table";
        let keys =
            [Some((shape.partition, TEXT, KeyType::Hash)), shape.sort.clone().map(|(n, t)| (n, t, KeyType::Range))];
        let mut request = self.calls.client().create_table().table_name(self.name);
        for (name, kind, role) in keys.into_iter().flatten() {
            let failed = |error| StoreError::new(ErrorKind::Invalid, format!("{MAKING}: {error}"));
            let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build();
            let key = KeySchemaElement::builder().attribute_name(name).key_type(role).build();
            request = request.attribute_definitions(attribute.map_err(failed)?).key_schema(key.map_err(failed)?);
        }
        let failed = |error| StoreError::new(ErrorKind::Invalid, format!("{MAKING}: {error}"));
        if let Some(view) = &shape.stream {
            let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(view.clone()).build();
            request = request.stream_specification(stream.map_err(failed)?);
        }
        let request = request.billing_mode(BillingMode::PayPerRequest);
        match self.calls.call(|| request.clone().send()).await {
            Ok(_) => Ok(()),
            // Somebody else makes it at this moment.
            Err(failure) if failure.code.as_deref() == Some("ResourceInUseException") => Ok(()),
            Err(failure) => Err(failure.store_error(MAKING)),
        }
    }

    async fn until_active(&self) -> Result<TableDescription, StoreError> {
        let mut pauses = self.calls.pauses();
        loop {
            match self.describe().await? {
                Some(table) if table.table_status() == Some(&TableStatus::Active) => return Ok(table),
                Some(_) | None => {}
            }
            if !pauses.wait(&*self.calls.clock).await {
                let message =
                    format!("table `{}` is not active after {PATIENCE:?}: run `outbox init` again", self.name);
                return Err(StoreError::new(ErrorKind::Unavailable, message));
            }
        }
    }

    fn check_shape(&self, table: &TableDescription, shape: &Shape) -> Result<(), StoreError> {
        let key = |role: &KeyType| {
            let element = table.key_schema().iter().find(|element| element.key_type() == role)?;
            let name = element.attribute_name();
            let kind = table.attribute_definitions().iter().find(|attribute| attribute.attribute_name() == name)?;
            Some((name.to_owned(), kind.attribute_type().clone()))
        };
        let wanted = [
            ("partition", Some((shape.partition.to_owned(), TEXT)), key(&KeyType::Hash)),
            ("sort", shape.sort.clone().map(|(name, kind)| (name.to_owned(), kind)), key(&KeyType::Range)),
        ];
        for (role, wanted, found) in wanted {
            if wanted != found {
                let shown = |key: &Option<(String, ScalarAttributeType)>| match key {
                    Some((name, kind)) => format!("`{name}` of type {}", kind.as_str()),
                    None => "nothing".to_owned(),
                };
                let what = format!(
                    "has {} as its {role} key, not {}: use a table of another name",
                    shown(&found),
                    shown(&wanted)
                );
                return Err(self.incompatible(&what));
            }
        }
        self.check_stream(table, shape)
    }

    pub(super) fn check_stream(&self, table: &TableDescription, shape: &Shape) -> Result<(), StoreError> {
        let Some(wanted) = &shape.stream else { return Ok(()) };
        let stream = table.stream_specification().filter(|stream| stream.stream_enabled());
        match stream.and_then(StreamSpecification::stream_view_type) {
            None => Err(self.incompatible("has no stream: enable one with the view type NEW_IMAGE")),
            Some(view) if view == wanted || *view == StreamViewType::NewAndOldImages => Ok(()),
            Some(view) => {
                let what = format!(
                    "has a stream of view type {}, which does not show the entries: disable it, and enable one with NEW_IMAGE",
                    view.as_str()
                );
                Err(self.incompatible(&what))
            }
        }
    }

    /// By which attribute items expire.
    pub(super) async fn expiry(&self) -> Result<Option<String>, StoreError> {
        let attempt = || self.calls.client().describe_time_to_live().table_name(self.name).send();
        let output = self.calls.call(attempt).await.map_err(attempted("looking at a table's time to live"))?;
        let on = |status: &TimeToLiveStatus| matches!(status, TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling);
        Ok(output
            .time_to_live_description
            .filter(|ttl| ttl.time_to_live_status().is_some_and(on))
            .and_then(|ttl| ttl.attribute_name))
    }

    async fn set_expiry(&self, shape: &Shape) -> Result<(), StoreError> {
        const SETTING: &str = "setting a table's time to live";
        let failed = |error| StoreError::new(ErrorKind::Invalid, format!("{SETTING}: {error}"));
        let specification =
            TimeToLiveSpecification::builder().enabled(true).set_attribute_name(shape.expiry.map(str::to_owned));
        let specification = specification.build().map_err(failed)?;
        let attempt = || {
            let update = self.calls.client().update_time_to_live().table_name(self.name);
            update.time_to_live_specification(specification.clone()).send()
        };
        self.calls.call(attempt).await.map(drop).map_err(attempted(SETTING))
    }

    fn check_expiry(&self, wanted: &str, found: Option<&str>) -> Result<(), StoreError> {
        match found {
            Some(found) if found == wanted => Ok(()),
            Some(found) => Err(self.incompatible(&format!(
                "expires items by `{found}`, not by `{wanted}`: disable its time to live, wait until that is done, and run `outbox init`"
            ))),
            None => Err(self.incompatible(&format!(
                "keeps items for ever: enable its time to live on `{wanted}`, or run `outbox init`"
            ))),
        }
    }
}
