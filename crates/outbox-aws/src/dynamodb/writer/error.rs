//! Why a transaction was not committed.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use outbox::{Receipt, StoreError, WriteError};

/// Why a transaction was not committed. Nothing was written, but for [`Unsettled`](Self::Unsettled).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// What every writer may say: a conflict with another writer of the key, an event that is too large.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The condition of one of the caller's own actions failed.
    #[error("the condition of action {action} failed: read its item again and decide again")]
    Condition {
        /// Its position.
        action: usize,
        /// The item as it is, if the action asks for it (`ReturnValuesOnConditionCheckFailure`).
        item: Option<HashMap<String, AttributeValue>>,
    },
    /// DynamoDB refuses one of the actions for what it is.
    #[error("action {action} is refused: {message}")]
    Refused {
        /// Its position; the entries' and heads' own come behind the caller's.
        action: usize,
        /// What was said.
        message: String,
    },
    /// More actions than a transaction takes.
    #[error(
        "the transaction has {actions} actions, {own} of them for its entries and heads; DynamoDB takes 100: commit fewer items or fewer keys at once"
    )]
    TooManyActions {
        /// All of them.
        actions: usize,
        /// Those that the writer added.
        own: usize,
    },
    /// An item larger than an item may be.
    #[error(
        "{what} has {bytes} bytes, more than the {limit} of an item: make its payloads smaller, write fewer events of the key at once, or put a payload elsewhere and write a reference"
    )]
    ItemTooLarge {
        /// Which one.
        what: String,
        /// Its bytes, as DynamoDB counts them.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More bytes than a transaction takes.
    #[error(
        "the transaction has {bytes} bytes, more than the {limit} that DynamoDB takes: commit fewer items at once, or make the payloads smaller"
    )]
    TooLargeTogether {
        /// The bytes of all its items, as DynamoDB counts them.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Two actions on one item.
    #[error(
        "actions {first} and {second} are on the same item of table `{table}`, which DynamoDB does not take: make one of them; a check and an update become an update with a condition"
    )]
    TwoActionsOnOneItem {
        /// The position of the first one.
        first: usize,
        /// The position of the second one.
        second: usize,
        /// Their table.
        table: String,
    },
    /// [`Transaction::head_at`](super::Transaction::head_at) names an action that there is none of.
    #[error(
        "the head of `{key}` is to be action {action}, but there are {actions}: give the position that `action` gave"
    )]
    NoSuchAction {
        /// The key.
        key: String,
        /// The position named.
        action: usize,
        /// How many there are.
        actions: usize,
    },
    /// The answer was lost, and time was up before another came, or another attempt failed for what may be otherwise when the
    /// first one arrives, as one of the caller's own conditions: it may have committed, or may yet. Ask
    /// [`Writer::settle`](super::Writer::settle) with the receipt of a key, if there is one, or repeat it under the same
    /// commit id.
    #[error("it may have committed: {message}; settle it by its receipts")]
    Unsettled {
        /// What it wrote, if it committed.
        receipts: Vec<Receipt>,
        /// What was said the last time.
        message: String,
    },
}

/// What a reading of the store said, as a writer says it.
pub(super) fn unread(error: StoreError) -> CommitError {
    use outbox::ErrorKind;
    let message = error.to_string();
    CommitError::Write(match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Full => WriteError::RetryTransaction { message },
        ErrorKind::Incompatible => WriteError::Incompatible(message),
        ErrorKind::Fenced
        | ErrorKind::HistoryChanged
        | ErrorKind::Trimmed
        | ErrorKind::Ownership
        | ErrorKind::NotPermitted
        | ErrorKind::Invalid => WriteError::Store { message, error: error.into() },
    })
}
