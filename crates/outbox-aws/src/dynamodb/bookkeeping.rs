//! A relay's own state in a table of its own: leases, checkpoints, and the events that routes keep.
//!
//! # Layout 1
//! The table's partition key is `kind`, its sort key `name`, both text. A route's rows are named by the id that the row of
//! its name leads to, here `R`.
//!
//! | kind | name | holds |
//! |---|---|---|
//! | `meta` | `identity`, `numbers`, `changes` | the bookkeeping's id and layout; the last number drawn; an operator's changes, counted |
//! | `lease` | the lease's name | epoch, beat, holder; the claims noted under it |
//! | `route` | the route's name | `R`, and how many lanes came into trouble so far |
//! | `checkpoint` | `R#` partition | position, and the witnesses before it |
//! | `trouble` | `R#` lane | a lane in trouble: generation, front, how many events, the number of the first |
//! | `kept/R#` lane | the last one's number | an index of up to 4,000 events that were kept together |
//! | `content/` first one's number | a chunk's number | their contents |
//! | `staged` | first one's number | contents that were written before their index |
//! | `passed` | `R#` lane | up to which number what was kept is done with, and yet to be deleted |
//! | `tombstone` | `R#` identity | a discarded event |
//! | `health`, `paused` | `R` | how a route is doing; that it is paused |
//! | `replay` | the replay's id | what was asked for |
//! | `redelivery` | `R#` the batch's first sequence number | what a function did of a batch that comes again |
//! | `watermark` | `R` | how far a route's functions are with the stream, and what it may have forgotten before |
//! | `forgotten` | `R` | a route whose rows are yet to be swept |
//!
//! **A fenced write is one conditional transaction**: a check of the lease (its epoch, and that it was not given up), a
//! check of the route's name, and the rows, each on the condition that it is as it was read. If one is not, all is read
//! again. What takes more rows than a transaction (discarding or erasing hundreds of events, forgetting checkpoints of
//! hundreds of partitions) is several, each of which leaves a state that a relay could have left.
//!
//! **Events of any size and number** are kept in one transaction: its rows are the lane, an index for each 4,000 events, and
//! their contents in chunks. More than three megabytes of contents are staged first, where nothing leads to them; if they are
//! not kept they are deleted at once, or by the next owner of the lease, or whoever erases a key. A settlement moves the number
//! of the lane's first event; indexes and contents before it are deleted afterwards. Until they are, `passed` says so: the next
//! settlement of the lane tries again, the next owner of the lease, and whoever erases a key.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use outbox::{
    Bookkeeping, Clock, Entropy, Key, Operator, PartitionId, RouteName, StoreError, System,
    bookkeeping::{
        Checkpoint, DeadLetter, Keep, KeepOutcome, Kept, KeptCounts, KeptId, Lane, Lease, LeaseView, Replay,
        RouteHealth, Selector, SettleOutcome, Settlement, Tombstone, Trouble,
    },
    store::{Claim, Witness},
};

use super::{calls::Calls, schema};

mod batch;
mod books;
mod checkpoints;
mod functions;
mod identity;
mod keep;
mod lanes;
mod leases;
mod operator;
mod passed;
mod redelivery;
mod remembered;
mod replays;
mod routes;
pub(super) mod rows;
mod settle;
mod tombstones;
mod watermark;

use books::Books;
use operator::Verdict;
pub use redelivery::Redelivery;
pub use watermark::{HandedIn, Loss, Seen, Watermark};

/// How a bookkeeping is opened.
#[derive(Clone)]
pub struct BookkeepingOptions {
    /// How long a call is tried again after conflicts, throttles and lost answers. Shorter than the failover time of the
    /// leases kept in it.
    pub patience: Duration,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where ids, tokens and jitter come from.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for BookkeepingOptions {
    fn default() -> Self {
        Self { patience: Duration::from_secs(5), clock: Arc::new(System), entropy: Arc::new(System) }
    }
}

/// A bookkeeping in a `DynamoDB` table of its own. A relay, its standby, functions and an operator's commands may open it
/// at once. Cheap to clone.
#[derive(Clone)]
pub struct DynamoBookkeeping {
    books: Books,
}

impl DynamoBookkeeping {
    /// Makes the table, and gives the bookkeeping its id; does nothing where both are there.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`](outbox::ErrorKind::Incompatible) if the table is something else; otherwise as DynamoDB
    /// says.
    pub async fn init(client: &Client, table: &str, options: &BookkeepingOptions) -> Result<(), StoreError> {
        let BookkeepingOptions { clock, entropy, .. } = options;
        let making = Calls::new(client, clock.clone(), entropy.clone(), schema::PATIENCE);
        schema::make_bookkeeping(&making, table).await?;
        let books = Books::new(making, table);
        books.give_identity().await?;
        books.identity().await.map(drop)
    }

    /// Whether there is a bookkeeping in `table`.
    ///
    /// # Errors
    /// As DynamoDB says.
    pub async fn is_there(client: &Client, table: &str, options: BookkeepingOptions) -> Result<bool, StoreError> {
        let BookkeepingOptions { patience, clock, entropy } = options;
        Books::new(Calls::new(client, clock, entropy, patience), table).is_there().await
    }

    /// Opens the bookkeeping in `table`.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`](outbox::ErrorKind::Incompatible) if there is none, or one of another version; otherwise
    /// as DynamoDB says.
    pub async fn open(client: &Client, table: &str, options: BookkeepingOptions) -> Result<Self, StoreError> {
        let BookkeepingOptions { patience, clock, entropy } = options;
        let books = Books::new(Calls::new(client, clock, entropy, patience), table);
        books.identity().await?;
        Ok(Self { books })
    }
}

/// Does a write to its end in its turn, with clones of what it is given.
macro_rules! in_turn {
    ($self:ident, |$books:ident $(, $given:ident)*| $work:expr) => {{
        let $books = $self.books.clone();
        $(let $given = $given.to_owned();)*
        $self.books.in_turn(async move { $work.await }).await
    }};
}
use in_turn;

#[async_trait]
impl Bookkeeping for DynamoBookkeeping {
    async fn id(&self) -> Result<String, StoreError> {
        self.books.identity().await.map(|identity| identity.id)
    }

    async fn lease(&self, name: &str) -> Result<LeaseView, StoreError> {
        self.books.lease(name).await
    }

    async fn take(
        &self,
        name: &str,
        seen: &LeaseView,
        holder: &str,
        duration: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        self.books.take(name, seen, holder, duration).await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        self.books.renew(lease).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        in_turn!(self, |books, lease| books.release(&lease))
    }

    async fn claims(&self, name: &str) -> Result<Vec<Claim>, StoreError> {
        self.books.claims(name).await
    }

    async fn note_claims(&self, lease: &Lease, claims: &[Claim]) -> Result<(), StoreError> {
        in_turn!(self, |books, lease, claims| books.note_claims(&lease, &claims))
    }

    async fn checkpoints(&self, route: &RouteName) -> Result<Vec<Checkpoint>, StoreError> {
        self.books.checkpoints(route).await
    }

    async fn checkpoint(
        &self,
        lease: &Lease,
        route: &RouteName,
        checkpoint: &Checkpoint,
        witness: Option<&Witness>,
    ) -> Result<(), StoreError> {
        let witness = witness.cloned();
        in_turn!(self, |books, lease, route, checkpoint| {
            books.checkpoint(&lease, &route, &checkpoint, witness.as_ref())
        })
    }

    async fn forget_checkpoints(
        &self,
        lease: &Lease,
        route: &RouteName,
        partitions: &[PartitionId],
    ) -> Result<(), StoreError> {
        in_turn!(self, |books, lease, route, partitions| books.forget_checkpoints(&lease, &route, &partitions, false))
    }

    async fn witnesses(&self, partition: &PartitionId) -> Result<Vec<Witness>, StoreError> {
        self.books.witnesses(partition).await
    }

    async fn keep(
        &self,
        lease: &Lease,
        route: &RouteName,
        partition: &PartitionId,
        keep: &Keep,
    ) -> Result<KeepOutcome, StoreError> {
        in_turn!(self, |books, lease, route, partition, keep| books.keep(&lease, &route, &partition, &keep))
    }

    async fn troubles(
        &self,
        route: &RouteName,
        after: Option<&Lane>,
        limit: usize,
    ) -> Result<Vec<Trouble>, StoreError> {
        self.books.troubles(route, after, limit).await
    }

    async fn trouble(&self, route: &RouteName, lane: &Lane) -> Result<Option<Trouble>, StoreError> {
        self.books.trouble(route, lane).await
    }

    async fn kept(&self, route: &RouteName, lane: &Lane, limit: usize) -> Result<Vec<Kept>, StoreError> {
        self.books.kept(route, lane, limit).await
    }

    async fn settle(
        &self,
        lease: &Lease,
        route: &RouteName,
        settlement: &Settlement,
    ) -> Result<SettleOutcome, StoreError> {
        in_turn!(self, |books, lease, route, settlement| books.settle(&lease, &route, &settlement))
    }

    async fn tombstones(&self, route: &RouteName) -> Result<Vec<Tombstone>, StoreError> {
        self.books.tombstones(route).await
    }

    async fn forget_tombstones(
        &self,
        lease: &Lease,
        route: &RouteName,
        passed: &[Tombstone],
    ) -> Result<(), StoreError> {
        in_turn!(self, |books, lease, route, passed| books.forget_tombstones(&lease, &route, &passed))
    }

    async fn note_replayed(&self, lease: &Lease, replay: &str) -> Result<(), StoreError> {
        in_turn!(self, |books, lease, replay| books.note_replayed(&lease, &replay))
    }

    async fn note_health(&self, lease: &Lease, route: &RouteName, health: &RouteHealth) -> Result<(), StoreError> {
        in_turn!(self, |books, lease, route, health| books.note_health(&lease, &route, &health))
    }

    async fn operator_changes(&self) -> Result<u64, StoreError> {
        self.books.operator_changes().await
    }

    async fn kept_counts(&self, route: &RouteName) -> Result<KeptCounts, StoreError> {
        self.books.kept_counts(route).await
    }
}

#[async_trait]
impl Operator for DynamoBookkeeping {
    async fn dead_letters(
        &self,
        route: &RouteName,
        selector: &Selector,
        after: Option<KeptId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.books.dead_letters(route, selector, after, limit).await
    }

    async fn redrive(&self, route: &RouteName, selector: &Selector, now: Timestamp) -> Result<u64, StoreError> {
        in_turn!(self, |books, route, selector| books.change(&route, &selector, &Verdict::Redriven(now)))
    }

    async fn discard(&self, route: &RouteName, selector: &Selector, reason: &str) -> Result<u64, StoreError> {
        let verdict = Verdict::Discarded(reason.to_owned());
        in_turn!(self, |books, route, selector| books.change(&route, &selector, &verdict))
    }

    async fn erase(&self, key: &Key) -> Result<u64, StoreError> {
        in_turn!(self, |books, key| books.erase(&key))
    }

    async fn health(&self, route: &RouteName) -> Result<Option<RouteHealth>, StoreError> {
        self.books.health(route).await
    }

    async fn paused(&self) -> Result<Vec<RouteName>, StoreError> {
        self.books.paused().await
    }

    async fn pause(&self, route: &RouteName, paused: bool) -> Result<(), StoreError> {
        in_turn!(self, |books, route| books.pause(&route, paused))
    }

    async fn replays(&self) -> Result<Vec<Replay>, StoreError> {
        self.books.replays().await
    }

    async fn put_replay(&self, replay: &Replay) -> Result<(), StoreError> {
        in_turn!(self, |books, replay| books.put_replay(&replay))
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        in_turn!(self, |books, from, to| books.rename_route(&from, &to))
    }

    async fn forget_route(&self, route: &RouteName) -> Result<(), StoreError> {
        in_turn!(self, |books, route| books.forget_route(&route))
    }

    async fn routes(&self) -> Result<Vec<RouteName>, StoreError> {
        self.books.routes().await
    }

    async fn renew_id(&self, id: &str) -> Result<(), StoreError> {
        in_turn!(self, |books, id| books.renew_id(&id))
    }

    async fn reset_checkpoint(&self, route: &RouteName, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        in_turn!(self, |books, route, checkpoint| books.reset_checkpoint(&route, &checkpoint))
    }
}
