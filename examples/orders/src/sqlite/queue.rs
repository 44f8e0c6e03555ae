//! One thread writes, and commits many orders at once.
//!
//! `SQLite` has one writer at a time, and what a commit costs is the disk's flush. So requests queue for one thread,
//! which takes whatever waits into one transaction, each order in a savepoint of its own, commits once, and then
//! answers them all. With one client that is a commit per order; with sixty-four it is one for most of them.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::Tables;
use crate::{
    order::Order,
    service::{CustomerTotals, OrdersError, Placed, Store},
};

/// The most orders in one commit: bounds how long the first of them waits.
const MAX_GROUP: usize = 256;

struct Request {
    order: Order,
    answer: oneshot::Sender<Result<Placed, OrdersError>>,
}

/// Orders in an `SQLite` database. Its writer thread ends when this is dropped.
pub(crate) struct SqliteOrders {
    requests: mpsc::Sender<Request>,
    reader: Arc<Mutex<Connection>>,
}

impl SqliteOrders {
    pub(crate) fn open(path: &Path, producer: &str) -> Result<Self, OrdersError> {
        let tables = Tables::open(path, producer)?;
        let reader = Tables::reader(path)?;
        let (requests, queue) = mpsc::channel();
        thread::Builder::new()
            .name("orders-writer".to_owned())
            .spawn(move || write_groups(tables, &queue))
            .map_err(|error| OrdersError::Store(format!("the writer thread does not start: {error}")))?;
        Ok(Self { requests, reader: Arc::new(Mutex::new(reader)) })
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

#[async_trait]
impl Store for SqliteOrders {
    async fn place(&self, order: Order) -> Result<Placed, OrdersError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { order, answer }).map_err(|_| OrdersError::Stopped)?;
        answered.await.map_err(|_| OrdersError::Stopped)?
    }

    async fn order(&self, id: String) -> Result<Option<Order>, OrdersError> {
        self.read(move |connection| Tables::order(connection, &id)).await
    }

    async fn customer(&self, id: String) -> Result<Option<CustomerTotals>, OrdersError> {
        self.read(move |connection| Tables::customer(connection, &id)).await
    }

    async fn check(&self) -> Result<(), OrdersError> {
        self.read(|connection| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?)).await
    }
}

/// Takes whatever waits, commits it once, answers. Ends when nobody can ask any more.
fn write_groups(mut tables: Tables, queue: &mpsc::Receiver<Request>) {
    while let Ok(first) = queue.recv() {
        let (orders, askers): (Vec<_>, Vec<_>) = std::iter::once(first)
            .chain(queue.try_iter().take(MAX_GROUP - 1))
            .map(|request| (request.order, request.answer))
            .unzip();
        for (answer, outcome) in askers.into_iter().zip(tables.place_all(orders)) {
            // Who does not wait any more will ask again.
            let _gone = answer.send(outcome);
        }
    }
}
