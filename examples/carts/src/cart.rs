//! Carts: what they are, how they change, and the events about it. No I/O.
//!
//! Money is in minor units of its currency (cents), in whole numbers everywhere: nothing is rounded. The limits keep every
//! sum below 2⁵³, so that a JavaScript reader sees it exactly, too.

use jiff::Timestamp;
use outbox::{AttributeError, NewEvent};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The most items of one request.
pub(crate) const MAX_ITEMS_ADDED: usize = 100;
/// The most items of a cart: it, and an event that tells all of it, have to fit an item of DynamoDB and an entry of a bus.
pub(crate) const MAX_ITEMS: usize = 200;
/// The most units of an item.
pub(crate) const MAX_QUANTITY: u64 = 10_000;
/// The highest price of a unit, in minor units: ten million.
pub(crate) const MAX_UNIT_PRICE: u64 = 1_000_000_000;

/// What is asked for with a new cart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewCart {
    /// Who buys.
    pub customer: String,
    /// The currency of its prices, as `USD` (ISO 4217).
    pub currency: String,
}

/// So many units of something, at a price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What.
    pub sku: String,
    /// Units, at least 1.
    pub quantity: u64,
    /// The price of one, in minor units.
    pub unit_price: u64,
}

impl Item {
    fn total(&self) -> u64 {
        self.quantity.saturating_mul(self.unit_price)
    }
}

/// Whether a cart still changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Items can be added.
    Open,
    /// Bought; it changes no more.
    CheckedOut,
}

impl Status {
    /// Its name, as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::CheckedOut => "checked-out",
        }
    }
}

/// A cart, as it is answered and told by events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cart {
    /// Its id.
    pub id: String,
    /// Who buys.
    pub customer: String,
    /// The currency of its prices.
    pub currency: String,
    /// Whether it still changes.
    pub status: Status,
    /// 1 when it is created, and one more with each change.
    pub version: u64,
    /// What is in it. The same thing at another price is another item.
    pub items: Vec<Item>,
    /// Units in all.
    pub units: u64,
    /// The price in all, in minor units.
    pub total: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it changed last.
    pub changed_at: Timestamp,
}

/// What is asked of a cart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Items are added.
    Add(Vec<Item>),
    /// It is bought as it is.
    CheckOut,
}

/// Why a cart does not change as it is asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was bought.
    #[error("the cart is checked out and changes no more: create a new one by `POST /cart`")]
    CheckedOut,
    /// There is nothing to buy.
    #[error("the cart is empty: add items by `PUT /cart/{{id}}/add-items` before it is checked out")]
    Empty,
    /// More than a cart takes.
    #[error("the cart would have {0} items, and takes {MAX_ITEMS}: check it out, and put the rest into another one")]
    TooManyItems(usize),
    /// More than an item takes.
    #[error("the cart would have {quantity} units of `{sku}`, and takes {MAX_QUANTITY}: add fewer")]
    TooManyUnits {
        /// Of what.
        sku: String,
        /// How many.
        quantity: u64,
    },
}

impl Cart {
    /// A new cart, and its event.
    ///
    /// # Errors
    /// None for a request that was checked; the event's builder checks all attributes nevertheless.
    pub fn create(id: String, new: NewCart, now: Timestamp) -> Result<(Self, NewEvent), AttributeError> {
        let NewCart { customer, currency } = new;
        let cart = Self {
            id,
            customer,
            currency,
            status: Status::Open,
            version: 1,
            items: Vec::new(),
            units: 0,
            total: 0,
            created_at: now,
            changed_at: now,
        };
        let event = cart.event("cart.created", &json!({ "cart": cart }))?;
        Ok((cart, event))
    }

    /// The cart as it is after `change`, and the event about it.
    ///
    /// # Errors
    /// [`Refused`], with the way out.
    pub fn change(&self, change: &Change, now: Timestamp) -> Result<(Self, Result<NewEvent, AttributeError>), Refused> {
        if self.status == Status::CheckedOut {
            return Err(Refused::CheckedOut);
        }
        let mut cart = Self { version: self.version + 1, changed_at: now, ..self.clone() };
        let event = match change {
            Change::Add(items) => {
                cart.add(items)?;
                let (units, total) = sums(items);
                let added = json!({ "cart": cart, "added": items, "added_units": units, "added_total": total });
                cart.event("cart.items-added", &added)
            }
            Change::CheckOut if self.items.is_empty() => return Err(Refused::Empty),
            Change::CheckOut => {
                cart.status = Status::CheckedOut;
                cart.event("cart.checked-out", &json!({ "cart": cart }))
            }
        };
        Ok((cart, event))
    }

    fn add(&mut self, added: &[Item]) -> Result<(), Refused> {
        for item in added {
            let same = |held: &&mut Item| held.sku == item.sku && held.unit_price == item.unit_price;
            match self.items.iter_mut().find(same) {
                Some(held) => held.quantity = held.quantity.saturating_add(item.quantity),
                None => self.items.push(item.clone()),
            }
        }
        if self.items.len() > MAX_ITEMS {
            return Err(Refused::TooManyItems(self.items.len()));
        }
        if let Some(item) = self.items.iter().find(|item| item.quantity > MAX_QUANTITY) {
            return Err(Refused::TooManyUnits { sku: item.sku.clone(), quantity: item.quantity });
        }
        (self.units, self.total) = sums(&self.items);
        Ok(())
    }

    /// The cart's identity, by which its events keep their order.
    pub fn key(&self) -> String {
        format!("cart/{}", self.id)
    }

    fn event(&self, kind: &str, data: &serde_json::Value) -> Result<NewEvent, AttributeError> {
        NewEvent::builder(kind).key(self.key()).subject(self.id.as_str()).time(self.changed_at).json(data).build()
    }
}

/// Units and price in all.
fn sums(items: &[Item]) -> (u64, u64) {
    (items.iter().map(|item| item.quantity).sum(), items.iter().map(Item::total).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn empty() -> Cart {
        let new = NewCart { customer: "00001".into(), currency: "USD".into() };
        Cart::create("c".into(), new, NOW).unwrap().0
    }

    fn item(sku: &str, quantity: u64, unit_price: u64) -> Item {
        Item { sku: sku.into(), quantity, unit_price }
    }

    fn add(cart: &Cart, items: Vec<Item>) -> Result<Cart, Refused> {
        cart.change(&Change::Add(items), NOW).map(|(cart, _)| cart)
    }

    #[test]
    fn the_same_thing_at_the_same_price_is_one_item() {
        let cart =
            add(&empty(), vec![item("a", 1, 500), item("b", 1, 1), item("a", 2, 500), item("a", 1, 450)]).unwrap();
        assert_eq!(cart.items, [item("a", 3, 500), item("b", 1, 1), item("a", 1, 450)]);
        assert_eq!((cart.units, cart.total, cart.version), (5, 1951, 2));
    }

    #[test]
    fn an_event_tells_the_whole_cart_and_what_was_added() {
        let cart = add(&empty(), vec![item("a", 1, 500)]).unwrap();
        let (_, event) = cart.change(&Change::Add(vec![item("b", 2, 25)]), NOW).unwrap();
        let event = event.unwrap();
        assert_eq!((event.kind(), event.key().unwrap().as_str()), ("cart.items-added", "cart/c"));
        let data: serde_json::Value = serde_json::from_slice(event.data().unwrap()).unwrap();
        assert_eq!((&data["cart"]["total"], &data["cart"]["version"]), (&json!(550), &json!(3)));
        assert_eq!(data["added"], json!([{ "sku": "b", "quantity": 2, "unit_price": 25 }]));
        assert_eq!((&data["added_units"], &data["added_total"]), (&json!(2), &json!(50)));
    }

    #[test]
    fn a_cart_is_checked_out_once_and_never_empty() {
        assert_eq!(empty().change(&Change::CheckOut, NOW).unwrap_err(), Refused::Empty);
        let (bought, event) = add(&empty(), vec![item("a", 1, 1)]).unwrap().change(&Change::CheckOut, NOW).unwrap();
        assert_eq!((bought.status, event.unwrap().kind()), (Status::CheckedOut, "cart.checked-out"));
        for change in [Change::CheckOut, Change::Add(vec![item("a", 1, 1)])] {
            assert_eq!(bought.change(&change, NOW).unwrap_err(), Refused::CheckedOut);
        }
    }

    #[test]
    fn the_fullest_cart_is_summed_exactly_and_one_more_is_refused() {
        let mut cart = empty();
        for batch in 0..2 {
            let items = (0..100).map(|number| item(&format!("{batch}-{number}"), MAX_QUANTITY, MAX_UNIT_PRICE));
            cart = add(&cart, items.collect()).unwrap();
        }
        assert_eq!(cart.total, 200 * MAX_QUANTITY * MAX_UNIT_PRICE);
        assert!(cart.total < 1 << 53, "a reader with floating point sees it exactly");
        assert_eq!(add(&cart, vec![item("more", 1, 1)]).unwrap_err(), Refused::TooManyItems(201));
        let refused = add(&cart, vec![item("0-0", 1, MAX_UNIT_PRICE)]).unwrap_err();
        assert_eq!(refused, Refused::TooManyUnits { sku: "0-0".into(), quantity: MAX_QUANTITY + 1 });
    }
}
