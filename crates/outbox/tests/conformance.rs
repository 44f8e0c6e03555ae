//! The in-memory backends pass every suite.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use outbox::{
    Sink, Source, WriteError,
    memory::{ManualClock, MemoryBookkeeping, MemorySink, MemoryStore, SeededEntropy, Snapshot},
    testing::{
        BookkeepingUnderTest, Delivery, End, Opened, SinkUnderTest, StoreUnderTest, Transaction, Write,
        WriterUnderTest,
        conformance::{self, bookkeeping, business_store, operator, sink, source, writer},
        faults::{FaultySink, SinkFault, SinkFaults},
    },
    writer::{Receipt, Settled},
};

struct Memory {
    store: MemoryStore,
    backup: Mutex<Snapshot>,
}

impl Memory {
    fn new() -> Self {
        let (clock, entropy) = (Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(7)));
        let store = MemoryStore::new("/tests", clock, entropy).unwrap();
        Self { backup: Mutex::new(store.snapshot()), store }
    }
}

#[async_trait]
impl WriterUnderTest for Memory {
    async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
        let mut transaction = self.store.transaction();
        let mut receipts = Vec::new();
        for write in asked.writes {
            receipts.extend(transaction.write_expecting(write.expected, write.events)?);
        }
        if let Some(before_end) = asked.before_end {
            before_end.await;
        }
        match asked.end {
            End::Commit => transaction.commit()?,
            End::RollBack => drop(transaction),
        }
        Ok(receipts)
    }

    async fn transact_regardless(&self, writes: Vec<Write>) -> Option<Vec<Result<Vec<Receipt>, WriteError>>> {
        let mut transaction = self.store.transaction();
        let answers =
            writes.into_iter().map(|write| transaction.write_expecting(write.expected, write.events)).collect();
        transaction.commit().unwrap();
        Some(answers)
    }

    async fn settled(&self, receipt: &Receipt) -> Settled {
        self.store.settle(receipt)
    }

    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.store.reopen())
    }
}

#[async_trait]
impl StoreUnderTest for Memory {
    async fn open(&self) -> Opened {
        let store = Arc::new(self.store.reopen());
        Opened { source: store.clone(), store }
    }

    async fn back_up(&self) {
        *self.backup.lock().unwrap() = self.store.snapshot();
    }

    async fn restore(&self) {
        self.store.restore(&self.backup.lock().unwrap());
    }
}

struct RememberingSink(Arc<MemorySink>, SinkFaults);

impl RememberingSink {
    fn new(sink: MemorySink) -> Self {
        Self(Arc::new(sink), SinkFaults::default())
    }
}

#[async_trait]
impl SinkUnderTest for RememberingSink {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(FaultySink::new(self.0.clone(), self.1.clone()))
    }

    async fn delivered(&self) -> Vec<Delivery> {
        self.0.accepted().into_iter().map(Delivery::from).collect()
    }

    async fn open(&self) -> Option<Arc<dyn Sink>> {
        Some(self.sink())
    }

    async fn refuse(&self, id: &str) -> bool {
        self.0.refuse(id, true, "not wanted");
        true
    }

    async fn take_away(&self) -> bool {
        self.0.break_down(outbox::Fault::Sink, "nobody listens: start the target");
        true
    }

    async fn take_nothing(&self) -> bool {
        self.0.break_down(outbox::Fault::Throttle, "too many clients: close some");
        true
    }

    async fn cut_connections(&self) -> bool {
        self.1.once(SinkFault::FailCall(outbox::Fault::Sink));
        true
    }

    async fn lose_an_answer(&self) -> bool {
        self.1.once(SinkFault::AcceptAndLoseAnswer);
        true
    }
}

struct Books(Arc<MemoryBookkeeping>);

#[async_trait]
impl BookkeepingUnderTest for Books {
    async fn open(&self) -> Arc<dyn outbox::Operator> {
        self.0.clone()
    }
}

fn fresh_bookkeeping() -> Books {
    Books(Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(7))))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_in_memory_conforms() {
    writer::all(async || Memory::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_in_memory_conforms() {
    source::all(async || Memory::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_business_store_in_memory_conforms() {
    business_store::all(async || Memory::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bookkeeping_in_memory_conforms() {
    bookkeeping::all(async || fresh_bookkeeping()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_bookkeeping_in_memory_conforms() {
    operator::all(async || fresh_bookkeeping()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_in_memory_conforms() {
    let suite = sink::all(async || RememberingSink::new(MemorySink::default()));
    assert_eq!(conformance::passed_over_by(suite).await, [], "it can do all that the suite asks for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_whose_calls_are_not_ordered_conforms() {
    let limits = outbox::SinkLimits { ordered_calls: false, max_events: 1, ..MemorySink::default().limits() };
    sink::all(async || RememberingSink::new(MemorySink::new(limits))).await;
}
