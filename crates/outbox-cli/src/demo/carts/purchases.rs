//! Purchases as carts, and what has to come out of them.

use std::collections::{BTreeMap, HashSet};

use carts::{Item, totals::Totals};

use crate::demo::purchases::{Purchase, history};

/// The currency of the history.
pub(crate) const CURRENCY: &str = "USD";

/// All purchases of the first `customers` customers of the history.
///
/// # Errors
/// As the history gave it.
pub(crate) fn of_customers(customers: usize) -> Result<Vec<Purchase>, String> {
    let mut seen = HashSet::new();
    let mut purchases = history(None)?;
    purchases.retain(|purchase| {
        seen.contains(&purchase.customer) || (seen.len() < customers && seen.insert(purchase.customer.clone()))
    });
    Ok(purchases)
}

/// A purchase as items of a cart. The history knows its units and its amount alone: so many units cost the amount's share,
/// rounded down, and the rest of them a cent more, which comes out to the cent.
pub(crate) fn items(purchase: &Purchase) -> Vec<Item> {
    let (units, cents) = (purchase.quantity.unsigned_abs().max(1), purchase.amount.0.unsigned_abs());
    let (price, dearer) = (cents / units, cents % units);
    let item = |sku: &str, quantity, unit_price| Item { sku: sku.to_owned(), quantity, unit_price };
    let items = [item("cd", units - dearer, price), item("cd-extra", dearer, price + 1)];
    items.into_iter().filter(|item| item.quantity > 0).collect()
}

/// What the totals have to be, computed from the file alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    pub customers: BTreeMap<String, Totals>,
    pub all: Totals,
}

impl Truth {
    /// The truth about `purchases`.
    pub(crate) fn of(purchases: &[Purchase]) -> Self {
        let mut truth = Self::default();
        for purchase in purchases {
            let own = truth.customers.entry(purchase.customer.clone()).or_default();
            for totals in [own, &mut truth.all] {
                totals.created += 1;
                totals.checked_out += 1;
                totals.units += purchase.quantity.unsigned_abs();
                totals.total += purchase.amount.0.unsigned_abs();
            }
        }
        truth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purchase_comes_out_to_the_unit_and_to_the_cent_as_items() {
        for purchase in history(None).unwrap() {
            let items = items(&purchase);
            assert!((1..=2).contains(&items.len()), "{purchase:?}");
            let units: u64 = items.iter().map(|item| item.quantity).sum();
            let cents: u64 = items.iter().map(|item| item.quantity * item.unit_price).sum();
            assert_eq!((units, cents), (purchase.quantity.unsigned_abs(), purchase.amount.0.unsigned_abs()));
        }
    }

    #[test]
    fn all_purchases_of_so_many_customers_are_taken() {
        let purchases = of_customers(2_000).unwrap();
        let truth = Truth::of(&purchases);
        assert_eq!(truth.customers.len(), 2_000);
        let all = history(None).unwrap();
        let of_last = |purchases: &[Purchase]| {
            let (last, _) = truth.customers.iter().next_back().unwrap();
            purchases.iter().filter(|purchase| purchase.customer == *last).count()
        };
        assert_eq!(of_last(&purchases), of_last(&all));
    }
}
