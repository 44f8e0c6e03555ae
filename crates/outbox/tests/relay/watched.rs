//! A sink that takes its time, and remembers when it was called.

use std::{
    panic::resume_unwind,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use outbox::{Batch, Event, Outcome, Sink, SinkError, SinkLimits, memory::MemorySink};
use tokio::time::{Instant, sleep};

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Quirk {
    /// A call that holds the event with this id panics, so often.
    Panics { event: String, times: usize },
    /// It answers with one outcome more than there are events, so often, though it took nothing.
    OneOutcomeTooMany { times: usize },
}

/// One call of the sink.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) at: Instant,
    pub(crate) ids: Vec<String>,
}

/// Publishes to `inner` after a delay.
pub(crate) struct Watched {
    inner: Arc<MemorySink>,
    delay: Duration,
    quirk: Mutex<Option<Quirk>>,
    calls: Mutex<Vec<Call>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Watched {
    pub(crate) fn new(inner: Arc<MemorySink>, delay: Duration) -> Arc<Self> {
        Arc::new(Self {
            inner,
            delay,
            quirk: Mutex::default(),
            calls: Mutex::default(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    pub(crate) fn with(inner: Arc<MemorySink>, quirk: Quirk) -> Arc<Self> {
        let watched = Self::new(inner, Duration::ZERO);
        *watched.quirk.lock().unwrap() = Some(quirk);
        watched
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// The most calls that were under way at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// What is wrong with this call, if anything.
    fn strikes(&self, batch: &Batch) -> Option<Quirk> {
        let mut quirk = self.quirk.lock().unwrap();
        match quirk.as_mut()? {
            Quirk::Panics { event, times } => {
                if *times == 0 || !batch.events.iter().any(|found| found.id() == event) {
                    return None;
                }
                *times -= 1;
            }
            Quirk::OneOutcomeTooMany { times } => {
                if *times == 0 {
                    return None;
                }
                *times -= 1;
            }
        }
        quirk.clone()
    }
}

#[async_trait]
impl Sink for Watched {
    fn limits(&self) -> SinkLimits {
        self.inner.limits()
    }

    fn size(&self, event: &Event) -> usize {
        self.inner.size(event)
    }

    async fn check(&self) -> Result<(), SinkError> {
        self.inner.check().await
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let ids = batch.events.iter().map(|event| event.id().to_owned()).collect();
        self.calls.lock().unwrap().push(Call { at: Instant::now(), ids });
        match self.strikes(batch) {
            // Not by the macro, whose hook prints it, as if something were wrong with the test.
            Some(Quirk::Panics { .. }) => resume_unwind(Box::new("a defect of the sink")),
            Some(Quirk::OneOutcomeTooMany { .. }) => return Ok(vec![Outcome::Accepted; batch.events.len() + 1]),
            None => {}
        }
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        if !self.delay.is_zero() {
            sleep(self.delay).await;
        }
        let outcome = self.inner.publish(batch).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        outcome
    }
}
