//! The live view: bars on a terminal, a line every few seconds elsewhere. On standard error, so that standard output
//! holds the report alone.

use std::{io::IsTerminal, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{observer::Progress, processes::Item};

/// Between two plain lines.
const LINE: Duration = Duration::from_secs(5);
/// What rates are averaged over.
const RATE: Duration = Duration::from_secs(1);

/// How far the demo is, as it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shown([u64; 5]);

const LABELS: [&str; 5] = ["placed", "committed", "published", "ledger", "notifications"];

impl Shown {
    fn of(placed: u64, progress: &Progress) -> Self {
        let applied = [progress.ledger.applied, progress.notifications.applied];
        Self([placed, progress.committed, progress.published(), applied[0], applied[1]])
    }

    /// Events that are committed and not yet applied everywhere.
    fn backlog(self) -> u64 {
        let [_, committed, _, ledger, notifications] = self.0;
        committed.saturating_sub(ledger.min(notifications))
    }
}

/// The live view.
pub(crate) struct View {
    orders: u64,
    clock: std::sync::Arc<dyn outbox::Clock>,
    started: outbox::Moment,
    sampled: outbox::Moment,
    sample: Shown,
    rates: [u64; 5],
    said: outbox::Moment,
    kind: Kind,
}

enum Kind {
    Bars { all: MultiProgress, bars: [ProgressBar; 5], news: ProgressBar },
    Lines,
}

impl View {
    /// A view of a demo with so many orders.
    pub(crate) fn new(orders: u64, clock: std::sync::Arc<dyn outbox::Clock>) -> Self {
        let now = clock.moment();
        let kind = if std::io::stderr().is_terminal() { bars(orders) } else { Kind::Lines };
        let rates = [0; 5];
        Self { orders, clock, started: now, sampled: now, sample: Shown::default(), rates, said: now, kind }
    }

    /// Shows how far everything is, and what happened since the last call.
    pub(crate) fn show(&mut self, placed: u64, progress: &Progress, news: &[Item]) {
        let shown = Shown::of(placed, progress);
        self.sample_rates(shown);
        match &self.kind {
            Kind::Bars { all, bars, news: line } => {
                for ((bar, count), rate) in bars.iter().zip(shown.0).zip(self.rates) {
                    bar.set_position(count);
                    bar.set_message(format!("{rate}/s"));
                }
                for item in news {
                    match item {
                        Item::Happened(what) => line.set_prefix(what.clone()),
                        // Fails only where standard error is gone.
                        Item::Said(text) => drop(all.println(text)),
                    }
                }
                line.set_message(format!("backlog {}", shown.backlog()));
            }
            Kind::Lines => self.say(shown, news),
        }
    }

    fn sample_rates(&mut self, shown: Shown) {
        let now = self.clock.moment();
        let passed = now - self.sampled;
        if passed < RATE {
            return;
        }
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
        for ((rate, count), before) in self.rates.iter_mut().zip(shown.0).zip(self.sample.0) {
            *rate = count.saturating_sub(before) * 1000 / millis;
        }
        (self.sampled, self.sample) = (now, shown);
    }

    fn say(&mut self, shown: Shown, news: &[Item]) {
        for item in news {
            match item {
                Item::Happened(what) => eprintln!("        {what}"),
                Item::Said(text) => eprintln!("{text}"),
            }
        }
        let now = self.clock.moment();
        if now - self.said < LINE {
            return;
        }
        self.said = now;
        let seconds = (now - self.started).as_secs();
        let counts: Vec<_> = LABELS
            .iter()
            .zip(shown.0)
            .zip(self.rates)
            .map(|((label, count), rate)| format!("{label} {count} ({rate}/s)"))
            .collect();
        eprintln!("{seconds:>4} s  {} of {}, backlog {}", counts.join(", "), self.orders, shown.backlog());
    }
}

impl Drop for View {
    /// Takes the bars away, so that what comes next is not drawn over.
    fn drop(&mut self) {
        if let Kind::Bars { all, .. } = &self.kind {
            drop(all.clear());
        }
    }
}

fn bars(orders: u64) -> Kind {
    let all = MultiProgress::new();
    let style = |template| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bars = LABELS.map(|label| {
        let bar = ProgressBar::new(orders).with_prefix(label);
        all.add(bar.with_style(style("{prefix:>14} {bar:40.green/white} {pos:>6}/{len} {msg:>9}")))
    });
    let news = all.add(ProgressBar::new(0).with_style(style("{msg:>14}   {prefix:.yellow}   {elapsed}")));
    Kind::Bars { all, bars, news }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backlog_is_what_the_slower_consumer_has_not_applied() {
        let mut progress = Progress { committed: 10, ..Progress::default() };
        (progress.ledger.applied, progress.notifications.applied) = (4, 9);
        assert_eq!(Shown::of(12, &progress).backlog(), 6);
    }
}
