//! The service's database as a relay sees it: where entries are read, routes are registered, retention is done.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use outbox::{
    BusinessStore, Clock, ErrorKind, Position, RouteName, StoreError, System,
    store::{Agreement, Claim, Purged, Registration, Retention, StoreIdentity, Witness},
};
use rusqlite::{Transaction, TransactionBehavior};

use super::{
    blocking::{self, locked},
    connection::{self, Access, FileIdentity, Opened, wal_path},
    durable::Durable,
    failure::store_error,
    history::{self, History},
    schema::Meta,
    source::Reader,
    wake::{Changes, Waker},
};

mod agreement;
mod claim;
mod incarnation;
mod purge;
mod routes;
mod start;

#[cfg(any(test, feature = "testing"))]
pub(super) use routes::all as registrations;

pub(crate) use start::{parse as parse_position, start_position};

/// How a store is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// Makes the WAL durable before what was read from it is handed out. Needed unless every writer of the database
    /// uses `synchronous = FULL` or `EXTRA`.
    pub sync_wal: bool,
    /// How often to look for commits that no notification told of.
    pub poll: Duration,
    /// How long to wait for a lock that another connection holds.
    pub busy: Duration,
    /// The clock that a start at a time is compared with, to warn of one that lies in the future.
    pub clock: Arc<dyn Clock>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { sync_wal: true, poll: Duration::from_secs(1), busy: Duration::from_secs(5), clock: Arc::new(System) }
    }
}

/// The service's database: a [`Source`](outbox::Source) of its entries, and a [`BusinessStore`].
///
/// Reading takes no lock that a writer waits for. Each read has a connection of its own, so that two readers never wait
/// for each other. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct SqliteStore {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) path: PathBuf,
    pub(super) options: StoreOptions,
    pub(super) changes: Changes,
    pub(super) durable: Durable,
    pub(super) history: Mutex<History>,
    claimed: Mutex<Option<Claim>>,
    store_id: String,
    /// The file that was read last.
    file: Mutex<FileIdentity>,
    readers: Mutex<Vec<Reader>>,
    writer: Mutex<Option<Opened>>,
    purger: Mutex<Option<Opened>>,
}

/// Idle connections that are kept for the next read.
const IDLE_READERS: usize = 4;

impl SqliteStore {
    /// Opens the database at `path`, whose tables `outbox init` or [`init`](super::init) has made. Blocks for as long as
    /// opening a file takes.
    ///
    /// # Errors
    /// [`ErrorKind::HistoryChanged`] if the file is gone, [`ErrorKind::Incompatible`] if it is no database or lacks this
    /// version's tables, [`ErrorKind::NotPermitted`] without the right to read and write it and its directory.
    pub fn open(path: impl AsRef<Path>, options: StoreOptions) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let opened = connection::open(&path, Access::Read, options.busy)?;
        let inner = Inner {
            changes: Changes::watch(&path, options.poll),
            durable: Durable::new(wal_path(&path)),
            history: Mutex::default(),
            claimed: Mutex::default(),
            store_id: opened.meta.store_id.clone(),
            file: Mutex::new(opened.file),
            readers: Mutex::new(vec![Reader::new(opened)]),
            writer: Mutex::default(),
            purger: Mutex::default(),
            path,
            options,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Wakes the relay that reads this store: call [`Waker::wake`] after each commit that is made in this process, for
    /// the shortest way from commit to publication. Commits that nobody tells of are found all the same.
    pub fn waker(&self) -> Waker {
        self.inner.changes.waker()
    }

    /// The database's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = self.inner.clone();
        blocking::run(move || work(&inner)).await
    }
}

impl Inner {
    /// Lends a connection that reads the file that is at the path now.
    pub(super) fn with_reader<T>(
        &self,
        work: impl FnOnce(&mut Reader) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let file = FileIdentity::of(&self.path)?;
        let idle = {
            let mut readers = locked(&self.readers);
            readers.retain(|reader| reader.file() == file);
            readers.pop()
        };
        let mut reader = match idle {
            Some(reader) => reader,
            None => Reader::new(self.open(Access::Read)?),
        };
        let result = work(&mut reader)?;
        let mut readers = locked(&self.readers);
        if readers.len() < IDLE_READERS {
            readers.push(reader);
        }
        Ok(result)
    }

    /// Runs `work` in a transaction that holds the write lock, and commits it.
    pub(super) fn write<T>(
        &self,
        attempted: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut slot = locked(&self.writer);
        let opened = self.current(&mut slot, Access::Write)?;
        let transaction = Transaction::new_unchecked(&opened.connection, TransactionBehavior::Immediate)
            .map_err(store_error(attempted))?;
        let result = work(&transaction)?;
        transaction.commit().map_err(|error| store_error(attempted)(error).uncertain())?;
        Ok(result)
    }

    /// The connection in `slot`, opened again if the path leads to another file by now.
    fn current<'a>(&self, slot: &'a mut Option<Opened>, access: Access) -> Result<&'a mut Opened, StoreError> {
        let file = FileIdentity::of(&self.path)?;
        let opened = match slot.take() {
            Some(opened) if opened.file == file => opened,
            Some(_) | None => self.open(access)?,
        };
        Ok(slot.insert(opened))
    }

    /// Opens the file at the path. If it is another than before, it has to be the same store at least; whether it holds
    /// the same history, each read finds out.
    fn open(&self, access: Access) -> Result<Opened, StoreError> {
        let before = *locked(&self.file);
        let opened = connection::open(&self.path, access, self.options.busy).map_err(|error| {
            let replaced = FileIdentity::of(&self.path).is_ok_and(|file| file != before);
            if replaced && error.kind() == ErrorKind::Incompatible {
                history::changed(&self.path, &format!("was replaced by another file: {error}")).because(error)
            } else {
                error
            }
        })?;
        self.check_store(&opened.meta.store_id)?;
        if opened.file != before {
            self.durable.forget();
            *locked(&self.file) = opened.file;
        }
        Ok(opened)
    }

    /// Whether `store_id` is that of the store that was opened.
    pub(super) fn check_store(&self, store_id: &str) -> Result<(), StoreError> {
        if store_id == self.store_id {
            return Ok(());
        }
        let found = format!("holds another store now, {store_id} rather than {}", self.store_id);
        Err(history::changed(&self.path, &found))
    }

    /// Whether the claim made through this store is still the latest. Without a claim there is nothing to check.
    pub(super) fn check_claim(&self, meta: &Meta) -> Result<(), StoreError> {
        match &*locked(&self.claimed) {
            Some(claim) => claim::still_ours(&self.path, claim, meta),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl BusinessStore for SqliteStore {
    async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        self.blocking(|inner| inner.with_reader(|reader| claim::identity(reader.connection()))).await
    }

    async fn claim(&self, claim: &Claim, seen: Option<&Claim>) -> Result<bool, StoreError> {
        let (claim, seen) = (claim.clone(), seen.cloned());
        self.blocking(move |inner| inner.claim(claim, seen.as_ref())).await
    }

    async fn disown(&self) -> Result<(), StoreError> {
        self.blocking(Inner::disown).await
    }

    async fn routes(&self) -> Result<Vec<Registration>, StoreError> {
        self.blocking(|inner| inner.with_reader(|reader| routes::all(reader.connection()))).await
    }

    async fn register(&self, registration: Registration) -> Result<Registration, StoreError> {
        self.blocking(move |inner| inner.register(&registration)).await
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        let (from, to) = (from.clone(), to.clone());
        self.blocking(move |inner| inner.write("renaming a route", |tx| routes::rename(tx, &from, &to))).await
    }

    async fn retire_route(&self, route: &RouteName) -> Result<(), StoreError> {
        let route = route.clone();
        self.blocking(move |inner| inner.write("retiring a route", |tx| routes::retire(tx, &route))).await
    }

    async fn purge(&self, passed: &Position, retention: Retention) -> Result<Purged, StoreError> {
        let passed = start::parse(passed)?;
        self.blocking(move |inner| inner.purge(passed, retention)).await
    }

    async fn agreement(&self, witnesses: &[Witness]) -> Result<Agreement, StoreError> {
        let witnesses = witnesses.to_vec();
        self.blocking(move |inner| inner.agreement(&witnesses)).await
    }

    async fn raise_incarnation(&self, agreed: Option<&Position>, restamp: bool) -> Result<u32, StoreError> {
        let agreed = agreed.map(start::parse).transpose()?.unwrap_or(0);
        self.blocking(move |inner| inner.write("raising the incarnation", |tx| incarnation::raise(tx, agreed, restamp)))
            .await
    }
}
