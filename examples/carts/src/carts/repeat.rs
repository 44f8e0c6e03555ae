//! Requests that may be sent again: what was answered is remembered under the client's key, in the transaction that did it.

use std::{collections::HashMap, fmt::Write as _};

use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    CartsError, Stored,
    item::{map, number, parsed, text},
};

/// How long an answer is remembered, in seconds: a day.
const REMEMBERED_SECONDS: i64 = 24 * 60 * 60;

/// A request that may be sent again, and is then answered as the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeat {
    key: String,
    fingerprint: String,
}

impl Repeat {
    /// A request under `key`: what is `asked` of `path`.
    pub fn new(key: &str, path: &str, asked: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(path.as_bytes());
        hash.update([0]);
        hash.update(asked);
        let fingerprint = hash.finalize().iter().fold(String::new(), |mut text, byte| {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self { key: key.to_owned(), fingerprint }
    }

    pub(super) fn id(&self) -> AttributeValue {
        text(&self.key)
    }

    /// Remembers `stored` as what was answered, unless something is remembered. DynamoDB deletes what has expired within
    /// days, and it does not count before.
    pub(super) fn put(&self, table: &str, stored: &Stored, now: Timestamp) -> Result<TransactWriteItem, CartsError> {
        let cart = serde_json::to_string(&stored.cart).map_err(|error| CartsError::Store(error.to_string()))?;
        let item = map([
            ("id", self.id()),
            ("fingerprint", text(&self.fingerprint)),
            ("cart", text(cart)),
            ("place", text(stored.place.to_string())),
            ("expires_at", number(now.as_second() + REMEMBERED_SECONDS)),
        ]);
        let put = Put::builder().table_name(table).set_item(Some(item));
        let put = put
            .condition_expression("attribute_not_exists(id) OR expires_at <= :now")
            .expression_attribute_values(":now", number(now.as_second()));
        let put = put.build().map_err(|error| CartsError::Store(error.to_string()))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// What was answered, as the item says; `None` if it has expired.
    pub(super) fn remembered(
        &self,
        item: &HashMap<String, AttributeValue>,
        now: Timestamp,
    ) -> Result<Option<Stored>, CartsError> {
        if parsed::<i64>(item, "expires_at")? <= now.as_second() {
            return Ok(None);
        }
        if parsed::<String>(item, "fingerprint")? != self.fingerprint {
            return Err(CartsError::Reused);
        }
        let cart: String = parsed(item, "cart")?;
        let unreadable = |error| CartsError::Store(format!("a remembered answer cannot be read: {error}"));
        Ok(Some(Stored { cart: serde_json::from_str(&cart).map_err(unreadable)?, place: parsed(item, "place")? }))
    }
}
