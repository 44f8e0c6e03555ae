//! The service's tables as a relay sees them: whose they are, which bookkeeping reads them, which routes are registered, and
//! whether they still hold what was read.
//!
//! Of the table of heads this uses the item `store`, with its attribute `claim`, and the item `routes`. Entries are deleted
//! by DynamoDB itself when they expire: there is nothing to purge.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use outbox::{
    BusinessStore, Clock, Entropy, Position, RouteName, StoreError, System,
    store::{Agreement, Claim, Purged, Registration, Retention, StoreIdentity, Witness},
};

use super::{
    calls::Calls,
    schema::{self, Tables},
};

mod agreement;
mod check;
mod claim;
mod claimed;
mod entries;
mod incarnation;
mod routes;

pub(super) use claimed::Claimed;

/// How a store is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// How long a call is tried again after conflicts, throttles and lost answers.
    pub patience: Duration,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where tokens and jitter come from.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { patience: Duration::from_secs(5), clock: Arc::new(System), entropy: Arc::new(System) }
    }
}

/// A service's tables: a [`BusinessStore`]. Cheap to clone; clones share the claim.
#[derive(Clone)]
pub struct DynamoStore {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    calls: Calls,
    tables: Tables,
    store_id: Arc<str>,
    retention: Duration,
    claimed: Claimed,
}

impl DynamoStore {
    /// Opens the tables that [`schema::init`] has made. Whether they are as they have to be is [`check`](Self::check)'s
    /// matter.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`](outbox::ErrorKind::Incompatible) if they have no identity, or one of another version;
    /// otherwise as DynamoDB says.
    pub async fn open(client: &Client, tables: &Tables, options: StoreOptions) -> Result<Self, StoreError> {
        let calls = Calls::new(client, options.clock, options.entropy, options.patience);
        let identity = schema::identity(&calls, tables).await?;
        schema::check_mapped(&calls, tables).await?;
        let claimed = Claimed::new(calls.clone(), tables.clone(), &identity.store_id);
        let inner = Inner {
            client: client.clone(),
            calls,
            tables: tables.clone(),
            store_id: identity.store_id.into(),
            retention: identity.retention,
            claimed,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes sure that tables and rights are as a relay needs them: keys, the stream and its view, the attribute of expiry,
    /// and that it may read and change what it has to. Writes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`](outbox::ErrorKind::Incompatible) or
    /// [`ErrorKind::NotPermitted`](outbox::ErrorKind::NotPermitted), with the remedy; otherwise as DynamoDB says.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.inner.check().await
    }

    /// Whether the claim that was made through it is still the latest. Without one there is nothing to look at.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](outbox::ErrorKind::Fenced) if the next owner of the lease has claimed the store,
    /// [`ErrorKind::Ownership`](outbox::ErrorKind::Ownership) if another bookkeeping has,
    /// [`ErrorKind::HistoryChanged`](outbox::ErrorKind::HistoryChanged) if these are other tables than were opened.
    pub async fn check_claim(&self) -> Result<(), StoreError> {
        self.inner.claimed.check().await
    }

    /// Its tables.
    pub fn tables(&self) -> &Tables {
        &self.inner.tables
    }

    /// How long after its commit an entry expires; `None` if never, as in a mapped table without such an attribute.
    pub fn retention(&self) -> Option<Duration> {
        self.inner.expires().then_some(self.inner.retention)
    }

    /// The claim that reads depend on.
    pub(super) fn claimed(&self) -> &Claimed {
        &self.inner.claimed
    }

    /// How its tables are called.
    pub(super) fn calls(&self) -> &Calls {
        &self.inner.calls
    }
}

impl Inner {
    /// Whether entries expire.
    fn expires(&self) -> bool {
        self.tables.mapping().is_none_or(|mapping| mapping.expiry().is_some())
    }
}

#[async_trait]
impl BusinessStore for DynamoStore {
    async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        self.inner.identity().await
    }

    async fn claim(&self, claim: &Claim, seen: Option<&Claim>) -> Result<bool, StoreError> {
        self.inner.claim(claim, seen).await
    }

    async fn disown(&self) -> Result<(), StoreError> {
        self.inner.disown().await
    }

    async fn routes(&self) -> Result<Vec<Registration>, StoreError> {
        self.inner.routes().await
    }

    async fn register(&self, registration: Registration) -> Result<Registration, StoreError> {
        // Items without places: nobody can tell whether one is missing.
        let gapless = registration.gapless && self.inner.tables.mapping().is_none();
        self.inner.register(Registration { gapless, ..registration }).await
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        self.inner.rename_route(from, to).await
    }

    async fn retire_route(&self, route: &RouteName) -> Result<(), StoreError> {
        self.inner.retire_route(route).await
    }

    /// Removes nothing, whatever is asked for: an entry expires at the time that its writer gave it, published or not.
    async fn purge(&self, _: &Position, _: Retention) -> Result<Purged, StoreError> {
        Ok(Purged::default())
    }

    fn expires_after(&self) -> Option<Duration> {
        self.inner.expires().then_some(self.inner.retention)
    }

    async fn agreement(&self, witnesses: &[Witness]) -> Result<Agreement, StoreError> {
        self.inner.agreement(witnesses).await
    }

    async fn entries_behind(&self, agreed: Option<&Position>) -> Result<Option<u64>, StoreError> {
        let behind = self.inner.behind(agreed).await?;
        self.inner.count_behind(behind.as_ref()).await.map(Some)
    }

    async fn raise_incarnation(&self, agreed: Option<&Position>, restamp: bool) -> Result<u32, StoreError> {
        self.inner.raise_incarnation(agreed, restamp).await
    }
}
