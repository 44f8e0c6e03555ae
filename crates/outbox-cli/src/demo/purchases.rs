//! The CDNOW purchase history, and what has to come out of it.

use std::collections::BTreeMap;

use orders::Cents;
use serde::Deserialize;

/// The history, as the product carries it: see `data/README.md` for its origin.
const HISTORY: &[u8] = include_bytes!("../../data/cdnow.csv");

/// One purchase of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Purchase {
    /// Its line in the file, from 1: what its order id is made of.
    pub number: u32,
    pub customer: String,
    pub date: String,
    pub quantity: i64,
    pub amount: Cents,
}

impl Purchase {
    /// The id of the order that this purchase is placed as, however often.
    pub(crate) fn order_id(&self) -> String {
        format!("cdnow-{:05}", self.number)
    }
}

#[derive(Deserialize)]
struct Line {
    customer_id: String,
    date: String,
    quantity: i64,
    amount: Cents,
}

/// Reads the first `limit` purchases of the history, or all.
///
/// # Errors
/// The line that is not a purchase, and why.
pub(crate) fn history(limit: Option<usize>) -> Result<Vec<Purchase>, String> {
    read(HISTORY, limit.unwrap_or(usize::MAX))
}

fn read(bytes: &[u8], limit: usize) -> Result<Vec<Purchase>, String> {
    let mut reader = csv::Reader::from_reader(bytes);
    let mut purchases = Vec::new();
    for (line, number) in reader.deserialize::<Line>().zip(1..).take(limit) {
        let Line { customer_id: customer, date, quantity, amount } =
            line.map_err(|error| format!("the purchase history: {error}"))?;
        purchases.push(Purchase { number, customer, date, quantity, amount });
    }
    Ok(purchases)
}

/// What one customer's orders come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub orders: i64,
    pub units: i64,
    pub cents: i64,
    /// A number that comes out right only if the same orders were added once each and in this order.
    pub fingerprint: i64,
}

impl Account {
    /// Adds one order.
    pub(crate) fn add(&mut self, order_id: &str, quantity: i64, amount: Cents) {
        self.orders += 1;
        self.units += quantity;
        self.cents += amount.0;
        self.fingerprint = fingerprint(self.fingerprint, order_id);
    }
}

/// FNV-1a, continued from `before`: adding the same orders in another order gives another number.
fn fingerprint(before: i64, order_id: &str) -> i64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    order_id.bytes().fold(before.cast_unsigned() ^ OFFSET, step).cast_signed()
}

/// What the ledger has to show in the end, computed from the file alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Truth {
    pub customers: BTreeMap<String, Account>,
    pub orders: u64,
    pub units: i64,
    pub total: Cents,
}

impl Truth {
    /// The truth about `purchases`.
    pub(crate) fn of(purchases: &[Purchase]) -> Self {
        let mut truth = Self::default();
        for purchase in purchases {
            let account = truth.customers.entry(purchase.customer.clone()).or_default();
            account.add(&purchase.order_id(), purchase.quantity, purchase.amount);
            truth.orders += 1;
            truth.units += purchase.quantity;
            truth.total.0 += purchase.amount.0;
        }
        truth
    }
}

/// A quantity that about `wanted` of the purchases exceed, and at least one does: what the ledger's rule refuses.
pub(crate) fn refused_above(purchases: &[Purchase], wanted: usize) -> Option<i64> {
    let mut quantities: Vec<_> = purchases.iter().map(|purchase| purchase.quantity).collect();
    quantities.sort_unstable_by(|a, b| b.cmp(a));
    let largest = *quantities.first()?;
    let limit = quantities.get(wanted).copied().unwrap_or(0);
    Some(limit.min(largest - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_history_comes_to_the_published_totals() {
        let truth = Truth::of(&history(None).unwrap());
        assert_eq!((truth.orders, truth.units), (69_659, 167_881));
        assert_eq!(truth.total.to_string(), "2500315.63");
        assert_eq!(truth.customers.len(), 23_570);
    }

    #[test]
    fn the_first_purchases_are_taken_where_fewer_are_asked_for() {
        let purchases = history(Some(3)).unwrap();
        assert_eq!(purchases.len(), 3);
        assert_eq!((purchases[2].order_id().as_str(), purchases[2].amount), ("cdnow-00003", Cents(7700)));
    }

    #[test]
    fn a_customers_purchases_are_in_the_order_of_their_dates() {
        let purchases = history(None).unwrap();
        let in_order = |pair: &[Purchase]| pair[0].customer != pair[1].customer || pair[0].date <= pair[1].date;
        assert!(purchases.windows(2).all(in_order));
    }

    #[test]
    fn a_line_that_is_no_purchase_is_named() {
        let error =
            read(b"customer_id,date,quantity,amount\n1,1997-01-01,1,1.00\n2,1997-01-01,x,1.00\n", 9).unwrap_err();
        assert!(error.contains("line: 3"), "{error}");
    }

    #[test]
    fn the_fingerprint_depends_on_order_and_number() {
        let account = |ids: &[&str]| {
            let mut account = Account::default();
            for id in ids {
                account.add(id, 1, Cents(1));
            }
            account.fingerprint
        };
        assert_ne!(account(&["a", "b"]), account(&["b", "a"]));
        assert_ne!(account(&["a", "b"]), account(&["a", "b", "b"]));
        assert_eq!(account(&["a", "b"]), account(&["a", "b"]));
    }

    #[test]
    fn about_as_many_orders_as_wanted_are_refused_and_never_none() {
        let all = history(None).unwrap();
        let limit = refused_above(&all, 5).unwrap();
        let refused = all.iter().filter(|purchase| purchase.quantity > limit).count();
        assert!((1..=5).contains(&refused), "{refused} above {limit}");
        let alike = vec![all[0].clone(); 3];
        assert_eq!(refused_above(&alike, 1), Some(all[0].quantity - 1));
        assert_eq!(refused_above(&[], 5), None);
    }
}
