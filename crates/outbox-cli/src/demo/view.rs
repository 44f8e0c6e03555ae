//! The live view: bars on a terminal, a line every few seconds elsewhere. On standard error, so that standard output
//! holds the report alone.

use std::{io::IsTerminal, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::processes::Item;

/// Between two plain lines.
const LINE: Duration = Duration::from_secs(5);
/// What rates are averaged over.
const RATE: Duration = Duration::from_secs(1);

/// The live view.
pub(crate) struct View {
    labels: &'static [&'static str],
    total: u64,
    clock: std::sync::Arc<dyn outbox::Clock>,
    started: outbox::Moment,
    sampled: outbox::Moment,
    sample: Vec<u64>,
    rates: Vec<u64>,
    said: outbox::Moment,
    kind: Kind,
}

enum Kind {
    Bars { all: MultiProgress, bars: Vec<ProgressBar>, news: ProgressBar },
    Lines,
}

impl View {
    /// A view of a demo that counts what `labels` say, each up to `total`.
    pub(crate) fn new(labels: &'static [&'static str], total: u64, clock: std::sync::Arc<dyn outbox::Clock>) -> Self {
        let now = clock.moment();
        let kind = if std::io::stderr().is_terminal() { bars(labels, total) } else { Kind::Lines };
        let zeros = vec![0; labels.len()];
        Self { labels, total, clock, started: now, sampled: now, sample: zeros.clone(), rates: zeros, said: now, kind }
    }

    /// Shows how far everything is, and what happened since the last call.
    pub(crate) fn show(&mut self, counts: Vec<u64>, backlog: u64, news: &[Item]) {
        self.sample_rates(&counts);
        match &self.kind {
            Kind::Bars { all, bars, news: line } => {
                for ((bar, count), rate) in bars.iter().zip(counts).zip(&self.rates) {
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
                line.set_message(format!("backlog {backlog}"));
            }
            Kind::Lines => self.say(&counts, backlog, news),
        }
    }

    fn sample_rates(&mut self, counts: &[u64]) {
        let now = self.clock.moment();
        let passed = now - self.sampled;
        if passed < RATE {
            return;
        }
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
        for ((rate, count), before) in self.rates.iter_mut().zip(counts).zip(&self.sample) {
            *rate = count.saturating_sub(*before) * 1000 / millis;
        }
        (self.sampled, self.sample) = (now, counts.to_vec());
    }

    fn say(&mut self, counts: &[u64], backlog: u64, news: &[Item]) {
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
        let counts: Vec<_> = self
            .labels
            .iter()
            .zip(counts)
            .zip(&self.rates)
            .map(|((label, count), rate)| format!("{label} {count} ({rate}/s)"))
            .collect();
        eprintln!("{seconds:>4} s  {} of {}, backlog {backlog}", counts.join(", "), self.total);
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

fn bars(labels: &[&'static str], total: u64) -> Kind {
    let all = MultiProgress::new();
    let style = |template| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = |label: &&'static str| {
        let bar = ProgressBar::new(total).with_prefix(*label);
        all.add(bar.with_style(style("{prefix:>14} {bar:40.green/white} {pos:>6}/{len} {msg:>9}")))
    };
    let bars = labels.iter().map(bar).collect();
    let news = all.add(ProgressBar::new(0).with_style(style("{msg:>14}   {prefix:.yellow}   {elapsed}")));
    Kind::Bars { all, bars, news }
}
