//! A cart as an item.

use std::{collections::HashMap, str::FromStr};

use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use outbox::Place;

use super::CartsError;
use crate::cart::{Cart, Item, Status};

/// A cart and the place of its last event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The cart.
    pub cart: Cart,
    /// The place of its last event: the item is the head of its key.
    pub place: Place,
}

/// Which state of a cart is meant: that behind its event at this place. Unlike its number it is never taken again, not even
/// after a backup was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(Place);

impl Version {
    /// That behind the event at `place`.
    pub fn of(place: Place) -> Self {
        Self(place)
    }

    /// As an entity tag, quotes included.
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.0)
    }

    /// The version that a strong entity tag names, if any.
    pub fn of_etag(etag: &str) -> Option<Self> {
        Some(Self(etag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()?))
    }
}

impl Stored {
    /// Which state of the cart it is.
    pub fn version(&self) -> Version {
        Version(self.place)
    }

    /// Puts it where `before` stands, or where there is none.
    pub(super) fn put(&self, table: &str, before: Option<&Self>) -> Result<TransactWriteItem, CartsError> {
        let put = Put::builder().table_name(table).set_item(Some(self.item()));
        let put = match before {
            None => put.condition_expression("attribute_not_exists(id)"),
            Some(before) => put
                .condition_expression("#place = :place AND #version = :version")
                .expression_attribute_names("#place", "place")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":place", text(before.place.to_string()))
                .expression_attribute_values(":version", number(before.cart.version)),
        };
        let put = put.build().map_err(|error| CartsError::Store(error.to_string()))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    fn item(&self) -> HashMap<String, AttributeValue> {
        let Self { cart, place } = self;
        let lines = cart.items.iter().map(|line| {
            let Item { sku, quantity, unit_price } = line;
            AttributeValue::M(map([
                ("sku", text(sku)),
                ("quantity", number(*quantity)),
                ("unit_price", number(*unit_price)),
            ]))
        });
        map([
            ("id", text(&cart.id)),
            ("place", text(place.to_string())),
            ("version", number(cart.version)),
            ("customer", text(&cart.customer)),
            ("currency", text(&cart.currency)),
            ("status", text(cart.status.name())),
            ("items", AttributeValue::L(lines.collect())),
            ("units", number(cart.units)),
            ("total", number(cart.total)),
            ("created_at", text(cart.created_at.to_string())),
            ("changed_at", text(cart.changed_at.to_string())),
        ])
    }

    pub(super) fn of_item(item: &HashMap<String, AttributeValue>) -> Result<Self, CartsError> {
        let cart = Cart {
            id: parsed(item, "id")?,
            customer: parsed(item, "customer")?,
            currency: parsed(item, "currency")?,
            status: status(item)?,
            version: parsed(item, "version")?,
            items: lines(item)?,
            units: parsed(item, "units")?,
            total: parsed(item, "total")?,
            created_at: parsed(item, "created_at")?,
            changed_at: parsed(item, "changed_at")?,
        };
        Ok(Self { cart, place: parsed(item, "place")? })
    }
}

fn status(item: &HashMap<String, AttributeValue>) -> Result<Status, CartsError> {
    let name: String = parsed(item, "status")?;
    let statuses = [Status::Open, Status::CheckedOut];
    statuses.into_iter().find(|status| status.name() == name).ok_or_else(|| unreadable("status"))
}

fn lines(item: &HashMap<String, AttributeValue>) -> Result<Vec<Item>, CartsError> {
    let lines = item.get("items").and_then(|items| items.as_l().ok()).ok_or_else(|| unreadable("items"))?;
    let line = |line: &AttributeValue| {
        let line = line.as_m().map_err(|_| unreadable("items"))?;
        let (quantity, unit_price) = (parsed(line, "quantity")?, parsed(line, "unit_price")?);
        Ok(Item { sku: parsed(line, "sku")?, quantity, unit_price })
    };
    lines.iter().map(line).collect()
}

/// An attribute that is a text or a number.
pub(super) fn parsed<T: FromStr>(item: &HashMap<String, AttributeValue>, name: &str) -> Result<T, CartsError> {
    let written = match item.get(name) {
        Some(AttributeValue::S(text)) => text,
        Some(AttributeValue::N(digits)) => digits,
        _ => return Err(unreadable(name)),
    };
    written.parse().map_err(|_| unreadable(name))
}

fn unreadable(name: &str) -> CartsError {
    CartsError::Store(format!("attribute `{name}` of an item cannot be read: restore the item from a backup"))
}

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn map<const N: usize>(members: [(&str, AttributeValue); N]) -> HashMap<String, AttributeValue> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn stored() -> Stored {
        let line = Item { sku: "cd „1“".into(), quantity: 3, unit_price: 1177 };
        let cart = Cart {
            id: "c".into(),
            customer: "00001".into(),
            currency: "USD".into(),
            status: Status::CheckedOut,
            version: 3,
            items: vec![line],
            units: 3,
            total: 3531,
            created_at: Timestamp::UNIX_EPOCH,
            changed_at: Timestamp::from_second(1_000_000_000).unwrap(),
        };
        Stored { cart, place: Place::new(2, 3, 0) }
    }

    #[test]
    fn a_cart_comes_out_of_its_item_as_it_went_in() {
        assert_eq!(Stored::of_item(&stored().item()).unwrap(), stored());
    }

    #[test]
    fn an_item_that_lacks_something_names_it() {
        for name in stored().item().keys() {
            let mut item = stored().item();
            item.remove(name);
            let error = Stored::of_item(&item).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
    }

    #[test]
    fn a_version_is_read_from_its_own_tag() {
        let version = stored().version();
        assert_eq!((version.etag().as_str(), Version::of_etag("\"2.3.0\"")), ("\"2.3.0\"", Some(version)));
        for other in ["2.3.0", "W/\"2.3.0\"", "\"\"", "\"3\""] {
            assert_eq!(Version::of_etag(other), None, "{other}");
        }
    }
}
