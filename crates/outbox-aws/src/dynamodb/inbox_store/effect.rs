//! What a handler does: actions that commit together with the record that they were done.

use aws_sdk_dynamodb::{Client, types::TransactWriteItem};
use outbox::{Event, StoreError};

use crate::dynamodb::{
    calls::{Calls, attempted},
    item::Item,
};

/// What a handler writes: actions on the consumer's own items, committed in one `TransactWriteItems` with the record that
/// the event was applied.
///
/// Nothing is sent before all handlers of the transaction have answered: a handler reads items as they are, not as earlier
/// handlers of the transaction leave them. Where two of them act on one item, they are put into transactions of their own;
/// where an action's condition fails, its handler is asked anew, and after the third time its event is tried again later.
pub struct Effect {
    client: Client,
    calls: Calls,
    actions: Vec<(Doer, TransactWriteItem)>,
    doer: Doer,
}

/// Whose action it is: as the handler said, or the so-manieth of its transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Doer {
    Event(String),
    Number(usize),
}

impl Effect {
    pub(super) fn new(client: &Client, calls: &Calls) -> Self {
        Self { client: client.clone(), calls: calls.clone(), actions: Vec::new(), doer: Doer::Number(0) }
    }

    /// Adds an action. A transaction takes 100 of them, some five of which an event needs for its record, and 4 MB.
    pub fn action(&mut self, action: TransactWriteItem) {
        self.actions.push((self.doer.clone(), action));
    }

    /// An item as it is now: a consistent read, tried again while DynamoDB is busy.
    ///
    /// # Errors
    /// As DynamoDB says.
    pub async fn get(&self, table: &str, key: Item) -> Result<Option<Item>, StoreError> {
        self.calls.get(table, key).await.map_err(attempted("reading an item of the consumer's own"))
    }

    /// The client, to read by. What is written by it does not commit with the event.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What follows is done for `event`.
    pub(super) fn is_for(&mut self, event: &Event) {
        self.doer = Doer::Event(format!("{} {}", event.source(), event.id()));
    }

    /// What follows is another handler's.
    pub(super) fn next(&mut self) {
        let number = match self.doer {
            Doer::Number(number) => number + 1,
            Doer::Event(_) => self.actions.len() + 1,
        };
        self.doer = Doer::Number(number);
    }

    pub(super) fn doer(&self) -> &Doer {
        &self.doer
    }

    pub(super) fn len(&self) -> usize {
        self.actions.len()
    }

    /// Takes back all behind the first so many.
    pub(super) fn truncate(&mut self, len: usize) {
        self.actions.truncate(len);
    }

    pub(super) fn actions(&self) -> &[(Doer, TransactWriteItem)] {
        &self.actions
    }
}
