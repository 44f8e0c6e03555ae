//! The service's database as a relay sees it: where entries are read, routes are registered, retention is done.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use outbox::{
    BusinessStore, Clock, ErrorKind, Position, RouteName, StoreError, System,
    store::{Agreement, Claim, OpenTransaction, Purged, Registration, Retention, StoreIdentity, Witness},
};

use super::{
    connection::{ConnectOptions, Connection, connect},
    history::{History, changed},
    mapping::{Entries, Mapping},
    position::Standing,
    schema,
    source::{Pace, Ranges, Session},
};

mod agreement;
mod anchor;
mod claim;
mod incarnation;
mod keeping;
mod listening;
mod open_transactions;
mod purge;
mod rights;
mod routes;
pub(super) mod start;
mod status;

/// How often what is published is told to those who look at a mapped table's status.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How a database is read.
#[derive(Clone)]
pub struct StoreOptions {
    /// The longest pause between two looks for new entries while nothing happens; 75 ms. After something was found the pause
    /// is 2 ms, and grows to this.
    pub poll: Duration,
    /// Whether to wake at `NOTIFY outbox` besides, which writers send where `outbox.meta.notify` is set: a hint, the poll goes
    /// on. It needs a connection of its own to the server itself: a pooler that gives each transaction another session passes
    /// on no notification.
    pub listen: Option<ConnectOptions>,
    /// How long a leaf of the entries is to last at the rate at which they come.
    pub leaf_span: Duration,
    /// The table that holds the entries, where it is laid out otherwise; `None` for that of Outbox. It is read by polling
    /// alone: a [`WalSource`](super::wal::WalSource) on this store would read that of Outbox.
    pub mapping: Option<Mapping>,
    /// The clock that a start at a time is compared with, to warn of one that lies in the future.
    pub clock: Arc<dyn Clock>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(75),
            listen: None,
            leaf_span: Duration::from_secs(6 * 60 * 60),
            mapping: None,
            clock: Arc::new(System),
        }
    }
}

/// The service's database: a [`Source`](outbox::Source) of its entries, by polling, and a [`BusinessStore`].
///
/// Reading locks nothing and writes nothing. It holds four connections at most, and one more to listen; each is made when it
/// is first needed, and anew after it broke: a call that finds it broken fails, and the next one connects. Cheap to clone;
/// clones share the connections.
#[derive(Clone)]
pub struct PostgresStore {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    options: ConnectOptions,
    settings: StoreOptions,
    store_id: String,
    /// Which table is read.
    entries: Entries,
    /// Whose status is kept so far.
    status: tokio::sync::Mutex<status::Progress>,
    /// Two, so that a reader that is behind does not hold up the one that leads.
    sessions: [tokio::sync::Mutex<Session>; 2],
    /// For what is no reading.
    keeper: Connection,
    /// For the leaves: each call may go through a whole one, and nobody else waits for it. Two at once would be of no use, for
    /// only one of them gets to the leaves.
    leaves: Connection,
    pace: Pace,
    history: Mutex<History>,
    ranges: Mutex<Ranges>,
    claimed: Mutex<Option<Claim>>,
    /// Whether somebody makes leaves ahead of need.
    is_kept: Mutex<bool>,
}

impl PostgresStore {
    /// Opens the database that `outbox init` or [`init`](super::init) has made the tables in, and checks that a relay can
    /// work with it.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] if the tables are missing or of another version, or a trigger changes rows before they are
    /// written; [`ErrorKind::Invalid`] or [`ErrorKind::Incompatible`] if a mapped table is not as the mapping says, or
    /// cannot be read without losing rows; [`ErrorKind::NotPermitted`] if the server is a standby, or this role lacks a
    /// right; otherwise as connecting gives them.
    pub async fn open(options: ConnectOptions, settings: StoreOptions) -> Result<Self, StoreError> {
        let client = connect(&options).await?;
        let meta = schema::check(&client).await?;
        rights::check(&client, &options).await?;
        let entries = match &settings.mapping {
            Some(mapping) => mapping.entries(&client).await?,
            None => Entries::default(),
        };
        let session = || tokio::sync::Mutex::new(Session::new(options.clone(), entries.clone()));
        let inner = Arc::new(Inner {
            sessions: [session(), session()],
            keeper: Connection::new(options.clone()),
            leaves: Connection::new(options.clone()),
            pace: Pace::new(settings.poll),
            history: Mutex::default(),
            ranges: Mutex::default(),
            claimed: Mutex::default(),
            is_kept: Mutex::new(false),
            status: tokio::sync::Mutex::default(),
            entries: entries.clone(),
            store_id: meta.store_id,
            options,
            settings,
        });
        if let Some(direct) = &inner.settings.listen {
            listening::begin(direct.clone(), &inner.pace.waker());
        }
        Ok(Self { inner })
    }
}

impl Inner {
    /// A session that is free, or the one that will be next.
    pub(super) async fn session(&self) -> tokio::sync::MutexGuard<'_, Session> {
        match self.sessions[0].try_lock() {
            Ok(first) => first,
            Err(_) => match self.sessions[1].try_lock() {
                Ok(second) => second,
                Err(_) => self.sessions[0].lock().await,
            },
        }
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        locked(&self.history)
    }

    pub(super) fn ranges(&self) -> MutexGuard<'_, Ranges> {
        locked(&self.ranges)
    }

    /// The database, fit for a message.
    pub(super) fn database(&self) -> String {
        format!("`{}`", self.options)
    }

    /// Whether `store_id` is that of the store that was opened.
    pub(super) fn check_store(&self, store_id: &str) -> Result<(), StoreError> {
        if store_id == self.store_id {
            return Ok(());
        }
        let found = format!("holds another store now, {store_id} rather than {}", self.store_id);
        Err(changed(&self.database(), &found))
    }

    /// Whether the claim made through this store is still the latest, which is `now`. Without a claim there is nothing to
    /// check.
    pub(super) fn check_claim(&self, now: Option<&Claim>) -> Result<(), StoreError> {
        match &*locked(&self.claimed) {
            Some(claim) => claim::still_ours(&self.database(), claim, now),
            None => Ok(()),
        }
    }
}

/// Locks; what a panicking thread left is used as it is, for everything guarded here is whole between two statements.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl BusinessStore for PostgresStore {
    async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        self.inner.identity().await
    }

    async fn claim(&self, claim: &Claim, seen: Option<&Claim>) -> Result<bool, StoreError> {
        let is_ours = self.inner.claim(claim, seen).await?;
        if is_ours && !self.inner.entries.is_mapped() {
            keeping::begin(&self.inner);
        }
        Ok(is_ours)
    }

    async fn disown(&self) -> Result<(), StoreError> {
        self.inner.disown().await
    }

    async fn routes(&self) -> Result<Vec<Registration>, StoreError> {
        self.inner.routes().await
    }

    async fn register(&self, registration: Registration) -> Result<Registration, StoreError> {
        // What has no places cannot be counted.
        let gapless = registration.gapless && !self.inner.entries.is_mapped();
        self.inner.register(Registration { gapless, ..registration }).await
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        self.inner.rename_route(from, to).await
    }

    async fn retire_route(&self, route: &RouteName) -> Result<(), StoreError> {
        self.inner.retire_route(route).await
    }

    async fn purge(&self, passed: &Position, retention: Retention) -> Result<Purged, StoreError> {
        self.inner.purge(&Standing::parse(passed)?, retention).await
    }

    fn status_interval(&self) -> Option<Duration> {
        self.inner.entries.has_status().then_some(STATUS_INTERVAL)
    }

    async fn keep_status(&self, passed: &Position) -> Result<bool, StoreError> {
        self.inner.keep_status(&Standing::parse(passed)?).await
    }

    async fn agreement(&self, witnesses: &[Witness]) -> Result<Agreement, StoreError> {
        self.inner.agreement(witnesses).await
    }

    async fn raise_incarnation(&self, agreed: Option<&Position>, restamp: bool) -> Result<u32, StoreError> {
        self.inner.raise_incarnation(agreed, restamp).await
    }

    async fn is_refused(&self, position: &Position) -> Result<bool, StoreError> {
        self.inner.is_refused(position).await
    }

    async fn anchored(&self, positions: &[Position], witnesses: &[Witness]) -> Result<Vec<Position>, StoreError> {
        self.inner.anchored(positions, witnesses).await
    }

    async fn oldest_transaction(&self) -> Result<Option<OpenTransaction>, StoreError> {
        self.inner.oldest_transaction().await
    }
}

/// Something that a route has to be told of the database itself.
fn invalid(message: String) -> StoreError {
    StoreError::new(ErrorKind::Invalid, message)
}
