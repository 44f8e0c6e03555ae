//! The demo's result: a table for people, JSON for programs.

use std::collections::BTreeMap;

use orders::Cents;
use serde::Serialize;

use crate::output::{Align, Output, Paint, Table, number};

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Whether everything is as it has to be.
    pub exact: bool,
    /// What is not.
    pub differences: Vec<String>,
    /// Orders placed.
    pub orders: u64,
    /// Units, by the ledger.
    pub units: i64,
    /// Their price in all, by the ledger.
    pub total: Cents,
    /// The same, by the purchase history.
    pub expected: Expected,
    /// Orders that had to be sent again because an answer was lost, and were recognised.
    pub orders_repeated: u64,
    /// Events committed with their orders.
    pub events_committed: u64,
    /// Publications that reached each consumer, repetitions included.
    pub events_arrived: BTreeMap<&'static str, u64>,
    /// Events that each consumer applied.
    pub events_applied: BTreeMap<&'static str, u64>,
    /// Duplicates that the inboxes suppressed.
    pub duplicates_suppressed: u64,
    /// The same, by consumer.
    pub duplicates_by_consumer: BTreeMap<&'static str, u64>,
    /// First arrivals that overtook their predecessor.
    pub order_inversions: u64,
    /// Processes killed with SIGKILL.
    pub kills: u64,
    /// The same, by process.
    pub kills_by_process: BTreeMap<&'static str, u64>,
    /// Dead letters that were redriven once the rule was mended.
    pub dead_letters_redriven: u64,
    /// How long it took.
    pub seconds: f64,
    /// What decided what went wrong when.
    pub seed: u64,
}

/// What the purchase history says.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Expected {
    pub orders: u64,
    pub units: i64,
    pub total: Cents,
    pub customers: usize,
}

impl Report {
    /// Prints it on standard output.
    pub(crate) fn print(&self, out: Output) {
        if out.json {
            out.value(self);
        } else {
            out.line(self.table(out.paint));
        }
    }

    fn table(&self, paint: Paint) -> String {
        let plain = |count: u64| number(count);
        let mut table = Table::new([("", Align::Left), ("", Align::Right), ("", Align::Left)]);
        let mut row = |what: &str, value: String, note: String| table.row([what.into(), value.into(), note.into()]);
        let by = |counts: &BTreeMap<&'static str, u64>| {
            let each: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {}", number(*count))).collect();
            each.join(", ")
        };
        row(
            "orders placed",
            plain(self.orders),
            format!("{} sent again after a lost answer", plain(self.orders_repeated)),
        );
        row("events committed", plain(self.events_committed), "each in its order's transaction".to_owned());
        row("publications", plain(self.events_arrived.values().sum()), by(&self.events_arrived));
        row("events applied", plain(self.events_applied.values().sum()), by(&self.events_applied));
        row("duplicates suppressed", plain(self.duplicates_suppressed), by(&self.duplicates_by_consumer));
        row("order inversions", plain(self.order_inversions), "of first arrivals, per customer".to_owned());
        row(
            "dead letters redriven",
            plain(self.dead_letters_redriven),
            "after the ledger's rule was mended".to_owned(),
        );
        row("kill -9", plain(self.kills), by(&self.kills_by_process));
        row("units", number(self.units.unsigned_abs()), against(paint, &self.units, &self.expected.units));
        row("total", self.total.to_string(), against(paint, &self.total, &self.expected.total));
        row(
            "customers compared",
            plain(self.expected.customers as u64),
            "orders, units, cents and sequence".to_owned(),
        );
        row("seconds", format!("{:.1}", self.seconds), format!("seed {}", self.seed));
        let verdict = "Exact: every event applied once by each consumer, in order.";
        with_verdict(paint, &table, self.exact.then_some(verdict), &self.differences)
    }
}

/// The table, and below it what was shown, or what differs.
pub(crate) fn with_verdict(paint: Paint, table: &Table, exact: Option<&str>, differences: &[String]) -> String {
    let mut lines = vec![table.render(paint).trim_start().to_owned(), String::new()];
    if let Some(shown) = exact {
        lines.push(paint.good(shown));
    } else {
        lines.push(paint.bad("Not exact:"));
        lines.extend(differences.iter().map(|difference| format!("  {difference}")));
    }
    lines.join("\n")
}

/// How what was found stands against the purchase history.
pub(crate) fn against<T: PartialEq + std::fmt::Display>(paint: Paint, found: &T, expected: &T) -> String {
    if found == expected {
        paint.good("as in the purchase history")
    } else {
        paint.bad(&format!("the purchase history says {expected}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            exact: true,
            differences: Vec::new(),
            orders: 69_659,
            units: 167_881,
            total: Cents(250_031_563),
            expected: Expected { orders: 69_659, units: 167_881, total: Cents(250_031_563), customers: 23_570 },
            orders_repeated: 12,
            events_committed: 69_659,
            events_arrived: BTreeMap::from([("ledger", 69_700), ("notifications", 69_690)]),
            events_applied: BTreeMap::from([("ledger", 69_659), ("notifications", 69_659)]),
            duplicates_suppressed: 72,
            duplicates_by_consumer: BTreeMap::from([("ledger", 41), ("notifications", 31)]),
            order_inversions: 0,
            kills: 9,
            kills_by_process: BTreeMap::from([("orders", 4), ("relay", 5)]),
            dead_letters_redriven: 5,
            seconds: 41.26,
            seed: 7,
        }
    }

    #[test]
    fn programs_get_the_total_as_text_with_two_decimals() {
        let value = serde_json::to_value(report()).unwrap();
        assert_eq!(value["total"], "2500315.63");
        assert_eq!(value["events_applied"]["ledger"], 69_659);
        assert_eq!(value["order_inversions"], 0);
    }

    #[test]
    fn people_see_what_differs() {
        let mut report = report();
        assert!(report.table(Paint::plain()).ends_with("Exact: every event applied once by each consumer, in order."));
        report.exact = false;
        report.total = Cents(1);
        report.differences = vec!["ledger, customer 00003: one order too few".to_owned()];
        let table = report.table(Paint::plain());
        assert!(table.contains("the purchase history says 2500315.63"), "{table}");
        assert!(table.ends_with("\n  ledger, customer 00003: one order too few"), "{table}");
    }
}
