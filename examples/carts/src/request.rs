//! Reading what a request asks for: every wrong field is named, with what it should be.

use serde_json::Value;

use crate::{
    cart::{Item, MAX_ITEMS_ADDED, MAX_QUANTITY, MAX_UNIT_PRICE, NewCart},
    problem::{Complaint, Problem},
};

mod fields;

use fields::{Fields, kind};

/// A new cart.
///
/// # Errors
/// A [`Problem`] that names every wrong field.
pub(crate) fn new_cart(body: Value) -> Result<NewCart, Problem> {
    let mut fields = Fields::of_body(body, "{\"customer\": \"00001\", \"currency\": \"USD\"}")?;
    let customer = fields.text("customer", is_name, "use 1 to 64 of a-z, A-Z, 0-9, `-`, `_` and `.`");
    let currency = fields.text("currency", is_currency, "use three capital letters, as `USD` (ISO 4217)");
    fields.refuse_others(&["customer", "currency"]);
    match (customer, currency, fields.complaints) {
        (Some(customer), Some(currency), complaints) if complaints.is_empty() => Ok(NewCart { customer, currency }),
        (_, _, complaints) => Err(Problem::of_fields(complaints)),
    }
}

/// Items to be added.
///
/// # Errors
/// A [`Problem`] that names every wrong field.
pub(crate) fn items(body: Value) -> Result<Vec<Item>, Problem> {
    let mut fields =
        Fields::of_body(body, "{\"items\": [{\"sku\": \"cd-1\", \"quantity\": 2, \"unit_price\": 1177}]}")?;
    let given = fields.list("items");
    fields.refuse_others(&["items"]);
    let mut complaints = fields.complaints;
    let given = given.unwrap_or_default();
    if complaints.is_empty() && !(1..=MAX_ITEMS_ADDED).contains(&given.len()) {
        let detail = match given.len() {
            0 => "is empty: give at least one item".to_owned(),
            many => format!("has {many} items: give at most {MAX_ITEMS_ADDED} at a time"),
        };
        complaints.push(Complaint { field: "items".to_owned(), detail });
    }
    let mut items = Vec::new();
    if complaints.is_empty() {
        for (number, value) in given.into_iter().enumerate() {
            items.extend(item(&format!("items[{number}]"), value, &mut complaints));
        }
    }
    if complaints.is_empty() { Ok(items) } else { Err(Problem::of_fields(complaints)) }
}

fn item(path: &str, value: Value, complaints: &mut Vec<Complaint>) -> Option<Item> {
    let Value::Object(map) = value else {
        let detail = format!("is {}: give an object with `sku`, `quantity` and `unit_price`", kind(&value));
        complaints.push(Complaint { field: path.to_owned(), detail });
        return None;
    };
    let mut fields = Fields::new(map, path);
    let sku = fields.text("sku", is_sku, "use 1 to 64 characters, without spaces at its ends and control characters");
    let quantity = fields.number("quantity", 1..=MAX_QUANTITY, "");
    let unit_price = fields.number("unit_price", 0..=MAX_UNIT_PRICE, " of minor units, as 1177 for 11.77");
    fields.refuse_others(&["sku", "quantity", "unit_price"]);
    complaints.append(&mut fields.complaints);
    Some(Item { sku: sku?, quantity: quantity?, unit_price: unit_price? })
}

/// A check-out asks for nothing further.
///
/// # Errors
/// A [`Problem`] that names what is too much.
pub(crate) fn nothing(body: Value) -> Result<(), Problem> {
    let mut fields = Fields::of_body(body, "{}, or no body")?;
    fields.refuse_others(&[]);
    if fields.complaints.is_empty() { Ok(()) } else { Err(Problem::of_fields(fields.complaints)) }
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn is_sku(text: &str) -> bool {
    (1..=64).contains(&text.chars().count()) && text.trim() == text && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(result: Result<impl std::fmt::Debug, Problem>) -> Vec<(String, String)> {
        let problem = result.unwrap_err();
        assert_eq!(problem.status, 422);
        problem.errors.into_iter().map(|complaint| (complaint.field, complaint.detail)).collect()
    }

    fn named(result: Result<impl std::fmt::Debug, Problem>) -> Vec<String> {
        wrong(result).into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        assert_eq!(named(new_cart(json!({ "customer": 7, "curency": "USD" }))), ["customer", "currency", "curency"]);
        let given = json!({ "items": [
            { "sku": "a", "quantity": 1, "unit_price": 1 },
            { "sku": "", "quantity": 0, "unit_price": -1, "colour": "red" },
            "b",
        ] });
        let fields = ["items[1].sku", "items[1].quantity", "items[1].unit_price", "items[1].colour", "items[2]"];
        assert_eq!(named(items(given)), fields);
    }

    #[test]
    fn a_price_that_is_no_whole_number_is_refused_with_how_to_write_it() {
        for price in [json!(11.77), json!(1177.0), json!("1177"), json!(-1), json!(1e300), json!(null)] {
            let given = json!({ "items": [{ "sku": "a", "quantity": 1, "unit_price": price }] });
            let wrong = wrong(items(given));
            assert_eq!(wrong[0].0, "items[0].unit_price", "{price}");
            assert!(wrong[0].1.contains("1177 for 11.77"), "{wrong:?}");
        }
    }

    #[test]
    fn no_items_and_too_many_are_told_apart() {
        let many = vec![json!({ "sku": "a", "quantity": 1, "unit_price": 1 }); 10_000];
        for (given, said) in [(json!([]), "is empty"), (json!(many), "has 10000 items"), (json!({}), "is an object")] {
            let wrong = wrong(items(json!({ "items": given })));
            assert_eq!(wrong[0].0, "items");
            assert!(wrong[0].1.contains(said), "{wrong:?}");
        }
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_with_an_example() {
        for body in [json!([]), json!("text"), json!(7), json!(null)] {
            let problem = new_cart(body).unwrap_err();
            assert!(problem.detail.contains("customer"), "{}", problem.detail);
        }
        assert!(nothing(json!({})).is_ok());
        assert_eq!(named(nothing(json!({ "coupon": 1 }))), ["coupon"]);
    }
}
