//! The inbox in a DynamoDB table, so that record and effect are one `TransactWriteItems`.
//!
//! One thread takes whatever is queued into one transaction: calls that come while one commits share the next one. A
//! handler adds its own actions to it ([`Effect`]).
//!
//! # Layout 1
//! The table's partition key is `id`, its sort key `part`, both text; items expire by `expires_at`. It may hold the inboxes of
//! several consumers, here `C`. A lane is a producer and a key, or an event without order.
//!
//! | id | part | holds |
//! |---|---|---|
//! | `consumers` | `C` | that there is the inbox; its layout and mode |
//! | `C/lane/` lane | `record` | the mark, and the trouble, if the lane keeps events |
//! | | `kept/` place | an event that is kept; what does not fit one item is in `rest/` place `/1`, `/2` … |
//! | | `wait`, `waiter/` lane | what the lane waits for; what waits for it |
//! | `C/troubles` | lane | a lane in trouble, and when it is due |
//! | `C/event/` producer and id | `-` | a remembered id, which expires once its event is done with |
//! | `C/counts/0` to `15` | `-` | what was done so far, spread over some items |
//! | `C/numbers` | `-` | the last number of a kept event |

use std::{future::Future, sync::Arc, time::Duration};

use aws_sdk_dynamodb::Client;
use outbox::{
    Clock, Entropy, ErrorKind, Event, StoreError, System,
    inbox::{Answer, Handler},
    inbox_store::{InboxStore, Job},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    calls::Calls,
    item::{number, text_of},
    schema,
};

mod commit;
mod effect;
mod ids;
mod items;
mod kept;
mod lanes;
mod operations;
mod table;
mod thread;
mod tx;
mod waits;
mod whole;
mod writes;

pub use effect::Effect;
pub use tx::DynamoTx;

use table::{LAYOUT, Range, Table};
use thread::{Queued, Ticket};
use writes::{Condition, Writes};

/// Calls that wait for the inbox's thread at most; further ones wait to be queued.
const QUEUE: usize = 256;
/// The longest name of a consumer.
const LONGEST_CONSUMER: usize = 64;

/// How an inbox is opened.
#[derive(Clone)]
pub struct InboxOptions {
    /// How long a call is tried again after conflicts, throttles and lost answers, and how long work is done anew that others
    /// were faster in.
    pub patience: Duration,
    /// Whether marks are taken for granted rather than read before, where an event says which one it follows: a read less for
    /// each batch. Then a handler may be asked before the effects of the events before are committed, and must not read what
    /// it writes; it is asked anew, in turn, if it was too early. False, unless set.
    pub takes_marks_for_granted: bool,
    /// What time it is, for deadlines. What an inbox records has the time of its layer's clock.
    pub clock: Arc<dyn Clock>,
    /// Where versions, tokens and jitter come from.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for InboxOptions {
    fn default() -> Self {
        let patience = Duration::from_secs(10);
        Self { patience, takes_marks_for_granted: false, clock: Arc::new(System), entropy: Arc::new(System) }
    }
}

/// An inbox in a DynamoDB table. Cloning gives another handle to it, with the same thread, which ends when the last one is
/// dropped.
///
/// Several processes may open the same inbox: each event is applied by one of them, and a key's events in turn whoever
/// applies them. One handle works in one transaction at a time; for more at once, open it several times.
///
/// *Limits*: a batch whose transaction is more than DynamoDB takes, 100 actions, 4 MB or two actions on one item, is done in
/// parts. An event whose handler alone does more than that is tried again later, as if it had failed.
pub struct DynamoInbox {
    queue: mpsc::Sender<Box<dyn Queued>>,
}

impl Clone for DynamoInbox {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl DynamoInbox {
    /// Makes the table of inboxes, if it is not there, and the inbox of `consumer` in it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a name that is none (1 to 64 letters, digits, `-`, `_` and `.`);
    /// [`ErrorKind::Incompatible`] if the table is something else; otherwise as DynamoDB says.
    pub async fn init(client: &Client, table: &str, consumer: &str, options: &InboxOptions) -> Result<(), StoreError> {
        check_name(consumer)?;
        let InboxOptions { clock, entropy, .. } = options.clone();
        let making = Calls::new(client, clock, entropy, schema::PATIENCE);
        schema::make_inboxes(&making, table).await?;
        let table = Table::new(client, making, table, consumer);
        let mut item = table.names.inbox();
        item.insert("layout".to_owned(), number(LAYOUT));
        let put = Writes(&table.name).put(item, Condition::absent())?;
        let token = table.calls.token();
        // That it is there already is as well.
        match table.calls.transact(vec![put], &token).await {
            Ok(()) | Err(super::calls::NotCommitted::Conditions(_)) => table.consumer().await.map(drop),
            Err(super::calls::NotCommitted::Refused { failure, .. } | super::calls::NotCommitted::Failed(failure)) => {
                Err(failure.store_error("making an inbox"))
            }
        }
    }

    /// The inbox of `consumer` in `table`. It is looked for when it is first used, which gives [`ErrorKind::Invalid`] if there
    /// is none, or [`ErrorKind::Incompatible`] if it is of another version.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a name that is none; [`ErrorKind::Unavailable`] if the system gives no thread.
    pub fn open(client: &Client, table: &str, consumer: &str, options: InboxOptions) -> Result<Self, StoreError> {
        check_name(consumer)?;
        let unavailable = |what: &str, error: std::io::Error| {
            StoreError::new(ErrorKind::Unavailable, format!("the inbox's {what} could not be started")).because(error)
        };
        let calls = Calls::new(client, options.clock, options.entropy, options.patience);
        let table = Table::new(client, calls, table, consumer);
        let reads_marks = !options.takes_marks_for_granted;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| unavailable("runtime", error))?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name(format!("inbox {consumer}"))
            .spawn(move || runtime.block_on(thread::run(table, reads_marks, jobs)))
            .map_err(|error| unavailable("thread", error))?;
        Ok(Self { queue })
    }

    /// The names of the consumers that have an inbox in `table`.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] if there is no such table; otherwise as DynamoDB says.
    pub async fn consumers(client: &Client, table: &str, options: &InboxOptions) -> Result<Vec<String>, StoreError> {
        let InboxOptions { clock, entropy, patience, .. } = options.clone();
        let table = Table::new(client, Calls::new(client, clock, entropy, patience), table, "");
        let range = Range { id: items::CONSUMERS.to_owned(), prefix: "", after: None, limit: None };
        let found = table.query(range, "looking for inboxes").await?;
        Ok(found.iter().filter_map(|item| text_of(item, "part")).map(str::to_owned).collect())
    }
}

fn check_name(consumer: &str) -> Result<(), StoreError> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if (1..=LONGEST_CONSUMER).contains(&consumer.len()) && consumer.chars().all(allowed) {
        return Ok(());
    }
    let message =
        "consumer: an inbox in DynamoDB is named by 1 to 64 letters, digits, `-`, `_` and `.`: use such a name";
    Err(StoreError::new(ErrorKind::Invalid, message))
}

impl InboxStore for DynamoInbox {
    type Tx<'t> = DynamoTx<'t>;

    fn transact<J, O>(&self, job: J) -> impl Future<Output = Result<O, StoreError>> + Send
    where
        J: for<'t> Job<DynamoTx<'t>, Output = O>,
        O: Send + 'static,
    {
        let queue = self.queue.clone();
        async move {
            let (answer, answered) = oneshot::channel();
            let ended =
                |_| StoreError::new(ErrorKind::Unavailable, "the inbox's thread has ended: start the consumer anew");
            queue.send(Box::new(Ticket::new(job, answer))).await.map_err(|error| ended(error.0))?;
            answered.await.unwrap_or_else(|_| {
                Err(StoreError::new(ErrorKind::Unavailable, "the inbox's thread ended meanwhile").uncertain())
            })
        }
    }
}

/// A handler of a plain async function, which is given what it writes through and the event.
///
/// Its actions commit together with the record that they were done. It may answer `()`, an [`Answer`], or a `Result` of
/// either, whose error asks for another attempt.
///
/// ```
/// use aws_sdk_dynamodb::{error::BuildError, types::{AttributeValue, TransactWriteItem, Update}};
/// use outbox::Event;
/// use outbox_aws::dynamodb::{Effect, handler_fn};
///
/// let ledger = handler_fn(async |effect: &mut Effect, event: &Event| -> Result<(), BuildError> {
///     let update = Update::builder()
///         .table_name("ledger")
///         .key("account", AttributeValue::S(event.subject().unwrap_or_default().to_owned()))
///         .update_expression("ADD purchases :one")
///         .expression_attribute_values(":one", AttributeValue::N("1".to_owned()));
///     effect.action(TransactWriteItem::builder().update(update.build()?).build());
///     Ok(())
/// });
/// ```
pub fn handler_fn<A, F>(handle: F) -> HandlerFn<F>
where
    F: AsyncFn(&mut Effect, &Event) -> A + Send + Sync + 'static,
    A: Into<Answer>,
{
    HandlerFn(handle)
}

/// A handler made by [`handler_fn`].
pub struct HandlerFn<F>(F);

impl<'t, A, F> Handler<DynamoTx<'t>> for HandlerFn<F>
where
    F: AsyncFn(&mut Effect, &Event) -> A + Send + Sync + 'static,
    A: Into<Answer>,
{
    async fn handle(&self, tx: &mut DynamoTx<'t>, event: &Event) -> Answer {
        tx.effect.is_for(event);
        (self.0)(tx.effect(), event).await.into()
    }
}
