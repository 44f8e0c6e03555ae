//! Writing entries in the caller's own `TransactWriteItems`.
//!
//! The caller hands over its actions and its events; [`Transaction::commit`] adds an entry for each key, moves the key's
//! head, and sends all of it as one transaction, under one token however often it is sent. The head is an item of the table
//! of heads, or the caller's own conditional update of the aggregate ([`Transaction::head_at`]).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_sdk_dynamodb::{Client, types::TransactWriteItem};
use outbox::{Clock, CommitId, Entropy, Key, NewEvent, Place, Receipt, StoreError, System, writer::Settled};

use super::{calls::Calls, schema::Tables, source::SLACK};

mod error;
mod heads;
pub(super) mod limits;
mod outcome;
mod prepared;
mod settle;

pub use error::CommitError;
pub use prepared::Prepared;

use heads::Heads;

/// How long a transaction is tried again unless said otherwise.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);
/// An entry says when it was first sent, and a recovery from the table goes by that: half of what it looks back is for
/// transactions that are sent again and again, the other half for clocks that differ.
const LONGEST_PATIENCE: Duration = Duration::from_secs(SLACK.as_secs() / 2);

/// Writes entries. Cheap to clone, and to share between tasks; one for the life of a process, for it remembers heads.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    calls: Calls,
    tables: Tables,
    heads: Arc<Heads>,
}

impl Writer {
    /// A writer to `tables`, on the machine's clock and entropy. The client's own retries are not used.
    pub fn new(client: &Client, tables: Tables) -> Self {
        let calls = Calls::new(client, Arc::new(System), Arc::new(System), DEFAULT_PATIENCE);
        Self { client: client.clone(), calls, tables, heads: Arc::default() }
    }

    /// Takes the time of entries, and the deadlines, from `clock`.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        let calls = Calls::new(&self.client, clock, self.calls.entropy.clone(), self.calls.patience);
        Self { calls, ..self }
    }

    /// Takes commit ids, tokens, jitter, and ids of events without a key, from `entropy`.
    pub fn entropy(self, entropy: Arc<dyn Entropy>) -> Self {
        let calls = Calls::new(&self.client, self.calls.clock.clone(), entropy, self.calls.patience);
        Self { calls, ..self }
    }

    /// How long a transaction is tried again after conflicts, throttles and lost answers; an attempt that is under way
    /// then is awaited, for six seconds at most. Half an hour at most, or each transaction is refused: a relay that recovers
    /// from the table looks back by an hour, for this and for clocks that differ.
    pub fn patience(self, patience: Duration) -> Self {
        let calls = Calls::new(&self.client, self.calls.clock.clone(), self.calls.entropy.clone(), patience);
        Self { calls, ..self }
    }

    /// A transaction with nothing in it yet.
    pub fn transaction(&self) -> Transaction {
        Transaction {
            writer: self.clone(),
            actions: Vec::new(),
            events: Vec::new(),
            expected: BTreeMap::new(),
            own_heads: BTreeMap::new(),
            commit: None,
        }
    }

    /// The place that the last of `events` events gets in the entry behind `after`: what an [own head](Transaction::head_at)
    /// has to hold.
    ///
    /// # Errors
    /// [`CommitError::Write`] if the store's identity cannot be read.
    pub async fn place_behind(&self, after: Place, events: u32) -> Result<Place, CommitError> {
        let identity =
            self.heads.identity(&self.calls, &self.tables, after.incarnation).await.map_err(error::unread)?;
        Ok(Place::new(identity.incarnation, after.sequence + 1, events.saturating_sub(1)))
    }

    /// What became of a commit whose answer was lost, as [`CommitError::Unsettled`] says. Ask when the call that made it has
    /// ended: before, it may yet commit.
    ///
    /// A key's entry is found until it expires, and settles a commit that lost its number to another one for ever. Where
    /// neither is there, the key's head is changed so that a request still on its way fails: only then it is
    /// [`Settled::NotCommitted`]. Where there is no head to change, for it would be the key's first entry, or the head is the
    /// caller's own, the answer is [`Settled::Unknown`]: repeat the transaction under the same [commit
    /// id](Transaction::commit_id), or look at the caller's own item.
    ///
    /// # Errors
    /// As DynamoDB says.
    pub async fn settle(&self, receipt: &Receipt) -> Result<Settled, StoreError> {
        settle::settle(&self.calls, &self.tables, receipt).await
    }
}

/// The caller's own head of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OwnHead {
    /// Which of the caller's actions moves it.
    action: usize,
    /// The place of the key's last event, as it was when the caller read it.
    after: Place,
}

/// One transaction: the caller's actions and the events about them. Nothing is sent before its
/// [`commit`](Self::commit); dropped, it leaves nothing.
pub struct Transaction {
    writer: Writer,
    actions: Vec<TransactWriteItem>,
    events: Vec<NewEvent>,
    expected: BTreeMap<Key, u64>,
    own_heads: BTreeMap<Key, OwnHead>,
    commit: Option<CommitId>,
}

impl Transaction {
    /// Adds one of the caller's own actions. Gives its position, which errors name.
    pub fn action(&mut self, action: TransactWriteItem) -> usize {
        self.actions.push(action);
        self.actions.len() - 1
    }

    /// Adds events. All of one key become one entry, in the order in which they are added; an event without a key becomes
    /// one of its own.
    pub fn write(&mut self, events: impl IntoIterator<Item = NewEvent>) -> &mut Self {
        self.events.extend(events);
        self
    }

    /// The transaction is refused unless `key`'s latest sequence is `sequence`, 0 if it has no entry: what the caller read
    /// before it decided. Holds whether or not there is an event of that key. For a key whose head is the caller's own, its
    /// own condition says so.
    pub fn expecting(&mut self, key: Key, sequence: u64) -> &mut Self {
        self.expected.insert(key, sequence);
        self
    }

    /// The caller's own `action` is the head of `key`: it updates the aggregate on the condition that nobody did since it
    /// was read. `after` is the place of the key's last event as the aggregate has it, [`Place::ORIGIN`] for none; the
    /// action has to put there the place of this transaction's last event of the key, which [`Writer::place_behind`] gives.
    /// It must rise with each entry of the key, and not without one.
    ///
    /// Nothing is read and no head is kept for such a key. All of its writers have to do the same, for ever.
    pub fn head_at(&mut self, key: Key, action: usize, after: Place) -> &mut Self {
        self.own_heads.insert(key, OwnHead { action, after });
        self
    }

    /// The commit's id, in place of a random one. A call that is repeated under the same id by another process, because
    /// the first one is gone, is recognised: if each of its keys has an [expected](Self::expecting) version or an [own
    /// head](Self::head_at), as in the first one, or its events have no key.
    pub fn commit_id(&mut self, commit: CommitId) -> &mut Self {
        self.commit = Some(commit);
        self
    }

    /// Reads what has to be read, numbers the entries, and checks every limit. Nothing is sent yet.
    ///
    /// # Errors
    /// [`CommitError`]; nothing was written.
    pub async fn prepare(mut self) -> Result<Prepared, CommitError> {
        self.writer.calls = self.writer.calls.together();
        Prepared::new(self).await
    }

    /// Commits. Gives a receipt an entry: keys in sorted order, then the events without a key in the caller's order.
    ///
    /// *Durable* when it returns. *Cancellation*: a dropped call may have committed; repeat it under the same [commit
    /// id](Self::commit_id).
    ///
    /// # Errors
    /// [`CommitError`]; nothing was written, but for [`CommitError::Unsettled`].
    pub async fn commit(self) -> Result<Vec<Receipt>, CommitError> {
        self.prepare().await?.carry_out().await
    }
}
