//! Compares what came out with the purchase history: customer by customer, event by event.

use carts::totals::{CONSUMER, Totals};
use outbox::inbox::InboxOperator;
use outbox_aws::dynamodb::{DynamoInbox, InboxOptions};
use reqwest::StatusCode;

use super::{
    cloud::Cloud,
    plan::Role,
    purchases::{CURRENCY, Truth},
    shopping::CHANGES,
    stage::Stage,
};
use crate::demo::{arrivals::Tally, check::Differences};

/// The consumer's inbox, seen from outside.
pub(crate) type Inbox = InboxOperator<DynamoInbox>;

/// What the consumer's inbox counted, with each transaction, over all its lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// All of them, those without an effect as well.
    pub events: u64,
    /// Events that it had applied before.
    pub duplicates: u64,
    /// Events that came before their predecessors and waited for them.
    pub early: u64,
    /// Events that it still keeps.
    pub kept: u64,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// Carts that there are.
    pub carts: u64,
    /// Entries that there are.
    pub entries: u64,
    /// Customers that the consumer knows.
    pub known: u64,
    /// What the consumer answers of each customer of the history.
    pub customers: std::collections::BTreeMap<String, Totals>,
    /// What came over the bus.
    pub published: Tally,
    /// What the consumer applied.
    pub applied: Applied,
}

/// Opens the consumer's inbox.
///
/// # Errors
/// As the store gave it.
pub(crate) fn inbox(cloud: &Cloud, stage: &Stage) -> Result<Inbox, String> {
    let table = format!("{}-inboxes", stage.prefix());
    let opened = DynamoInbox::open(&cloud.dynamodb, &table, CONSUMER, InboxOptions::default());
    opened.map(InboxOperator::new).map_err(|error| error.to_string())
}

/// What the consumer has applied.
///
/// # Errors
/// As the store gave it.
pub(crate) async fn applied(inbox: &Inbox) -> Result<Applied, String> {
    let totals = inbox.totals().await.map_err(|error| error.to_string())?;
    let (counts, kept) = (totals.counts, totals.parked + totals.retrying + totals.dead);
    Ok(Applied { events: counts.applied, duplicates: counts.duplicates, early: counts.early, kept })
}

impl Findings {
    /// Asks the tables and, customer by customer, the consumer.
    ///
    /// # Errors
    /// What cannot be found out, and why.
    pub(crate) async fn gather(
        cloud: &Cloud,
        stage: &Stage,
        client: &reqwest::Client,
        truth: &Truth,
        (published, applied): (Tally, Applied),
    ) -> Result<Self, String> {
        let mut found = Self { published, applied, ..Self::default() };
        found.carts = cloud.count("carts").await?;
        found.entries = cloud.count("entries").await?;
        found.known = cloud.count("totals").await?;
        for customer in truth.customers.keys() {
            let url = stage.url(Role::Totals, &format!("/totals/{customer}/{CURRENCY}"));
            let failed = |error: reqwest::Error| format!("the totals of customer {customer} are not answered: {error}");
            let answer = client.get(url).send().await.map_err(failed)?;
            if answer.status() != StatusCode::NOT_FOUND {
                let totals = answer.error_for_status().map_err(failed)?.json().await.map_err(failed)?;
                found.customers.insert(customer.clone(), totals);
            }
        }
        Ok(found)
    }
}

/// Compares what was found with what the history says.
pub(crate) fn compare(truth: &Truth, found: &Findings) -> Differences {
    let mut differences = Differences::default();
    let (carts, events) = (truth.all.created, truth.all.created * CHANGES);
    differences.expect("carts", found.carts, carts);
    differences.expect("entries", found.entries, events);
    differences.expect("events that came over the bus", found.published.first, events);
    if let Some(example) = &found.published.example {
        differences.add(|| format!("{} events came over the bus too early: {example}", found.published.inversions));
    }
    differences.expect("events that the consumer applied", found.applied.events, events);
    differences.expect("events that the consumer keeps", found.applied.kept, 0);
    differences.expect("customers that the consumer knows", found.known, truth.customers.len() as u64);
    let none = Totals::default();
    for (customer, expected) in &truth.customers {
        let found = found.customers.get(customer).unwrap_or(&none);
        if found != expected {
            differences.add(|| format!("customer {customer}: {}, not {}", shown(found), shown(expected)));
        }
    }
    differences
}

fn shown(totals: &Totals) -> String {
    let Totals { created, checked_out, units, total } = totals;
    format!("{created} carts, {checked_out} checked out, {units} units, {total} cents")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::carts::purchases::of_customers;

    fn exact() -> (Truth, Findings) {
        let truth = Truth::of(&of_customers(20).unwrap());
        let (carts, events) = (truth.all.created, truth.all.created * CHANGES);
        let found = Findings {
            carts,
            entries: events,
            known: 20,
            customers: truth.customers.clone(),
            published: Tally { arrived: events + 9, first: events, ..Tally::default() },
            applied: Applied { events, duplicates: 9, early: 4, kept: 0 },
        };
        (truth, found)
    }

    #[test]
    fn what_is_exact_has_no_differences() {
        let (truth, found) = exact();
        assert_eq!(compare(&truth, &found), Differences::default());
    }

    type Break = fn(&mut Findings);

    #[test]
    fn every_kind_of_difference_is_found_and_named() {
        let found = |change: fn(&mut Findings)| {
            let (truth, mut found) = exact();
            change(&mut found);
            compare(&truth, &found).sentences()
        };
        let cases: [(Break, &str); 7] = [
            (|found| found.carts += 1, "carts: "),
            (|found| found.entries -= 1, "entries: "),
            (|found| found.published.first -= 1, "events that came over the bus: "),
            (|found| found.published.example = Some("x".to_owned()), "0 events came over the bus too early: x"),
            (|found| found.applied.events += 1, "events that the consumer applied: "),
            (|found| found.applied.kept = 1, "events that the consumer keeps: "),
            (|found| found.customers.get_mut("00003").unwrap().total -= 1, "customer 00003: "),
        ];
        for (change, start) in cases {
            let sentences = found(change);
            assert!(sentences.len() == 1 && sentences[0].starts_with(start), "{sentences:?}");
        }
        let gone = found(|found| found.customers.retain(|customer, _| customer != "00003"));
        assert!(gone[0].starts_with("customer 00003: 0 carts"), "{gone:?}");
    }
}
