//! The result: a table for people, JSON for programs.

use std::collections::BTreeMap;

use carts::totals::Totals;
use orders::Cents;
use serde::Serialize;

use super::{check::Findings, purchases::Truth, shopping::Bought};
use crate::{
    demo::{
        check::Differences,
        report::{against, with_verdict},
    },
    output::{Align, Output, Paint, Table, number},
};

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Whether everything is as it has to be.
    pub exact: bool,
    /// What is not.
    pub differences: Vec<String>,
    /// Carts that were checked out.
    pub carts: u64,
    /// Requests that had to be sent again because an answer was lost, and were recognised.
    pub requests_repeated: u64,
    /// Entries, each committed with its cart.
    pub events_committed: u64,
    /// Events that came over the bus, repetitions included.
    pub events_published: u64,
    /// Of these, repetitions.
    pub events_repeated: u64,
    /// First publications that overtook their predecessor.
    pub order_inversions: u64,
    /// Events that the consumer applied.
    pub events_applied: u64,
    /// Duplicates that its inbox suppressed.
    pub duplicates_suppressed: u64,
    /// Events that waited in its inbox for their predecessors: a queue keeps no order.
    pub events_early: u64,
    /// Processes killed with SIGKILL, by process.
    pub kills_by_process: BTreeMap<&'static str, u64>,
    /// All of them.
    pub kills: u64,
    /// All customers together, as the consumer says.
    pub totals: Totals,
    /// The same, by the purchase history.
    pub expected: Totals,
    /// Customers that were compared.
    pub customers: usize,
    /// How long it took.
    pub seconds: f64,
    /// What decided what went wrong when.
    pub seed: u64,
}

impl Report {
    pub(crate) fn new(
        truth: &Truth,
        found: &Findings,
        bought: Bought,
        differences: &Differences,
        kills: BTreeMap<&'static str, u64>,
    ) -> Self {
        let mut totals = Totals::default();
        for own in found.customers.values() {
            totals.created += own.created;
            totals.checked_out += own.checked_out;
            totals.units += own.units;
            totals.total += own.total;
        }
        Self {
            exact: differences.is_empty(),
            differences: differences.sentences(),
            carts: bought.carts,
            requests_repeated: bought.repeated,
            events_committed: found.entries,
            events_published: found.published.arrived,
            events_repeated: found.published.arrived - found.published.first,
            order_inversions: found.published.inversions,
            events_applied: found.applied.events,
            duplicates_suppressed: found.applied.duplicates,
            events_early: found.applied.early,
            kills: kills.values().sum(),
            kills_by_process: kills,
            totals,
            expected: truth.all.clone(),
            customers: truth.customers.len(),
            seconds: 0.0,
            seed: 0,
        }
    }

    /// Prints it on standard output.
    pub(crate) fn print(&self, out: Output) {
        if out.json {
            out.value(self);
        } else {
            out.line(self.table(out.paint));
        }
    }

    fn table(&self, paint: Paint) -> String {
        let mut table = Table::new([("", Align::Left), ("", Align::Right), ("", Align::Left)]);
        let mut row = |what: &str, value: String, note: String| table.row([what.into(), value.into(), note.into()]);
        let killed: Vec<_> =
            self.kills_by_process.iter().map(|(name, count)| format!("{name} {}", number(*count))).collect();
        let (found, expected) = (&self.totals, &self.expected);
        row("carts checked out", number(self.carts), "created, added to, checked out".to_owned());
        row("requests repeated", number(self.requests_repeated), "after a lost answer, and done once".to_owned());
        row("events committed", number(self.events_committed), "each in its cart's transaction".to_owned());
        row("publications", number(self.events_published), format!("{} repeated", number(self.events_repeated)));
        row("order inversions", number(self.order_inversions), "of first publications, per cart".to_owned());
        row("events applied", number(self.events_applied), "each in one transaction with its effect".to_owned());
        row("duplicates suppressed", number(self.duplicates_suppressed), "by the inbox".to_owned());
        row("came early", number(self.events_early), "and waited in the inbox: the queue keeps no order".to_owned());
        row("kill -9", number(self.kills), killed.join(", "));
        row("units", number(found.units), against(paint, &number(found.units), &number(expected.units)));
        let dollars = |totals: &Totals| Cents(i64::try_from(totals.total).unwrap_or(i64::MAX)).to_string();
        row("total", dollars(found), against(paint, &dollars(found), &dollars(expected)));
        row("customers compared", number(self.customers as u64), "carts, units and cents".to_owned());
        row("seconds", format!("{:.1}", self.seconds), format!("seed {}", self.seed));
        let verdict = "Exact: every event once, in the order of its cart, totals to the cent.";
        with_verdict(paint, &table, self.exact.then_some(verdict), &self.differences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{arrivals::Tally, carts::purchases::of_customers};

    #[test]
    fn people_see_what_differs_and_amounts_with_two_decimals() {
        let truth = Truth::of(&of_customers(3).unwrap());
        let mut found = Findings { customers: truth.customers.clone(), ..Findings::default() };
        found.published = Tally { arrived: 7, first: 5, ..Tally::default() };
        let report = Report::new(&truth, &found, Bought::default(), &Differences::default(), BTreeMap::new());
        let table = report.table(Paint::plain());
        assert!(table.contains("2 repeated") && table.ends_with("totals to the cent."), "{table}");
        assert!(table.contains(&Cents(truth.all.total.cast_signed()).to_string()), "{table}");
        found.customers.clear();
        let differences = super::super::check::compare(&truth, &found);
        let report = Report::new(&truth, &found, Bought::default(), &differences, BTreeMap::new());
        let table = report.table(Paint::plain());
        assert!(!report.exact && table.contains("the purchase history says"), "{table}");
        assert!(table.contains("  carts: 0, not "), "{table}");
    }
}
