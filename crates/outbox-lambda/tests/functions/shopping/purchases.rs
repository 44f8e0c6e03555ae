//! The purchase history of the demo.

use std::collections::BTreeSet;

use carts::Item;

const HISTORY: &str = include_str!("../../../../outbox-cli/data/cdnow.csv");

/// One purchase.
#[derive(Clone, Debug)]
pub(super) struct Purchase {
    pub(super) customer: String,
    pub(super) units: u64,
    pub(super) cents: u64,
}

impl Purchase {
    /// The history knows units and amount alone: the amount's rest is a cent more for some of the units.
    pub(super) fn items(&self) -> Vec<Item> {
        let (price, dearer) = (self.cents / self.units, self.cents % self.units);
        let item = |sku: &str, quantity, unit_price| Item { sku: sku.to_owned(), quantity, unit_price };
        let items = [item("cd", self.units - dearer, price), item("cd-extra", dearer, price + 1)];
        items.into_iter().filter(|item| item.quantity > 0).collect()
    }
}

/// All purchases of the first customers.
pub(super) fn history(customers: usize) -> Vec<Purchase> {
    let mut seen = BTreeSet::new();
    let lines = HISTORY.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        let [customer, _date, units, amount] = fields[..] else { panic!("no purchase: {line}") };
        let (dollars, cents) = amount.split_once('.').unwrap();
        let cents = dollars.parse::<u64>().unwrap() * 100 + cents.parse::<u64>().unwrap();
        Purchase { customer: customer.to_owned(), units: units.parse().unwrap(), cents }
    });
    lines
        .take_while(|purchase| {
            seen.contains(&purchase.customer) || (seen.len() < customers && seen.insert(purchase.customer.clone()))
        })
        .collect()
}
