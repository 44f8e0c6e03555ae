//! A table that others lay out: which of its attributes are what of an event.
//!
//! Its items are events, one each, and have no places: who writes them keeps no head, so nothing of a key is known to be
//! missing, or to have come twice. The stream hands them over as they were committed; what is read again from the table
//! comes in the table's own order ([`Mapping::recovered_as_it_is`]). `docs/dynamodb.md` tells it for users.

use std::{fmt, str::FromStr};

use outbox::{ErrorKind, StoreError};

mod name;
mod plain;
mod read;

pub(super) use read::Seen;

/// A layout that is known by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `messageId, detailType, detail, ttl`: an item for each message of a bus, as serverless services keep it.
    DynamoOutbox,
}

/// There is no layout of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoLayout;

impl fmt::Display for NoLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is no layout: write `dynamo-outbox`, or say by `table` and its attributes what it is")
    }
}

impl std::error::Error for NoLayout {}

impl FromStr for Layout {
    type Err = NoLayout;

    fn from_str(text: &str) -> Result<Self, NoLayout> {
        match text {
            "dynamo-outbox" => Ok(Self::DynamoOutbox),
            _ => Err(NoLayout),
        }
    }
}

/// A table whose items are events, and which of its attributes are what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    table: String,
    partition: String,
    sort: Option<String>,
    kind: String,
    payload: String,
    content_type: Option<String>,
    event_id: Option<String>,
    key: Option<String>,
    time: Option<String>,
    expires: Option<String>,
    takes_changes: bool,
    as_it_is: bool,
}

impl Mapping {
    /// A table: its partition key, and the attributes of the events' types and payloads.
    pub fn new(
        table: impl Into<String>,
        partition: impl Into<String>,
        kind: impl Into<String>,
        payload: impl Into<String>,
    ) -> Self {
        Self {
            table: table.into(),
            partition: partition.into(),
            sort: None,
            kind: kind.into(),
            payload: payload.into(),
            content_type: None,
            event_id: None,
            key: None,
            time: None,
            expires: None,
            takes_changes: false,
            as_it_is: false,
        }
    }

    /// A layout that is known, in a table of this name.
    pub fn of(layout: Layout, table: impl Into<String>) -> Self {
        match layout {
            Layout::DynamoOutbox => {
                Self::new(table, "messageId", "detailType", "detail").event_id("messageId").expires("ttl")
            }
        }
    }

    /// The table's partition key, which has to be text.
    pub fn partition(mut self, attribute: impl Into<String>) -> Self {
        self.partition = attribute.into();
        self
    }

    /// The table's sort key, text or a number.
    pub fn sort(mut self, attribute: impl Into<String>) -> Self {
        self.sort = Some(attribute.into());
        self
    }

    /// The events' types: a text.
    pub fn kind(mut self, attribute: impl Into<String>) -> Self {
        self.kind = attribute.into();
        self
    }

    /// The payloads: a text or bytes, which are published as they are, or anything else, which becomes JSON.
    pub fn payload(mut self, attribute: impl Into<String>) -> Self {
        self.payload = attribute.into();
        self
    }

    /// The payloads' media type. Unless it is said, texts are JSON, and bytes `application/octet-stream`.
    pub fn content_type(mut self, media_type: impl Into<String>) -> Self {
        self.content_type = Some(media_type.into());
        self
    }

    /// The events' ids: a text or a number, unique among the producer's events. Without it they are made of the primary key.
    pub fn event_id(mut self, attribute: impl Into<String>) -> Self {
        self.event_id = Some(attribute.into());
        self
    }

    /// What order is kept by: an attribute, text or a number, or one of those within it, as `detail.cartId`; `detail` may be a
    /// map or a text that holds JSON. An item without it is an event without a key.
    pub fn key(mut self, path: impl Into<String>) -> Self {
        self.key = Some(path.into());
        self
    }

    /// When an item was written: a number, of seconds or milliseconds since 1970, or a text as of RFC 3339.
    pub fn time(mut self, attribute: impl Into<String>) -> Self {
        self.time = Some(attribute.into());
        self
    }

    /// By which attribute items expire, in seconds since 1970.
    pub fn expires(mut self, attribute: impl Into<String>) -> Self {
        self.expires = Some(attribute.into());
        self
    }

    /// Items are never deleted by DynamoDB itself.
    pub fn without_expiry(mut self) -> Self {
        self.expires = None;
        self
    }

    /// An item that changes is an event as well, under the id that it has then: [`event_id`](Self::event_id) has to name an
    /// attribute that is another one after each change.
    pub fn takes_changes(mut self) -> Self {
        self.takes_changes = true;
        self
    }

    /// What the stream does not remember any more is read from the table as it is there: the events of a key in any order, and
    /// of an item that changed several times the last state alone. Without it, a mapping of which that would be so is refused.
    pub fn recovered_as_it_is(mut self) -> Self {
        self.as_it_is = true;
        self
    }

    /// The table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The table's partition key, and its sort key.
    pub(super) fn keys(&self) -> (&str, Option<&str>) {
        (&self.partition, self.sort.as_deref())
    }

    /// By which attribute items expire.
    pub(super) fn expiry(&self) -> Option<&str> {
        self.expires.as_deref()
    }

    /// Whether items say when they were written.
    pub(super) fn has_time(&self) -> bool {
        self.time.is_some()
    }

    /// Makes sure that what the mapping promises can be kept.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], with the remedy.
    pub fn check(&self) -> Result<(), StoreError> {
        let refused = |message: String| Err(StoreError::new(ErrorKind::Invalid, message));
        let table = &self.table;
        if self.takes_changes && self.event_id.is_none() {
            return refused(format!(
                "the mapping of table `{table}` takes changes, and names no `event_id`: each change would have the id of the one before, and consumers would take it for that; name an attribute that is another one after each change"
            ));
        }
        if self.takes_changes && !self.as_it_is {
            return refused(format!(
                "the mapping of table `{table}` takes changes, of which the table has the last alone: what the stream does not remember, as after a day without a relay, would be lost in silence; accept that by `recovery = \"as-it-is\"`, or write each event as an item of its own"
            ));
        }
        match &self.key {
            Some(key) if !self.keeps_order(key) && !self.as_it_is => refused(format!(
                "the mapping of table `{table}` has the key `{key}`, and the table is not in its order: what the stream does not remember, as after a day without a relay, would be published in any order. Use a table whose partition key is `{key}` and whose sort key rises, leave the key out, or accept it by `recovery = \"as-it-is\"`"
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether reading the table gives the items of each key in their order.
    fn keeps_order(&self, key: &str) -> bool {
        key == self.partition && self.sort.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> Mapping {
        Mapping::of(Layout::DynamoOutbox, "outbox")
    }

    #[test]
    fn a_mapping_that_cannot_be_kept_is_refused_with_the_remedy_and_can_be_accepted() {
        let refused = |mapping: &Mapping, words: &[&str]| {
            let told = mapping.check().unwrap_err().to_string();
            assert!(words.iter().all(|word| told.contains(word)), "{told}");
        };
        assert!(seed().check().is_ok());
        let keyed = seed().key("detail.cartId");
        refused(&keyed, &["`outbox`", "`detail.cartId`", "recovery = \"as-it-is\"", "partition key"]);
        assert!(keyed.recovered_as_it_is().check().is_ok());
        // A table that is in the order of its keys.
        assert!(seed().partition("cart").sort("at").key("cart").check().is_ok());
        refused(&seed().partition("cart").key("cart"), &["sort key"]);
        refused(&seed().takes_changes(), &["the last alone", "as-it-is"]);
        let nameless = Mapping::new("t", "id", "type", "data").takes_changes();
        refused(&nameless, &["event_id"]);
        assert!(nameless.event_id("version").recovered_as_it_is().check().is_ok());
    }

    #[test]
    fn the_layouts_are_known_by_their_names() {
        assert_eq!("dynamo-outbox".parse(), Ok(Layout::DynamoOutbox));
        assert!(NoLayout.to_string().contains("dynamo-outbox"));
        assert_eq!("outbox".parse::<Layout>(), Err(NoLayout));
    }
}
