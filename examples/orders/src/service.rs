//! The service, whatever its database is.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use outbox::{StoreError, WriteError};
use outbox_sql::postgres::ConnectOptions;
use serde::Serialize;

use crate::{money::Cents, order::Order, postgres::PostgresOrders, sqlite::SqliteOrders};

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

impl From<tokio_postgres::Error> for OrdersError {
    fn from(error: tokio_postgres::Error) -> Self {
        // What a commit answers that is cut off is not known: a repetition finds out.
        let passes = error.code().is_none_or(|code| code.code().starts_with("40") || code.code().starts_with("57"));
        if passes { Self::Busy(error.to_string()) } else { Self::Store(error.to_string()) }
    }
}

impl From<StoreError> for OrdersError {
    fn from(error: StoreError) -> Self {
        if error.kind().retry() { Self::Busy(error.to_string()) } else { Self::Store(error.to_string()) }
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

/// What a database does for the service.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Places an order, once for each `order_id`; answers when order and event are durable.
    async fn place(&self, order: Order) -> Result<Placed, OrdersError>;

    /// The order with this id.
    async fn order(&self, id: String) -> Result<Option<Order>, OrdersError>;

    /// What a customer has bought; `None` if nothing.
    async fn customer(&self, id: String) -> Result<Option<CustomerTotals>, OrdersError>;

    /// Whether the database answers.
    async fn check(&self) -> Result<(), OrdersError>;
}

/// The orders service. Clones share its database.
#[derive(Clone)]
pub struct Service {
    store: Arc<dyn Store>,
}

impl Service {
    /// Opens the `SQLite` database at `path`, makes its tables if there are none, and starts its writer thread.
    /// `producer` names this service in its events: their CloudEvents `source`.
    ///
    /// # Errors
    /// [`OrdersError::Store`] if the database cannot be opened or is not one of ours.
    pub fn open(path: &Path, producer: &str) -> Result<Self, OrdersError> {
        Ok(Self { store: Arc::new(SqliteOrders::open(path, producer)?) })
    }

    /// The same on a PostgreSQL database, whose role may make tables in it.
    ///
    /// # Errors
    /// [`OrdersError`] if the database cannot be reached or is not one of ours.
    pub async fn connect(options: ConnectOptions, producer: &str) -> Result<Self, OrdersError> {
        Ok(Self { store: Arc::new(PostgresOrders::connect(options, producer).await?) })
    }

    /// Places an order, once for each `order_id`. Returns when order and event are durable. A dropped call may have
    /// placed it.
    ///
    /// # Errors
    /// [`OrdersError`]; nothing was written then, or it is not known, and the same order can be sent again.
    pub async fn place(&self, order: Order) -> Result<Placed, OrdersError> {
        self.store.place(order).await
    }

    /// The order with this id.
    ///
    /// # Errors
    /// [`OrdersError`] as the database gave it.
    pub async fn order(&self, id: String) -> Result<Option<Order>, OrdersError> {
        self.store.order(id).await
    }

    /// What a customer has bought; `None` if nothing.
    ///
    /// # Errors
    /// [`OrdersError`] as the database gave it.
    pub async fn customer(&self, id: String) -> Result<Option<CustomerTotals>, OrdersError> {
        self.store.customer(id).await
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`OrdersError`] if it does not.
    pub async fn check(&self) -> Result<(), OrdersError> {
        self.store.check().await
    }
}
