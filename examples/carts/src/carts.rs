//! The carts in DynamoDB: each change and the event about it commit together, or neither does.

use std::{sync::Arc, time::Duration};

use aws_sdk_dynamodb::{Client, config::retry::RetryConfig, types::AttributeValue};
use outbox::{Clock, CommitId, Entropy, Key, NewEvent, Place, System, WriteError, writer::Settled};
use outbox_aws::dynamodb::{CommitError, Writer};

use crate::{
    cart::{Cart, Change, NewCart},
    tables::Names,
};

mod error;
mod item;
mod repeat;

pub use error::CartsError;
pub use item::{Stored, Version};
pub use repeat::Repeat;

/// How long a change is tried before the client is asked to come again: well within what API Gateway waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the writer tries one transaction again.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);
/// Each pause after a lost race is drawn from up to here, times the races lost.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// The carts. Clones share what they remember; make one for the life of a process.
#[derive(Clone)]
pub struct Carts {
    client: Client,
    names: Names,
    writer: Writer,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// A request that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The cart as it was then.
    pub stored: Stored,
    /// It had been done before: nothing happened now.
    pub is_repeated: bool,
}

/// What became of one attempt.
enum Attempt {
    Done(Stored),
    /// The same request was done meanwhile by somebody else.
    Repeated,
    /// Another request changed the cart first.
    Outrun,
}

impl Carts {
    /// The carts in the tables `names`, on the machine's clock and entropy.
    pub fn new(client: &Client, names: Names) -> Self {
        let retrying = client.config().to_builder().retry_config(RetryConfig::standard()).build();
        let writer = Writer::new(client, names.outbox.clone()).patience(COMMIT_PATIENCE);
        Self { client: Client::from_conf(retrying), names, writer, clock: Arc::new(System), entropy: Arc::new(System) }
    }

    /// Takes times from `clock`, and ids, tokens and jitter from `entropy`.
    pub fn injected(self, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let writer = self.writer.clock(clock.clone()).entropy(entropy.clone());
        Self { writer, clock, entropy, ..self }
    }

    /// A new cart; `repeat` recognises a request that is sent again.
    ///
    /// # Errors
    /// [`CartsError`]; there is no cart then, but for [`CartsError::Unsettled`].
    pub async fn create(&self, new: NewCart, repeat: Option<&Repeat>) -> Result<Done, CartsError> {
        if let Some(done) = self.done_before(repeat).await? {
            return Ok(done);
        }
        let id = CommitId(self.entropy.sixteen()).to_string();
        let (cart, event) = Cart::create(id, new, self.clock.wall()).map_err(|error| error::of_event(&error))?;
        match self.commit(None, cart, event, repeat).await? {
            Attempt::Done(stored) => Ok(Done { stored, is_repeated: false }),
            Attempt::Repeated => self.done_before(repeat).await?.ok_or_else(error::outrun),
            Attempt::Outrun => Err(error::outrun()),
        }
    }

    /// Changes a cart, if it is at one of `versions` where they are given; else it is read and decided again for as long as
    /// other requests are faster.
    ///
    /// # Errors
    /// [`CartsError`]; the cart is as it was, but for [`CartsError::Unsettled`].
    pub async fn change(
        &self,
        id: &str,
        change: &Change,
        versions: Option<&[Version]>,
        repeat: Option<&Repeat>,
    ) -> Result<Done, CartsError> {
        let until = self.clock.moment() + PATIENCE;
        for races in 1.. {
            if let Some(done) = self.done_before(repeat).await? {
                return Ok(done);
            }
            let before = self.get(id).await?.ok_or(CartsError::NotFound)?;
            if versions.is_some_and(|versions| !versions.contains(&before.version())) {
                return Err(CartsError::OtherVersion { current: before.version() });
            }
            let (cart, event) = before.cart.change(change, self.clock.wall())?;
            let event = event.map_err(|error| error::of_event(&error))?;
            match self.commit(Some(&before), cart, event, repeat).await? {
                Attempt::Done(stored) => return Ok(Done { stored, is_repeated: false }),
                Attempt::Repeated => {}
                Attempt::Outrun if self.clock.moment() >= until => break,
                Attempt::Outrun => tokio::time::sleep(self.pause(races)).await,
            }
        }
        Err(error::outrun())
    }

    /// A cart as it is now; `None` if there is none of this id.
    ///
    /// # Errors
    /// [`CartsError::Busy`] or [`CartsError::Store`].
    pub async fn get(&self, id: &str) -> Result<Option<Stored>, CartsError> {
        if !is_id(id) {
            return Ok(None);
        }
        let get = self.client.get_item().table_name(&self.names.carts).key("id", AttributeValue::S(id.to_owned()));
        let found = get.consistent_read(true).send().await.map_err(|error| error::of_call(&error))?;
        found.item.map(|item| Stored::of_item(&item)).transpose()
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`CartsError`] if it does not.
    pub async fn check(&self) -> Result<(), CartsError> {
        self.get(&"0".repeat(32)).await.map(drop)
    }

    /// The cart's item and the entry of its event in **one transaction**, on the condition that the cart is as it was
    /// `before`. The cart's own item is the head of its key: it holds the place of its last event.
    async fn commit(
        &self,
        before: Option<&Stored>,
        cart: Cart,
        event: NewEvent,
        repeat: Option<&Repeat>,
    ) -> Result<Attempt, CartsError> {
        let key = Key::new(cart.key()).map_err(|error| error::of_event(&error))?;
        let after = before.map_or(Place::ORIGIN, |before| before.place);
        let place = self.writer.place_behind(after, 1).await?;
        let stored = Stored { cart, place };
        let mut transaction = self.writer.transaction();
        let head = transaction.action(stored.put(&self.names.carts, before)?);
        transaction.head_at(key, head, after).write([event]);
        let remembered = match repeat {
            Some(repeat) => Some(transaction.action(repeat.put(&self.names.requests, &stored, self.clock.wall())?)),
            None => None,
        };
        let prepared = transaction.prepare().await?;
        if prepared.receipts().first().and_then(|receipt| receipt.first) != Some(place) {
            // The store was adopted in between, and numbers its events anew: look again.
            return Ok(Attempt::Outrun);
        }
        match prepared.commit().await {
            Ok(_) => Ok(Attempt::Done(stored)),
            Err(CommitError::Condition { action, .. }) if Some(action) == remembered => Ok(Attempt::Repeated),
            Err(CommitError::Write(WriteError::Conflict { .. })) => Ok(Attempt::Outrun),
            Err(CommitError::Unsettled { receipts, message }) => {
                let Some(receipt) = receipts.first() else { return Err(CartsError::Unsettled(message)) };
                match self.writer.settle(receipt).await {
                    Ok(Settled::Committed) => Ok(Attempt::Done(stored)),
                    // Done again, it could be done twice, if the first one is under way still.
                    Ok(Settled::NotCommitted | Settled::Unknown) | Err(_) => Err(CartsError::Unsettled(message)),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What was answered to the same request before.
    async fn done_before(&self, repeat: Option<&Repeat>) -> Result<Option<Done>, CartsError> {
        let Some(repeat) = repeat else { return Ok(None) };
        let get = self.client.get_item().table_name(&self.names.requests).key("id", repeat.id());
        let found = get.consistent_read(true).send().await.map_err(|error| error::of_call(&error))?;
        let Some(item) = found.item else { return Ok(None) };
        let stored = repeat.remembered(&item, self.clock.wall())?;
        Ok(stored.map(|stored| Done { stored, is_repeated: true }))
    }

    fn pause(&self, races: u32) -> Duration {
        let most = PAUSE.saturating_mul(races).min(LONGEST_PAUSE).as_micros();
        let most = u64::try_from(most).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.entropy.seed() % most)
    }
}

/// Whether a cart could have this id: nothing else is looked for.
fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
