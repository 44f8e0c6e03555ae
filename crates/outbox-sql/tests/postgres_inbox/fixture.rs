//! An inbox in a database of its own, with its effects in a table beside it.

use std::future::Future;

use outbox::{
    Event, NewEvent, Place, Placing, StoreError,
    cloudevents::{Envelope, json},
    event::Identity,
    inbox::{Answer, Applied, Handler, InboxService, Incoming},
    testing::conformance::inbox::{InboxUnderTest, Script},
};
use outbox_sql::postgres::{ConnectOptions, PostgresInbox, PostgresTx};

use crate::server::Database;

pub(crate) struct Bench(pub(crate) Database);

impl Bench {
    pub(crate) fn new() -> Self {
        on_a_thread_of_its_own(async {
            let database = Database::new().await;
            PostgresInbox::init(&options(&database), "tests").await.unwrap();
            let client = database.session().await;
            let effects = "CREATE TABLE effects (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text NOT NULL)";
            client.batch_execute(effects).await.unwrap();
            Self(database)
        })
    }
}

/// How to reach a database.
pub(crate) fn options(database: &Database) -> ConnectOptions {
    ConnectOptions::parse(database.url()).unwrap()
}

/// A runtime within a runtime is not allowed, and the suite makes and reads what it works on without awaiting it.
pub(crate) fn on_a_thread_of_its_own<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
        scope.spawn(run).join().unwrap()
    })
}

pub(crate) async fn write_effect(tx: &PostgresTx<'_>, event: &Event) {
    let id = Script::effect(event);
    tx.transaction().execute("INSERT INTO effects (id) VALUES ($1)", &[&id]).await.unwrap();
}

pub(crate) struct Scripted(Script);

impl Handler<PostgresTx<'_>> for Scripted {
    async fn handle(&self, tx: &mut PostgresTx<'_>, event: &Event) -> Answer {
        write_effect(tx, event).await;
        self.0.answer(event)
    }
}

impl InboxUnderTest for Bench {
    type Store = PostgresInbox;
    type Handler = Scripted;

    fn open(&self) -> PostgresInbox {
        PostgresInbox::open(options(&self.0), "tests").unwrap()
    }

    fn handler(&self, script: Script) -> Scripted {
        Scripted(script)
    }

    fn effects(&self) -> Vec<String> {
        on_a_thread_of_its_own(async {
            let rows = self.0.session().await.query("SELECT id FROM effects ORDER BY n", &[]).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        })
    }
}

/// The only event of entry `sequence` of a key.
pub(crate) fn event(key: &str, sequence: u64) -> Event {
    let after = if sequence > 1 { Place::new(1, sequence - 1, 0) } else { Place::ORIGIN };
    let placing = Some(Placing { place: Place::new(1, sequence, 0), count: 1, after });
    let new = NewEvent::builder("sample").key(key).json("payload").build().unwrap();
    let identity = Identity { source: &"/orders".into(), placing, recorded: None, fallback_id: "" };
    let event = Event::from_new(new, identity).unwrap();
    json::decode(&json::encode(&event, Envelope { gapless: true, replay: None })).unwrap()
}

pub(crate) async fn take<H: for<'t> Handler<PostgresTx<'t>>>(
    service: &InboxService<PostgresInbox, H>,
    events: Vec<Event>,
) -> Result<Vec<Applied>, StoreError> {
    service.apply(events.into_iter().map(Incoming::Event).collect()).await
}

/// A handler that writes the effect and is done.
pub(crate) fn writing() -> Scripted {
    Scripted(Script::default())
}
