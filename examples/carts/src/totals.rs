//! A consumer: what each customer has bought, from the carts' events.
//!
//! A relay sends events to `/events` as signed webhooks. Each one is written to a log first, as it came; then the inbox
//! applies it once, in the order of its cart, and its effect commits together with the inbox's record in one
//! `TransactWriteItems`. `GET /totals/{customer}/{currency}` answers the sums. Events that come over a bus are read from a queue
//! in place of webhooks, by `Queue`.

use std::{
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    error::BuildError,
    types::{AttributeValue, TransactWriteItem, Update},
};
use axum::{
    Json, Router,
    extract::{Path as Parts, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::StatusCode;
use outbox::{
    Event, StoreError,
    inbox::{Answer, Applied, Handler, InboxLayer, InboxService, Incoming, receiver},
    signature::Verifier,
};
use outbox_aws::dynamodb::{DynamoInbox, DynamoTx, InboxOptions};
use serde::{Deserialize, Serialize};
use tower::{Layer as _, Service};

use crate::{cart::Cart, carts::CartsError, problem::Problem, tables::make};

mod log;
#[cfg(feature = "queue")]
mod queue;

use log::EventLog;
#[cfg(feature = "queue")]
pub use queue::{Queue, client as queue_client, event as queued_event};

/// How the inbox calls this consumer.
pub const CONSUMER: &str = "totals";
/// How often the inbox looks at what it keeps.
const SWEEP: Duration = Duration::from_secs(5);

/// What a customer has bought in one currency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Carts that were created.
    pub created: u64,
    /// Carts that were checked out.
    pub checked_out: u64,
    /// Units in them.
    pub units: u64,
    /// Their price in all, in minor units.
    pub total: u64,
}

/// The consumer, over its own tables.
#[derive(Clone)]
pub struct Consumer {
    client: Client,
    table: Arc<str>,
    inbox: Inbox,
    log: EventLog,
}

type Inbox = InboxService<DynamoInbox, Sums>;

impl Consumer {
    /// Opens the consumer whose tables are `PREFIX-totals` and `PREFIX-inboxes`, which are made if they are not there; every
    /// event is appended to the file `log`.
    ///
    /// # Errors
    /// [`CartsError::Store`] if a table or the file cannot be made or opened.
    pub async fn open(client: &Client, prefix: &str, log: &Path) -> Result<Self, CartsError> {
        let said = |error: StoreError| CartsError::Store(error.to_string());
        let (table, inboxes) = (format!("{prefix}-totals"), format!("{prefix}-inboxes"));
        make(client, &table).await?;
        // The handler reads nothing, so it may be asked before what came earlier is committed: a call less for each batch.
        let options = InboxOptions { takes_marks_for_granted: true, ..InboxOptions::default() };
        DynamoInbox::init(client, &inboxes, CONSUMER, &options).await.map_err(said)?;
        let store = DynamoInbox::open(client, &inboxes, CONSUMER, options).map_err(said)?;
        let log = EventLog::open(log).map_err(|error| {
            CartsError::Store(format!("the log of events `{}` cannot be opened: {error}", log.display()))
        })?;
        let table: Arc<str> = table.into();
        let inbox = InboxLayer::in_order(store).layer(Sums { table: table.clone() });
        Ok(Self { client: client.clone(), table, inbox, log })
    }

    /// The HTTP side: events, believed if `verifier` does, and the sums.
    pub fn router(&self, verifier: Verifier) -> Router {
        receiver::router(self.clone(), receiver::ReceiverSettings::signed(verifier)).merge(self.sums())
    }

    /// The sums alone, where events do not come as webhooks.
    pub fn sums(&self) -> Router {
        Router::new().route("/totals/{customer}/{currency}", get(totals)).with_state(self.clone())
    }

    /// Looks after what the inbox keeps, until `end`.
    pub async fn run(&self, end: impl Future<Output = ()> + Send) {
        self.inbox.run_sweeper(SWEEP, end).await;
    }

    /// What `customer` has bought in `currency`; `None` if nothing is known.
    ///
    /// # Errors
    /// [`CartsError::Store`], with what DynamoDB said.
    pub async fn totals(&self, customer: &str, currency: &str) -> Result<Option<Totals>, CartsError> {
        let get = self.client.get_item().table_name(&*self.table).key("id", id(customer, currency));
        let found = get.consistent_read(true).send().await;
        let found = found.map_err(|error| CartsError::Store(format!("the totals cannot be read: {error}")))?;
        Ok(found.item.map(|item| {
            // `ADD` makes an attribute with the first thing that is added.
            let sum = |name: &str| item.get(name).and_then(|sum| sum.as_n().ok()?.parse().ok()).unwrap_or(0);
            Totals {
                created: sum("created"),
                checked_out: sum("checked_out"),
                units: sum("units"),
                total: sum("total"),
            }
        }))
    }
}

async fn totals(State(consumer): State<Consumer>, Parts((customer, currency)): Parts<(String, String)>) -> Response {
    let found = match consumer.totals(&customer, &currency).await {
        Ok(Some(totals)) => return Json(totals).into_response(),
        Ok(None) => Problem::new(StatusCode::NOT_FOUND, "nothing is known of this customer in this currency"),
        Err(error) => Problem::from(error),
    };
    found.into_response().map(Into::into)
}

/// The log before the inbox: what came is written down before anything is done with it.
impl Service<Vec<Incoming>> for Consumer {
    type Response = Vec<Applied>;
    type Error = StoreError;
    type Future = Pin<Box<dyn Future<Output = Result<Vec<Applied>, StoreError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StoreError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, incoming: Vec<Incoming>) -> Self::Future {
        let (log, mut inbox) = (self.log.clone(), self.inbox.clone());
        Box::pin(async move {
            log.append(&incoming).await?;
            inbox.call(incoming).await
        })
    }
}

/// The handler: adds each cart to its customer's sums.
struct Sums {
    table: Arc<str>,
}

#[derive(Deserialize)]
struct Told {
    cart: Cart,
}

impl<'t> Handler<DynamoTx<'t>> for Sums {
    async fn handle(&self, tx: &mut DynamoTx<'t>, event: &Event) -> Answer {
        let is_bought = match event.kind() {
            "cart.created" => false,
            "cart.checked-out" => true,
            // What is in a cart counts when it is bought.
            _ => return Answer::Done,
        };
        let cart = match event.json::<Told>() {
            Ok(told) => told.cart,
            Err(error) => return Answer::give_up(format!("the event tells no cart: {error}")),
        };
        match addition(&self.table, &cart, is_bought) {
            Ok(action) => {
                tx.effect().action(action);
                Answer::Done
            }
            Err(error) => Answer::retry(error),
        }
    }
}

/// Adds what was created, or bought.
fn addition(table: &str, cart: &Cart, is_bought: bool) -> Result<TransactWriteItem, BuildError> {
    let number = |sum: u64| AttributeValue::N(sum.to_string());
    let update = Update::builder().table_name(table).key("id", id(&cart.customer, &cart.currency));
    let update = update.expression_attribute_values(":one", number(1));
    let update = if is_bought {
        update
            .update_expression("ADD checked_out :one, units :units, #total :total")
            .expression_attribute_names("#total", "total")
            .expression_attribute_values(":units", number(cart.units))
            .expression_attribute_values(":total", number(cart.total))
    } else {
        update.update_expression("ADD created :one")
    };
    Ok(TransactWriteItem::builder().update(update.build()?).build())
}

fn id(customer: &str, currency: &str) -> AttributeValue {
    AttributeValue::S(format!("{customer}/{currency}"))
}
