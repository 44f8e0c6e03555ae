//! Orders, as they are asked for and as they stand.

use jiff::civil::Date;
use outbox::{AttributeError, NewEvent};
use serde::{Deserialize, Serialize};

use crate::money::{Cents, NotAnAmount};

/// The type of the event about a new order.
pub const ORDER_PLACED: &str = "order.placed";

/// The most units of one order.
const MAX_QUANTITY: i64 = 1_000_000;

/// An order as a client asks for it: nothing is checked yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    /// Chosen by the client, unique for ever: who repeats a request repeats its id, and the order is placed once.
    pub order_id: String,
    /// Who buys.
    pub customer: String,
    /// The day of the order, as `1997-01-12`.
    pub date: String,
    /// Units, at least 1.
    pub quantity: i64,
    /// The order's price as text, as `"11.77"`.
    pub amount: String,
}

/// A valid order. Also the payload of its event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The client's id.
    pub order_id: String,
    /// Who buys.
    pub customer: String,
    /// The day of the order.
    pub date: Date,
    /// Units.
    pub quantity: i64,
    /// The order's price.
    pub amount: Cents,
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Complaint {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it and what it should be.
    pub detail: String,
}

impl NewOrder {
    /// The order, if every field is right.
    ///
    /// # Errors
    /// A [`Complaint`] for each field that is not.
    pub fn check(self) -> Result<Order, Vec<Complaint>> {
        let mut complaints = Vec::new();
        let mut complain = |field, detail: String| complaints.push(Complaint { field, detail });
        for (field, text) in [("order_id", &self.order_id), ("customer", &self.customer)] {
            if !is_id(text) {
                complain(field, "is not an id: use 1 to 64 of a-z, A-Z, 0-9, `-` and `_`".to_owned());
            }
        }
        let date = self.date.parse::<Date>().map_err(|_| complain("date", "is not a day as 1997-01-12".to_owned()));
        if !(1..=MAX_QUANTITY).contains(&self.quantity) {
            complain("quantity", format!("is {}; it has to be from 1 to {MAX_QUANTITY}", self.quantity));
        }
        let amount = self.amount.parse::<Cents>().map_err(|error: NotAnAmount| complain("amount", error.to_string()));
        match (date, amount) {
            (Ok(date), Ok(amount)) if complaints.is_empty() => {
                Ok(Order { order_id: self.order_id, customer: self.customer, date, quantity: self.quantity, amount })
            }
            _ => Err(complaints),
        }
    }
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl Order {
    /// The event about this order. Its key is the customer: a customer's orders reach every consumer in the order in
    /// which they were placed.
    ///
    /// # Errors
    /// None for an order that was checked; the builder checks all attributes nevertheless.
    pub fn placed(&self) -> Result<NewEvent, AttributeError> {
        NewEvent::builder(ORDER_PLACED)
            .key(format!("customer/{}", self.customer))
            .subject(self.order_id.as_str())
            .json(self)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> NewOrder {
        NewOrder {
            order_id: "o-1".into(),
            customer: "00001".into(),
            date: "1997-01-01".into(),
            quantity: 1,
            amount: "11.77".into(),
        }
    }

    #[test]
    fn a_complete_order_is_valid_and_is_the_payload_of_its_event() {
        let order = request().check().unwrap();
        let event = order.placed().unwrap();
        assert_eq!((event.kind(), event.key().unwrap().as_str()), ("order.placed", "customer/00001"));
        assert_eq!(
            event.data().unwrap(),
            r#"{"order_id":"o-1","customer":"00001","date":"1997-01-01","quantity":1,"amount":"11.77"}"#
        );
        assert_eq!(serde_json::from_slice::<Order>(event.data().unwrap()).unwrap(), order);
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let wrong = NewOrder {
            order_id: String::new(),
            customer: "a/b".into(),
            date: "1997-02-30".into(),
            quantity: 0,
            amount: "-1".into(),
        };
        let fields: Vec<_> = wrong.check().unwrap_err().into_iter().map(|complaint| complaint.field).collect();
        assert_eq!(fields, ["order_id", "customer", "date", "quantity", "amount"]);
    }
}
