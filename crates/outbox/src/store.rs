//! The business store as a relay sees it: its identity, the routes registered in it, and its retention.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    entry::{CommitId, Position},
    error::StoreError,
    filter::Filter,
    route::{RouteName, Start},
};

/// Who a business store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreIdentity {
    /// Given when the tables were made; a copy of the store has the same.
    pub id: String,
    /// Rises when history went backwards.
    pub incarnation: u32,
    /// The CloudEvents `source` of its events.
    pub producer: String,
    /// The latest claim, once one was made.
    pub claim: Option<Claim>,
}

impl StoreIdentity {
    /// The id of the bookkeeping that reads this store, once one has claimed it.
    pub fn bookkeeping(&self) -> Option<&str> {
        self.claim.as_ref().map(|claim| claim.bookkeeping.as_str())
    }
}

/// A route as the business store knows it, so that a lost bookkeeping is noticed and the writer knows the sinks' limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// The route.
    pub route: RouteName,
    /// What it takes.
    pub filter: Filter,
    /// Where it started.
    pub start: Start,
    /// The start as a position of the source, fixed when the route was registered, where the start is one.
    pub start_position: Option<String>,
    /// The largest event its sink takes, in bytes; the writer refuses larger ones.
    pub max_event_bytes: u64,
    /// Whether it takes every event of each key it takes; false for good once it did not.
    pub gapless: bool,
    /// When it was registered.
    pub registered: Timestamp,
}

/// That a bookkeeping reads a store. The bookkeeping notes its claims before it makes them, so that a store which holds
/// a claim of this bookkeeping that this bookkeeping knows nothing of was claimed by a copy of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The bookkeeping's id.
    pub bookkeeping: String,
    /// The epoch of the lease under which it reads.
    pub epoch: u64,
    /// Random, new for each claim: tells a copied bookkeeping from its original.
    pub nonce: String,
}

impl Claim {
    /// Whether bookkeeping `id`, which noted the claims `noted`, by epoch, may put its own in place of this one: it noted
    /// this one itself, or this one is older than all that it noted, and so in an older copy of the store.
    pub fn is_followed_by(&self, id: &str, noted: &[Claim]) -> bool {
        let is_older = noted.first().is_some_and(|first| self.epoch < first.epoch);
        self.bookkeeping == id && (is_older || noted.contains(self))
    }
}

/// Something once read: proof of which history a bookkeeping has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Where it was read.
    pub position: Position,
    /// Whose commit it was.
    pub commit: CommitId,
}

/// How a store's present history compares with what was read before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// The latest witness is found in the store, or there is none yet.
    Whole,
    /// History went backwards.
    Lost {
        /// The last position at which store and witnesses agree; `None` if at none that is still kept.
        agreed: Option<Position>,
        /// The first known position at which they do not.
        lost: Position,
        /// Entries in the store behind `agreed`, some of which may be older than the loss.
        behind: u64,
    },
}

/// What may be purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Nothing.
    Off,
    /// Published entries recorded before this time.
    Before(Timestamp),
    /// All published entries but the newest so many.
    Newest(u64),
}

/// What a purge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Entries removed.
    pub entries: u64,
    /// Whether more can be removed now.
    pub more: bool,
}

/// A transaction of the store's database that has not ended: its entries, if it has any, cannot be read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Whose it is, and how it can be ended, for people.
    pub holder: String,
    /// When it began, or, where that cannot be known, by when it surely had.
    pub since: Timestamp,
}

/// A business store, seen by a relay. All of these are rare; none is part of publishing.
#[async_trait]
pub trait BusinessStore: Send + Sync {
    /// # Errors
    /// [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible) if the tables are missing or of another version.
    async fn identity(&self) -> Result<StoreIdentity, StoreError>;

    /// Makes `claim` the store's, if the store's is `seen` still, or `claim` already, as after a lost answer; says
    /// whether it is. Reads done for an older claim fail from then on.
    ///
    /// # Errors
    /// As the store gave it.
    async fn claim(&self, claim: &Claim, seen: Option<&Claim>) -> Result<bool, StoreError>;

    /// Gives the store to whichever bookkeeping claims it next, whatever claimed it before. That may be a copy of the
    /// former one: `outbox adopt` makes a claim in place of the former one instead.
    ///
    /// # Errors
    /// As the store gave it.
    async fn disown(&self) -> Result<(), StoreError>;

    /// The registered routes, by name.
    ///
    /// # Errors
    /// As the store gave it.
    async fn routes(&self) -> Result<Vec<Registration>, StoreError>;

    /// Registers a route, or, if it is registered, takes over its filter, size and `gapless` (never from false to
    /// true) and leaves its start. Gives what is registered then.
    ///
    /// # Errors
    /// As the store gave it.
    async fn register(&self, registration: Registration) -> Result<Registration, StoreError>;

    /// Gives a registered route another name.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if `from` is not registered or `to` is.
    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError>;

    /// Forgets a route, so that retention no longer waits for it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is not registered.
    async fn retire_route(&self, route: &RouteName) -> Result<(), StoreError>;

    /// Removes one small batch of entries before `passed`, which every route is past; the entry at `passed` stays, as
    /// the proof of this history. Holds a lock that delays writers for milliseconds at most.
    ///
    /// # Errors
    /// As the store gave it.
    async fn purge(&self, passed: &Position, retention: Retention) -> Result<Purged, StoreError>;

    /// How long after it was recorded the store deletes an entry by itself, published or not; `None` where an entry stays
    /// until it is [purged](Self::purge). A relay that lags by half of it alarms.
    fn expires_after(&self) -> Option<Duration> {
        None
    }

    /// How often to tell the store what every route is past, by [`keep_status`](Self::keep_status); `None`: never, for nobody
    /// looks.
    fn status_interval(&self) -> Option<Duration> {
        None
    }

    /// Notes for others than the relay that every route is past `passed`, where the store's layout has a place for it. One
    /// small batch; gives whether there is more to note. Nothing is ever read by it.
    ///
    /// # Errors
    /// As the store gave it.
    async fn keep_status(&self, passed: &Position) -> Result<bool, StoreError> {
        let _ = passed;
        Ok(false)
    }

    /// Compares the store with `witnesses`, newest first.
    ///
    /// # Errors
    /// As the store gave it.
    async fn agreement(&self, witnesses: &[Witness]) -> Result<Agreement, StoreError>;

    /// How many entries lie behind `agreed`, or how many there are; `None`, unless it is implemented, where the source can
    /// tell. A store whose source reads a stream has to say it itself: the stream of a restored table holds none of them.
    ///
    /// # Errors
    /// As the store gave it.
    async fn entries_behind(&self, agreed: Option<&Position>) -> Result<Option<u64>, StoreError> {
        let _ = agreed;
        Ok(None)
    }

    /// Raises the incarnation, and moves entries behind `agreed` that `restamp` says were written after the loss into
    /// it. Gives the new incarnation.
    ///
    /// # Errors
    /// As the store gave it.
    async fn raise_incarnation(&self, agreed: Option<&Position>, restamp: bool) -> Result<u32, StoreError>;

    /// Whether the store refuses to read behind `position` even where all that was read is there: because what its server
    /// counts history by, its log or its transactions, does not reach so far.
    ///
    /// # Errors
    /// As the store gave it.
    async fn is_refused(&self, position: &Position) -> Result<bool, StoreError> {
        let _ = position;
        Ok(false)
    }

    /// Positions to go on at in place of those that are [refused](Self::is_refused): past nothing that these are not past.
    /// What of `witnesses` is there tells how far anything was read. Raises the incarnation where entries may have been lost.
    ///
    /// # Errors
    /// As the store gave it.
    async fn anchored(&self, positions: &[Position], witnesses: &[Witness]) -> Result<Vec<Position>, StoreError> {
        let _ = witnesses;
        Ok(positions.to_vec())
    }

    /// The transaction that has been open for longest, for a status, of those that write; `None` where the store cannot
    /// tell, or none is.
    ///
    /// # Errors
    /// As the store gave it.
    async fn oldest_transaction(&self) -> Result<Option<OpenTransaction>, StoreError> {
        Ok(None)
    }
}
