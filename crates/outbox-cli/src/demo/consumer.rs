//! What the two consumers share: a receiver of signed webhooks before an inbox, with a door between them that notes who
//! comes in.

use std::{
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, put},
};
use orders::Order;
use outbox::{
    ErrorKind, Event, StoreError,
    inbox::{
        Answer, Applied, InboxLayer, InboxOperator, InboxService, InboxSettings, Incoming, Mode,
        receiver::{self, ReceiverSettings},
    },
    inbox_store::InboxCounts,
    signature::{Secret, Verifier},
};
use outbox_sql::sqlite::{HandlerFn, InboxOptions, SqliteInbox, handler_fn};
use rusqlite::Transaction;
use serde::Deserialize;
use tower::{Layer as _, Service};

use super::{
    arrivals::ArrivalLog,
    chaos::Role,
    stage::{SECRET_VARIABLE, arrivals, database},
};
use crate::output::Paint;

/// How far a request's time stamp may be from now.
const TOLERANCE: Duration = Duration::from_secs(300);
/// How often the inbox looks at what it keeps.
const SWEEP: Duration = Duration::from_secs(1);

/// What a consumer does with an event, in its inbox's transaction.
pub(crate) type Apply = fn(&Transaction<'_>, &Event) -> Answer;

/// An inbox over the consumer's own database, so that its effect and its record commit together.
pub(crate) type Inbox = InboxService<Store, HandlerFn<Apply>>;

#[cfg(not(feature = "crash-points"))]
type Store = SqliteInbox;
#[cfg(feature = "crash-points")]
type Store = crate::crash_points::CrashingInbox<SqliteInbox>;

/// The inbox of `role`, with the consumer's own `tables` beside it.
///
/// # Errors
/// That the database cannot be opened.
pub(crate) fn inbox(
    folder: &Path,
    role: Role,
    mode: Mode,
    tables: &'static str,
    apply: Apply,
) -> Result<Inbox, String> {
    let options = InboxOptions::new(role.name()).tables(|connection| connection.execute_batch(tables));
    let store = SqliteInbox::open(database(folder, role), options).map_err(|error| error.to_string())?;
    #[cfg(feature = "crash-points")]
    let store = Store::new(store)?;
    let clock = crate::wiring::clock().map_err(|failure| failure.shown(Paint::for_terminal(false)))?;
    Ok(InboxLayer::of(store, InboxSettings::new(mode)).clock(clock).layer(handler_fn(apply)))
}

/// What the inbox of `role` counted, with each transaction, over all its lives.
///
/// # Errors
/// That the database cannot be read.
pub(crate) async fn counts(folder: &Path, role: Role) -> Result<InboxCounts, String> {
    let store = SqliteInbox::open(database(folder, role), InboxOptions::new(role.name()).existing());
    let operator = InboxOperator::new(store.map_err(|error| error.to_string())?);
    Ok(operator.totals().await.map_err(|error| error.to_string())?.counts)
}

/// The consumer's HTTP side: `/events` takes webhooks, the rest is for the demo.
///
/// # Errors
/// What is missing or cannot be opened.
pub(crate) fn router(folder: &Path, role: Role, switches: Switches, inbox: Inbox) -> Result<Router, String> {
    let secret = std::env::var(SECRET_VARIABLE).map_err(|_| format!("{SECRET_VARIABLE} is not set"))?;
    let secret = secret.parse::<Secret>().map_err(|error| error.to_string())?;
    let sweeping = inbox.clone();
    tokio::spawn(async move { sweeping.run_sweeper(SWEEP, std::future::pending()).await });
    let door =
        Door { inbox, log: Arc::new(ArrivalLog::open(&arrivals(folder, role)).map_err(|error| error.to_string())?) };
    let rules = switches.clone();
    let settings =
        ReceiverSettings::signed(Verifier::new(vec![secret], TOLERANCE)).screen(move |event| rules.screen(event));
    Ok(with_switches(receiver::router(door, settings), switches))
}

/// What the demo changes about a consumer while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Switches(Arc<SwitchState>);

#[derive(Debug)]
struct SwitchState {
    broken: AtomicBool,
    refuse_above: Mutex<Option<i64>>,
}

#[derive(Deserialize)]
struct Outage {
    broken: bool,
}

#[derive(Deserialize)]
struct Rule {
    refuse_above: Option<i64>,
}

impl Switches {
    pub(crate) fn new(refuse_above: Option<i64>) -> Self {
        Self(Arc::new(SwitchState { broken: false.into(), refuse_above: Mutex::new(refuse_above) }))
    }

    /// The rule that refuses some orders until it is mended: large ones.
    fn screen(&self, event: &Event) -> Result<(), String> {
        let limit = *self.0.refuse_above.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(limit) = limit else { return Ok(()) };
        let order: Order = event.json().map_err(|error| format!("this is not an order: {error}"))?;
        if order.quantity <= limit {
            return Ok(());
        }
        Err(format!("{} units in one order: the ledger takes {limit} without approval", order.quantity))
    }
}

fn with_switches(events: Router, switches: Switches) -> Router {
    let outage = async |State(switches): State<Switches>, Json(wish): Json<Outage>| {
        switches.0.broken.store(wish.broken, Ordering::Relaxed);
        StatusCode::NO_CONTENT
    };
    let rule = async |State(switches): State<Switches>, Json(wish): Json<Rule>| {
        *switches.0.refuse_above.lock().unwrap_or_else(PoisonError::into_inner) = wish.refuse_above;
        StatusCode::NO_CONTENT
    };
    let controls = Router::new()
        .route("/health", get(async || "ok"))
        .route("/outage", put(outage))
        .route("/rule", put(rule))
        .with_state(switches.clone());
    events.layer(middleware::from_fn_with_state(switches, break_down)).merge(controls)
}

/// Answers 503 while the consumer is broken.
async fn break_down(State(switches): State<Switches>, request: Request, next: Next) -> Response {
    if switches.0.broken.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    next.run(request).await
}

/// The door to an inbox: notes every event that comes in, before anything is done with it.
#[derive(Clone)]
struct Door {
    inbox: Inbox,
    log: Arc<ArrivalLog>,
}

impl Service<Vec<Incoming>> for Door {
    type Response = Vec<Applied>;
    type Error = StoreError;
    type Future = Pin<Box<dyn Future<Output = Result<Vec<Applied>, StoreError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StoreError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, incoming: Vec<Incoming>) -> Self::Future {
        let events = incoming.iter().filter_map(|incoming| match incoming {
            Incoming::Event(event) => Some(event),
            Incoming::Undecodable { .. } => None,
        });
        match self.log.note(events) {
            Ok(()) => self.inbox.call(incoming),
            Err(error) => {
                let failed = StoreError::new(ErrorKind::Unavailable, format!("the arrivals cannot be noted: {error}"));
                Box::pin(std::future::ready(Err(failed)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::purchases::history;

    fn placed(quantity: i64) -> Event {
        let purchase = history(Some(1)).unwrap().remove(0);
        let order = orders::NewOrder {
            order_id: purchase.order_id(),
            customer: purchase.customer,
            date: purchase.date,
            quantity,
            amount: purchase.amount.to_string(),
        };
        let identity =
            outbox::event::Identity { source: &"/demo/orders".into(), placing: None, recorded: None, fallback_id: "1" };
        Event::from_new(order.check().unwrap().placed().unwrap(), identity).unwrap()
    }

    #[test]
    fn the_rule_refuses_large_orders_with_a_reason_until_it_is_mended() {
        let switches = Switches::new(Some(10));
        assert_eq!(switches.screen(&placed(10)), Ok(()));
        assert!(switches.screen(&placed(11)).unwrap_err().starts_with("11 units in one order"));
        assert_eq!(Switches::new(None).screen(&placed(11)), Ok(()));
    }
}
