//! The service: one thread writes, and commits many orders at once.
//!
//! `SQLite` has one writer at a time, and what a commit costs is the disk's flush. So requests queue for one thread,
//! which takes whatever waits into one transaction, each order in a savepoint of its own, commits once, and then
//! answers them all. With one client that is a commit per order; with sixty-four it is one for most of them.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use outbox::WriteError;
use rusqlite::Connection;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::{money::Cents, order::Order, store::Store};

/// The most orders in one commit: bounds how long the first of them waits.
const MAX_GROUP: usize = 256;

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It was placed now.
    New {
        /// Its id.
        order_id: String,
        /// Its event's number among those of the customer.
        sequence: u64,
    },
    /// It had been placed before: the request was a repetition, and nothing happened.
    Before {
        /// Its id.
        order_id: String,
        /// Its event's number among those of the customer.
        sequence: u64,
    },
}

/// What a customer has bought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CustomerTotals {
    /// Who.
    pub customer: String,
    /// Orders.
    pub orders: i64,
    /// Units in all.
    pub units: i64,
    /// Their price in all.
    pub total: Cents,
}

/// Why an order was not placed, or not found.
#[derive(Debug, thiserror::Error)]
pub enum OrdersError {
    /// The id belongs to an order with other contents.
    #[error("order `{order_id}` was placed before with other contents: a new order needs a new `order_id`")]
    Reused {
        /// The id.
        order_id: String,
    },
    /// The event about the order cannot be written.
    #[error("the order's event cannot be written: {0}")]
    Event(String),
    /// The database is locked or out of room for now.
    #[error("the order was not placed: {0}; send it again, with the same `order_id`")]
    Busy(String),
    /// The database failed.
    #[error("the database failed: {0}; send the order again, with the same `order_id`")]
    Store(String),
    /// The service is being stopped.
    #[error("the service is stopping; send the order again, with the same `order_id`")]
    Stopped,
}

impl From<rusqlite::Error> for OrdersError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull};
        match error.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked | DiskFull) => Self::Busy(error.to_string()),
            _ => Self::Store(error.to_string()),
        }
    }
}

impl From<WriteError> for OrdersError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::RetryTransaction { .. } => Self::Busy(error.to_string()),
            WriteError::TooLarge { .. } | WriteError::EntryTooLarge { .. } | WriteError::Attribute { .. } => {
                Self::Event(error.to_string())
            }
            _ => Self::Store(error.to_string()),
        }
    }
}

struct Request {
    order: Order,
    answer: oneshot::Sender<Result<Placed, OrdersError>>,
}

/// The orders service. Clones share its one writer thread, which ends when the last of them is dropped.
#[derive(Clone)]
pub struct Service {
    requests: mpsc::Sender<Request>,
    reader: Arc<Mutex<Connection>>,
}

impl Service {
    /// Opens the database at `path`, makes its tables if there are none, and starts the writer thread. `producer`
    /// names this service in its events: their CloudEvents `source`.
    ///
    /// # Errors
    /// [`OrdersError::Store`] if the database cannot be opened or is not one of ours.
    pub fn open(path: &Path, producer: &str) -> Result<Self, OrdersError> {
        let store = Store::open(path, producer)?;
        let reader = Store::reader(path)?;
        let (requests, queue) = mpsc::channel();
        thread::Builder::new()
            .name("orders-writer".to_owned())
            .spawn(move || write_groups(store, &queue))
            .map_err(|error| OrdersError::Store(format!("the writer thread does not start: {error}")))?;
        Ok(Self { requests, reader: Arc::new(Mutex::new(reader)) })
    }

    /// Places an order, once for each `order_id`. Returns when order and event are durable. A dropped call may have
    /// placed it.
    ///
    /// # Errors
    /// [`OrdersError`]; nothing was written then.
    pub async fn place(&self, order: Order) -> Result<Placed, OrdersError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { order, answer }).map_err(|_| OrdersError::Stopped)?;
        answered.await.map_err(|_| OrdersError::Stopped)?
    }

    /// The order with this id.
    ///
    /// # Errors
    /// [`OrdersError`] as the database gave it.
    pub async fn order(&self, id: String) -> Result<Option<Order>, OrdersError> {
        self.read(move |connection| Store::order(connection, &id)).await
    }

    /// What a customer has bought; `None` if nothing.
    ///
    /// # Errors
    /// [`OrdersError`] as the database gave it.
    pub async fn customer(&self, id: String) -> Result<Option<CustomerTotals>, OrdersError> {
        self.read(move |connection| Store::customer(connection, &id)).await
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`OrdersError`] if it does not.
    pub async fn check(&self) -> Result<(), OrdersError> {
        self.read(|connection| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, OrdersError> + Send + 'static,
    ) -> Result<T, OrdersError> {
        let reader = Arc::clone(&self.reader);
        let reading = tokio::task::spawn_blocking(move || read(&reader.lock().unwrap_or_else(PoisonError::into_inner)));
        reading.await.map_err(|_| OrdersError::Stopped)?
    }
}

/// Takes whatever waits, commits it once, answers. Ends when nobody can ask any more.
fn write_groups(mut store: Store, queue: &mpsc::Receiver<Request>) {
    while let Ok(first) = queue.recv() {
        let (orders, askers): (Vec<_>, Vec<_>) = std::iter::once(first)
            .chain(queue.try_iter().take(MAX_GROUP - 1))
            .map(|request| (request.order, request.answer))
            .unzip();
        for (answer, outcome) in askers.into_iter().zip(store.place_all(orders)) {
            // Who does not wait any more will ask again.
            let _gone = answer.send(outcome);
        }
    }
}
