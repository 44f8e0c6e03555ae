//! What a backend has to offer so that the conformance suites can work on it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::{
    bookkeeping::Operator,
    cloudevents::Envelope,
    event::{Event, NewEvent, extension},
    memory::Accepted,
    sink::Sink,
    source::Source,
    store::BusinessStore,
    writer::{Expected, MAX_ENTRY_BYTES, Receipt, Settled, WriteError},
};

/// One call of a writer.
#[derive(Clone, Debug)]
pub struct Write {
    /// The events.
    pub events: Vec<NewEvent>,
    /// At which version their key has to be. A suite gives one other than [`Expected::Any`] only with events of one key.
    pub expected: Expected,
}

impl Write {
    /// Writes `events` whatever is current.
    pub fn any(events: impl Into<Vec<NewEvent>>) -> Self {
        Self { events: events.into(), expected: Expected::Any }
    }

    /// Writes `events` if their key is at `sequence`.
    pub fn at(sequence: u64, events: impl Into<Vec<NewEvent>>) -> Self {
        Self { events: events.into(), expected: Expected::Sequence(sequence) }
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By its commit.
    Commit,
    /// By being rolled back.
    RollBack,
}

/// A transaction that a suite asks for.
pub struct Transaction {
    /// What is written, call by call.
    pub writes: Vec<Write>,
    /// To be awaited after the writes and before the end: what others see meanwhile.
    pub before_end: Option<BoxFuture<'static, ()>>,
    /// How it ends, if every write succeeded; it is rolled back otherwise.
    pub end: End,
}

/// Adapts a backend's writer, whatever its transactions are, to the suite
/// [`conformance::writer`](super::conformance::writer).
#[async_trait]
pub trait WriterUnderTest: Send + Sync {
    /// Begins a transaction, makes every write in it, awaits `before_end`, and ends it. Gives the receipts of all
    /// writes, in order, or the first error; after an error nothing is left of the transaction.
    async fn transact(&self, transaction: Transaction) -> Result<Vec<Receipt>, WriteError>;

    /// Begins a transaction, makes every write in it, whether those before it were refused or not, and commits. `None` if
    /// no transaction of this store goes on after an error; the check that needs it is passed over then.
    async fn transact_regardless(&self, writes: Vec<Write>) -> Option<Vec<Result<Vec<Receipt>, WriteError>>> {
        let _ = writes;
        None
    }

    /// The most payload bytes that one entry of this store takes, where its rows are bounded more tightly than entries are:
    /// the suite looks that a larger one is refused as a [`WriteError::EntryTooLarge`], and one of this size taken.
    fn largest_entry(&self) -> usize {
        MAX_ENTRY_BYTES
    }

    /// What became of a write.
    async fn settled(&self, receipt: &Receipt) -> Settled;

    /// A source that reads what this writer writes.
    async fn source(&self) -> Arc<dyn Source>;
}

/// A business store as one process has it open. Claims made by the one are those that the other reads under.
#[derive(Clone)]
pub struct Opened {
    /// Its entries.
    pub source: Arc<dyn Source>,
    /// The rest.
    pub store: Arc<dyn BusinessStore>,
}

/// Adapts a business store to the suites [`conformance::source`](super::conformance::source) and
/// [`conformance::business_store`](super::conformance::business_store).
#[async_trait]
pub trait StoreUnderTest: WriterUnderTest {
    /// Opens the store as one more process would.
    async fn open(&self) -> Opened;

    /// Makes a copy of everything as it is now, in place of an earlier copy.
    async fn back_up(&self);

    /// Puts the copy in the store's place, as a restored backup or an older copy of a file. The suites open the store
    /// anew afterwards.
    async fn restore(&self);
}

/// Adapts a bookkeeping to the suites [`conformance::bookkeeping`](super::conformance::bookkeeping) and
/// [`conformance::operator`](super::conformance::operator).
#[async_trait]
pub trait BookkeepingUnderTest: Send + Sync {
    /// Opens it, as one more process would, or as its own process does after a restart: what was written is there. The
    /// handles that were opened before may be open still, or dropped.
    async fn open(&self) -> Arc<dyn Operator>;
}

/// An event that a sink's other side has.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its id.
    pub id: String,
    /// Its payload.
    pub data: Option<Bytes>,
    /// All of it, as a consumer decodes it: what the route adds are its extension attributes `gapless` and `replayid`. `None` if
    /// the test cannot tell; then no more than id and payload is looked at.
    pub event: Option<Event>,
}

impl Delivery {
    /// `event` as it was handed over with what surrounds it, by a sink that encodes nothing.
    pub fn surrounded(event: &Event, envelope: Envelope<'_>) -> Self {
        let mut event = event.clone();
        if envelope.gapless {
            event.extensions.insert(extension::GAPLESS.into(), true.into());
        }
        if let Some(replay) = envelope.replay {
            event.extensions.insert(extension::REPLAY_ID.into(), replay.into());
        }
        event.into()
    }
}

/// What was decoded of what arrived.
impl From<Event> for Delivery {
    fn from(event: Event) -> Self {
        Self { id: event.id().to_owned(), data: event.data().cloned(), event: Some(event) }
    }
}

impl From<Accepted> for Delivery {
    fn from(accepted: Accepted) -> Self {
        let envelope = Envelope { gapless: accepted.gapless, replay: accepted.replay.as_deref() };
        Self::surrounded(&accepted.event, envelope)
    }
}

/// Adapts a sink, and the other side that it publishes to, to the suite
/// [`conformance::sink`](super::conformance::sink).
#[async_trait]
pub trait SinkUnderTest: Send + Sync {
    /// The sink.
    fn sink(&self) -> Arc<dyn Sink>;

    /// What the other side has, in the order in which it took effect, duplicates included; each with its whole event
    /// (`Delivery::from` what a consumer decodes), or much of what a sink has to carry is not looked at.
    async fn delivered(&self) -> Vec<Delivery>;

    /// Opens the sink anew, as its process does after a restart, and drops the one there was; the suite holds no other. `None`
    /// if the test cannot: the check that needs it is passed over then.
    async fn open(&self) -> Option<Arc<dyn Sink>> {
        None
    }

    /// Has the other side refuse the event `id` by name from now on. False if it knows no such thing; checks that need
    /// it are passed over then.
    async fn refuse(&self, id: &str) -> bool {
        let _ = id;
        false
    }

    /// Makes the target go away for good. False if that cannot be done; checks that need it are passed over then.
    async fn take_away(&self) -> bool {
        false
    }

    /// Has the target answer from now on, to every call, that it takes nothing as a whole: too many clients, read only, no
    /// permission, no memory. False if that cannot be done; the check that needs it is passed over then.
    async fn take_nothing(&self) -> bool {
        false
    }

    /// Cuts the connections that the sink holds now, as a restart of the target does; the target is there again at once.
    /// False if there is no such thing; the check that needs it is passed over then.
    async fn cut_connections(&self) -> bool {
        false
    }

    /// Has the other side take the next call and never answer it: the connection ends instead. False if that cannot be
    /// done; the check that needs it is passed over then.
    async fn lose_an_answer(&self) -> bool {
        false
    }
}
