//! Compares what the processes left behind with the purchase history: customer by customer, order by order.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use orders::Cents;
use rusqlite::{Connection, OpenFlags, Row};

use super::{
    chaos::Role,
    observer::Progress,
    purchases::{Account, Purchase, Truth},
    stage::database,
};

/// Differences that are named; more are counted.
const NAMED: usize = 20;

/// What is not as it has to be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    named: Vec<String>,
    more: usize,
}

impl Differences {
    pub(crate) fn add(&mut self, difference: impl FnOnce() -> String) {
        if self.named.len() < NAMED { self.named.push(difference()) } else { self.more += 1 }
    }

    /// Notes that `what` is `found` and not `expected`, if that is so.
    pub(crate) fn expect<T: PartialEq + std::fmt::Display + Copy>(&mut self, what: &str, found: T, expected: T) {
        if found != expected {
            self.add(|| format!("{what}: {found}, not {expected}"));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// The differences as sentences.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let more = (self.more > 0).then(|| format!("and {} more", self.more));
        self.named.iter().cloned().chain(more).collect()
    }
}

/// What the databases hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Findings {
    /// Customers' accounts in the database of the orders service (without fingerprints).
    pub orders: BTreeMap<String, Account>,
    /// Customers' accounts in the ledger.
    pub ledger: BTreeMap<String, Account>,
    /// Notifications in the order in which they were written: order and customer.
    pub notifications: Vec<(String, String)>,
}

impl Findings {
    /// Reads the databases in `folder`; without the orders, where those are elsewhere.
    ///
    /// # Errors
    /// The database that cannot be read, and why.
    pub(crate) fn read(folder: &Path, elsewhere: Option<BTreeMap<String, Account>>) -> Result<Self, String> {
        const ORDERS: &str = "SELECT customer, count(*), sum(quantity), sum(cents), 0 FROM orders GROUP BY customer";
        const LEDGER: &str = "SELECT customer, orders, units, cents, fingerprint FROM accounts";
        const NOTIFICATIONS: &str = "SELECT order_id, customer FROM notifications ORDER BY id";
        let account = |row: &Row<'_>| {
            let account =
                Account { orders: row.get(1)?, units: row.get(2)?, cents: row.get(3)?, fingerprint: row.get(4)? };
            Ok((row.get(0)?, account))
        };
        Ok(Self {
            orders: match elsewhere {
                Some(orders) => orders,
                None => rows(folder, Role::Orders, ORDERS, account)?.into_iter().collect(),
            },
            ledger: rows(folder, Role::Ledger, LEDGER, account)?.into_iter().collect(),
            notifications: rows(folder, Role::Notifications, NOTIFICATIONS, |row| Ok((row.get(0)?, row.get(1)?)))?,
        })
    }
}

fn rows<T>(
    folder: &Path,
    role: Role,
    query: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, String> {
    let path = database(folder, role);
    Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|connection| connection.prepare(query)?.query_map([], read)?.collect())
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Compares what was found with the purchases that were placed.
/// `early` is how many events the inboxes had to park because they came before their predecessors.
pub(crate) fn compare(purchases: &[Purchase], found: &Findings, progress: &Progress, early: u64) -> Differences {
    let truth = Truth::of(purchases);
    let mut differences = Differences::default();
    differences.expect("events committed", progress.committed, truth.orders);
    compare_orders(&mut differences, &truth, &found.orders);
    compare_ledger(&mut differences, &truth, &found.ledger);
    compare_notifications(&mut differences, purchases, &found.notifications);
    differences.expect("events that an inbox parked as early", early, 0);
    for role in Role::CONSUMERS {
        let arrived = &progress.of(role).arrived;
        differences.expect(&format!("events that reached {role}"), arrived.first, truth.orders);
        if let Some(example) = &arrived.example {
            differences.add(|| format!("{} events reached {role} too early: {example}", arrived.inversions));
        }
    }
    differences
}

fn compare_orders(differences: &mut Differences, truth: &Truth, found: &BTreeMap<String, Account>) {
    let without = |account: &Account| Account { fingerprint: 0, ..*account };
    let expected: BTreeMap<_, _> =
        truth.customers.iter().map(|(customer, account)| (customer.clone(), without(account))).collect();
    compare_accounts(differences, "orders", &expected, found);
}

fn compare_ledger(differences: &mut Differences, truth: &Truth, found: &BTreeMap<String, Account>) {
    compare_accounts(differences, "ledger", &truth.customers, found);
}

fn compare_accounts(
    differences: &mut Differences,
    place: &str,
    expected: &BTreeMap<String, Account>,
    found: &BTreeMap<String, Account>,
) {
    let customers: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let none = Account::default();
    for customer in customers {
        let (found, expected) = (found.get(customer).unwrap_or(&none), expected.get(customer).unwrap_or(&none));
        if found == expected {
            continue;
        }
        differences.add(|| {
            let shown = |account: &Account| {
                format!("{} orders, {} units, {}", account.orders, account.units, Cents(account.cents))
            };
            let order = if shown(found) == shown(expected) { ", applied in another order" } else { "" };
            format!("{place}, customer {customer}: {}, not {}{order}", shown(found), shown(expected))
        });
    }
}

fn compare_notifications(differences: &mut Differences, purchases: &[Purchase], found: &[(String, String)]) {
    differences.expect("notifications", found.len(), purchases.len());
    let mut waiting = BTreeMap::<&str, std::collections::VecDeque<String>>::new();
    for purchase in purchases {
        waiting.entry(&purchase.customer).or_default().push_back(purchase.order_id());
    }
    for (order, customer) in found {
        let orders = waiting.entry(customer).or_default();
        match orders.front() {
            Some(next) if next == order => {
                orders.pop_front();
            }
            Some(next) => differences.add(|| format!("notifications, customer {customer}: {order} before {next}")),
            None => differences.add(|| format!("notifications, customer {customer}: {order} is one too many")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{arrivals::Tally, observer::ConsumerProgress, purchases::history};

    /// Everything as it has to be, for the first purchases of the history.
    fn exact() -> (Vec<Purchase>, Findings, Progress) {
        let purchases = history(Some(50)).unwrap();
        let truth = Truth::of(&purchases);
        let orders = truth
            .customers
            .iter()
            .map(|(customer, account)| (customer.clone(), Account { fingerprint: 0, ..*account }))
            .collect();
        let notifications = purchases.iter().map(|purchase| (purchase.order_id(), purchase.customer.clone())).collect();
        let found = Findings { orders, ledger: truth.customers, notifications };
        let consumer = ConsumerProgress { arrived: Tally { arrived: 60, first: 50, ..Tally::default() }, applied: 50 };
        let progress = Progress { committed: 50, ledger: consumer.clone(), notifications: consumer };
        (purchases, found, progress)
    }

    #[test]
    fn what_is_exact_has_no_differences() {
        let (purchases, found, progress) = exact();
        assert_eq!(compare(&purchases, &found, &progress, 0), Differences::default());
    }

    #[test]
    fn a_cent_that_is_missing_is_found_and_its_customer_named() {
        let (purchases, mut found, progress) = exact();
        found.ledger.get_mut("00003").unwrap().cents -= 1;
        let sentences = compare(&purchases, &found, &progress, 0).sentences();
        assert_eq!(sentences.len(), 1);
        assert!(sentences[0].starts_with("ledger, customer 00003: "), "{sentences:?}");
    }

    #[test]
    fn orders_applied_in_another_order_are_found_though_all_totals_agree() {
        let (purchases, mut found, progress) = exact();
        found.ledger.get_mut("00003").unwrap().fingerprint += 1;
        let sentences = compare(&purchases, &found, &progress, 0).sentences();
        assert!(sentences[0].contains("applied in another order"), "{sentences:?}");
    }

    #[test]
    fn a_notification_that_is_doubled_missing_or_early_is_found() {
        let (purchases, exact, progress) = exact();
        let found = |change: fn(&mut Vec<(String, String)>)| {
            let mut found = exact.clone();
            change(&mut found.notifications);
            compare(&purchases, &found, &progress, 0)
        };
        assert!(!found(|sent| sent.push(sent[0].clone())).is_empty());
        assert!(!found(|sent| drop(sent.remove(7))).is_empty());
        let early = found(|sent| sent.swap(1, 2)).sentences();
        assert!(early[0].contains("customer 00002: cdnow-00003 before cdnow-00002"), "{early:?}");
    }

    #[test]
    fn an_account_that_nobody_placed_an_order_for_is_found() {
        let (purchases, mut found, progress) = exact();
        found.orders.insert("99999".into(), Account { orders: 1, ..Account::default() });
        assert!(compare(&purchases, &found, &progress, 0).sentences()[0].contains("orders, customer 99999"));
    }

    #[test]
    fn an_inversion_or_an_event_that_never_came_is_found() {
        let (purchases, found, mut progress) = exact();
        progress.ledger.arrived.inversions = 1;
        progress.ledger.arrived.example = Some("customer/00002 1.2.0".into());
        progress.notifications.arrived.first = 49;
        assert_eq!(compare(&purchases, &found, &progress, 0).sentences().len(), 2);
    }
}
