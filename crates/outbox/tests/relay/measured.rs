//! What a relay counts and measures.

use std::{
    collections::BTreeMap,
    iter::once,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Label, LocalRecorderGuard, Metadata, Recorder, SharedString,
    Unit, set_default_local_recorder,
};

/// What was recorded on this thread since it began, which is what a test's relays record. A series goes by its name and
/// the values of its labels, as in `outbox_dead_letters all`.
pub(crate) struct Measured {
    recorded: &'static Recorded,
    _guard: LocalRecorderGuard<'static>,
}

impl Measured {
    pub(crate) fn begin() -> Self {
        // The guard borrows it for as long as the test lasts.
        let recorded: &'static Recorded = Box::leak(Box::default());
        Self { recorded, _guard: set_default_local_recorder(recorded) }
    }

    pub(crate) fn counter(&self, series: &str) -> u64 {
        let counters = self.recorded.counters.lock().unwrap();
        counters.get(series).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// `None` if it was never set.
    pub(crate) fn gauge(&self, series: &str) -> Option<f64> {
        let gauges = self.recorded.gauges.lock().unwrap();
        gauges.get(series).map(|gauge| f64::from_bits(gauge.load(Ordering::Relaxed)))
    }

    pub(crate) fn samples(&self, series: &str) -> Vec<f64> {
        let histograms = self.recorded.histograms.lock().unwrap();
        histograms.get(series).map_or_else(Vec::new, |samples| samples.0.lock().unwrap().clone())
    }
}

#[derive(Default)]
struct Recorded {
    counters: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    gauges: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    histograms: Mutex<BTreeMap<String, Arc<Samples>>>,
}

#[derive(Default)]
struct Samples(Mutex<Vec<f64>>);

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

fn series<T: Default>(all: &Mutex<BTreeMap<String, Arc<T>>>, key: &Key) -> Arc<T> {
    let name: Vec<&str> = once(key.name()).chain(key.labels().map(Label::value)).collect();
    all.lock().unwrap().entry(name.join(" ")).or_default().clone()
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(series(&self.counters, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(series(&self.gauges, key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(series(&self.histograms, key))
    }
}
