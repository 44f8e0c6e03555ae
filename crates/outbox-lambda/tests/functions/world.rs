//! What the tests work with: tables that nobody else uses, a bus that does what it is told, and what arrived on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
};

use outbox::{
    Operator as _, RouteName,
    bookkeeping::{Bookkeeping as _, DeadLetter, KeptCounts, Selector},
};
use outbox_aws::{
    dynamodb::{BookkeepingOptions, DynamoBookkeeping, InitOptions, Tables, schema},
    testing::proxy::{Call, Fault, Proxy},
};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{rights::refusal, runtime::Sandbox, server, stream::Stream};

/// A service's tables, a bookkeeping, and a bus.
pub(crate) struct World {
    pub(crate) prefix: String,
    pub(crate) bookkeeping: DynamoBookkeeping,
    /// Plays EventBridge, with every bus.
    pub(crate) bus: Proxy,
    /// Stands before DynamoDB.
    pub(crate) dynamo: Option<Proxy>,
    client: aws_sdk_dynamodb::Client,
    _turn: OwnedSemaphorePermit,
}

/// As many worlds at once as there are cores: the deadlines of functions are real.
static TURNS: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))));

impl World {
    pub(crate) async fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let turn = TURNS.clone().acquire_owned().await.unwrap();
        let prefix = format!("outbox-lambda-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let client = server::client().await;
        schema::init(&client, &Tables::with_prefix(&prefix), &InitOptions::new("/carts")).await.unwrap();
        let (table, options) = (format!("{prefix}-bookkeeping"), BookkeepingOptions::default());
        DynamoBookkeeping::init(&client, &table, &options).await.unwrap();
        let bookkeeping = DynamoBookkeeping::open(&client, &table, options).await.unwrap();
        let bus = Proxy::alone().await;
        bus.rule("DescribeEventBus", |_| Fault::Answer(200, r#"{"Name":"carts"}"#.to_owned()));
        bus.guard(refusal);
        let dynamo = match server::endpoint() {
            Some(endpoint) => Some(Proxy::before(endpoint).await),
            None => None,
        };
        if let Some(dynamo) = &dynamo {
            dynamo.guard(refusal);
        }
        Self { prefix, bookkeeping, bus, dynamo, client, _turn: turn }
    }

    /// The client of the tables.
    pub(crate) fn client(&self) -> &aws_sdk_dynamodb::Client {
        &self.client
    }

    /// What a function of this world has in its environment.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let mut environment = vec![
            ("OUTBOX_STORE".to_owned(), self.prefix.clone()),
            ("OUTBOX_BOOKKEEPING".to_owned(), format!("{}-bookkeeping", self.prefix)),
            ("OUTBOX_BUS".to_owned(), "carts".to_owned()),
            ("AWS_ENDPOINT_URL_EVENTBRIDGE".to_owned(), self.bus.url().to_owned()),
        ];
        if let Some(dynamo) = &self.dynamo {
            environment.push(("AWS_ENDPOINT_URL_DYNAMODB".to_owned(), dynamo.url().to_owned()));
            environment.push(("AWS_ENDPOINT_URL_DYNAMODB_STREAMS".to_owned(), dynamo.url().to_owned()));
            for (name, value) in
                [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "eu-west-1")]
            {
                if std::env::var_os(name).is_none() {
                    environment.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        environment
    }

    /// A process of the forwarder.
    pub(crate) async fn forwarder(environment: &[(String, String)]) -> Sandbox {
        Sandbox::start(env!("CARGO_BIN_EXE_outbox-forwarder"), environment).await
    }

    /// A process of the keeper.
    pub(crate) async fn keeper(&self) -> Sandbox {
        Sandbox::start(env!("CARGO_BIN_EXE_outbox-keeper"), &self.environment()).await
    }

    /// The ids of what arrived, in order, duplicates included.
    pub(crate) fn arrived(&self) -> Vec<String> {
        self.bus.accepted().iter().map(id_of).collect()
    }

    pub(crate) async fn dead_letters(&self) -> Vec<DeadLetter> {
        self.bookkeeping.dead_letters(&route(), &Selector::default(), None, 100).await.unwrap()
    }

    pub(crate) async fn kept(&self) -> KeptCounts {
        self.bookkeeping.kept_counts(&route()).await.unwrap()
    }

    /// Checks that all of `stream` arrived, each key in its order, and gives how many came more than once.
    pub(crate) fn assert_exact(&self, stream: &Stream) -> usize {
        let arrived = self.arrived();
        let missing = missing(stream, &arrived);
        assert!(missing.is_empty(), "{} events are lost: {missing:?}", missing.len());
        self.assert_ordered(stream)
    }

    /// Checks that what arrived did so in the order of its key, with nothing left out before it, and gives how many came more
    /// than once.
    pub(crate) fn assert_ordered(&self, stream: &Stream) -> usize {
        let arrived = self.arrived();
        let ids = stream.ids();
        let mut next: BTreeMap<&str, usize> = BTreeMap::new();
        let (mut seen, mut duplicates) = (BTreeSet::new(), 0);
        for id in &arrived {
            if !seen.insert(id.as_str()) {
                duplicates += 1;
                continue;
            }
            let key = id.split('@').next().unwrap();
            let at = next.entry(key).or_default();
            assert_eq!(Some(id), ids[key].get(*at), "out of order, or something before it is missing: {arrived:?}");
            *at += 1;
        }
        duplicates
    }
}

impl Drop for World {
    fn drop(&mut self) {
        server::drop_tables_of(&self.prefix);
    }
}

/// What of `stream` did not arrive.
pub(crate) fn missing(stream: &Stream, arrived: &[String]) -> Vec<String> {
    let seen: BTreeSet<_> = arrived.iter().collect();
    stream.ids().into_values().flatten().filter(|id| !seen.contains(id)).collect()
}

pub(crate) fn route() -> RouteName {
    RouteName::new("bus").unwrap()
}

/// The event's id in an entry of `PutEvents`.
pub(crate) fn id_of(entry: &Value) -> String {
    let detail: Value = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
    detail["id"].as_str().unwrap().to_owned()
}

/// The ids in a call of `PutEvents`.
pub(crate) fn ids_in(call: &Call) -> Vec<String> {
    call.body["Entries"].as_array().into_iter().flatten().map(id_of).collect()
}

/// Turns away, with this code, the events that `is_it` says.
pub(crate) fn turning_away(
    code: &'static str,
    is_it: impl Fn(&str) -> bool + Send + 'static,
) -> impl FnMut(&Call) -> Fault + Send + 'static {
    move |call| {
        let positions =
            ids_in(call).iter().enumerate().filter(|(_, id)| is_it(id)).map(|(at, _)| at).collect::<Vec<_>>();
        if positions.is_empty() {
            return Fault::Pass;
        }
        Fault::entries(positions.into_iter().map(|at| (at, code)))
    }
}
