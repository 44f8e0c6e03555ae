//! The same inbox with handlers that write through a transaction of `sqlx`.

use std::str::FromStr;

use outbox::{
    ErrorKind, Event, StoreError,
    inbox::{Answer, Applied, Handler, InboxLayer, InboxService, Incoming},
    testing::conformance::inbox::{InboxUnderTest, Script},
};
use outbox_sql::postgres::{PostgresInbox, PostgresTx, SqlxPostgres, handler_fn_sqlx};
use sqlx::{Connection, Postgres, Transaction, postgres::PgConnectOptions};
use tower::Layer;

use crate::{
    fixture::{Bench, event},
    proxy::host_and_port,
    turns::Turns,
};

type Tx<'t> = PostgresTx<'t, SqlxPostgres>;

const INSERT: &str = "INSERT INTO effects (id) VALUES ($1)";

struct SqlxBench(Bench);

impl SqlxBench {
    fn new() -> Self {
        Self(Bench::new())
    }
}

struct Scripted(Script);

impl Handler<Tx<'_>> for Scripted {
    async fn handle(&self, tx: &mut Tx<'_>, event: &Event) -> Answer {
        sqlx::query(INSERT).bind(Script::effect(event)).execute(&mut **tx.transaction()).await.unwrap();
        self.0.answer(event)
    }
}

impl InboxUnderTest for SqlxBench {
    type Store = PostgresInbox<SqlxPostgres>;
    type Handler = Scripted;

    fn open(&self) -> Self::Store {
        PostgresInbox::open_sqlx(PgConnectOptions::from_str(self.0.0.url()).unwrap(), "tests").unwrap()
    }

    fn handler(&self, script: Script) -> Scripted {
        Scripted(script)
    }

    fn effects(&self) -> Vec<String> {
        self.0.effects()
    }
}

outbox::inbox_conformance!(SqlxBench::new());

async fn take<H>(
    service: &InboxService<PostgresInbox<SqlxPostgres>, H>,
    events: Vec<Event>,
) -> Result<Vec<Applied>, StoreError>
where
    H: for<'t> Handler<Tx<'t>>,
{
    service.apply(events.into_iter().map(Incoming::Event).collect()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_async_function_writes_through_the_transaction() {
    let bench = SqlxBench::new();
    let handler =
        handler_fn_sqlx(async |tx: &mut Transaction<'_, Postgres>, event: &Event| -> Result<(), sqlx::Error> {
            sqlx::query(INSERT).bind(event.id()).execute(&mut **tx).await?;
            Ok(())
        });
    let service = InboxLayer::once(bench.open()).layer(handler);
    let applied = take(&service, vec![event("a", 1), event("b", 1), event("a", 1)]).await.unwrap();
    assert_eq!(applied, [Applied::Applied, Applied::Applied, Applied::Duplicate]);
    assert_eq!(bench.effects(), ["a@1.1.0", "b@1.1.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_fails_is_an_attempt_that_failed_and_the_rest_of_the_batch_is_applied() {
    let bench = SqlxBench::new();
    let handler =
        handler_fn_sqlx(async |tx: &mut Transaction<'_, Postgres>, event: &Event| -> Result<(), sqlx::Error> {
            let id = event.key().is_none_or(|key| key.as_str() != "b").then(|| event.id());
            sqlx::query(INSERT).bind(id).execute(&mut **tx).await?;
            Ok(())
        });
    let service = InboxLayer::in_order(bench.open()).layer(handler);
    let applied = take(&service, vec![event("a", 1), event("b", 1), event("c", 1)]).await.unwrap();
    assert!(matches!(applied[1], Applied::Retrying { attempts: 1, .. }), "{applied:?}");
    assert_eq!((&applied[0], &applied[2]), (&Applied::Applied, &Applied::Applied));
    assert_eq!(bench.effects(), ["a@1.1.0", "c@1.1.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_may_fail_is_set_apart_by_a_savepoint() {
    let bench = SqlxBench::new();
    let handler =
        handler_fn_sqlx(async |tx: &mut Transaction<'_, Postgres>, event: &Event| -> Result<(), sqlx::Error> {
            let mut point = tx.begin().await?;
            let failed = sqlx::query(INSERT).bind(None::<String>).execute(&mut *point).await.is_err();
            point.rollback().await?;
            sqlx::query(INSERT).bind(format!("{} {failed}", event.id())).execute(&mut **tx).await?;
            Ok(())
        });
    let service = InboxLayer::in_order(bench.open()).layer(handler);
    assert_eq!(take(&service, vec![event("a", 1)]).await.unwrap(), [Applied::Applied]);
    assert_eq!(bench.effects(), ["a@1.1.0 true"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_that_only_the_commit_refuses_is_an_attempt_that_failed_and_the_rest_of_the_batch_is_applied() {
    let bench = SqlxBench::new();
    let table = "CREATE TABLE once (id text, UNIQUE (id) DEFERRABLE INITIALLY DEFERRED); INSERT INTO once VALUES ('b')";
    bench.0.0.session().await.batch_execute(table).await.unwrap();
    let handler =
        handler_fn_sqlx(async |tx: &mut Transaction<'_, Postgres>, event: &Event| -> Result<(), sqlx::Error> {
            let key = event.key().map(outbox::Key::as_str);
            sqlx::query("INSERT INTO once VALUES ($1)").bind(key).execute(&mut **tx).await?;
            sqlx::query(INSERT).bind(event.id()).execute(&mut **tx).await?;
            Ok(())
        });
    let service = InboxLayer::in_order(bench.open()).layer(handler);
    let applied = take(&service, vec![event("a", 1), event("b", 1), event("c", 1)]).await.unwrap();
    let Applied::Retrying { attempts: 1, reason, .. } = &applied[1] else { panic!("{applied:?}") };
    assert!(reason.contains("23505") && !reason.contains("(id)"), "{reason}");
    assert_eq!(bench.effects(), ["a@1.1.0", "c@1.1.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_waits_for_the_server_as_often_as_one_event() {
    let bench = SqlxBench::new();
    let turns = Turns::start(&host_and_port(bench.0.0.url())).await;
    let options = PgConnectOptions::from_str(&turns.before(bench.0.0.url())).unwrap();
    let inbox = PostgresInbox::open_sqlx(options, "tests").unwrap();
    let service =
        InboxLayer::in_order(inbox).layer(handler_fn_sqlx(async |_: &mut Transaction<'_, Postgres>, _: &Event| {}));
    let batch = |sequence| (0..50).map(|key| event(&format!("key/{key}"), sequence)).collect();
    for sequence in 1..=2 {
        take(&service, batch(sequence)).await.unwrap();
    }
    let before = turns.count();
    take(&service, batch(3)).await.unwrap();
    // The beginning, the check, the record, the commit.
    assert_eq!(turns.count() - before, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_hides_a_failed_statement_is_told_and_nothing_is_recorded() {
    let bench = SqlxBench::new();
    let handler = handler_fn_sqlx(async |tx: &mut Transaction<'_, Postgres>, event: &Event| {
        let _ = sqlx::query(INSERT).bind(None::<String>).execute(&mut **tx).await;
        let _ = sqlx::query(INSERT).bind(event.id()).execute(&mut **tx).await;
    });
    let service = InboxLayer::in_order(bench.open()).layer(handler);
    let error = take(&service, vec![event("a", 1)]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::Invalid, false), "{error}");
    assert!(error.to_string().contains("savepoint"), "{error}");
    assert!(bench.effects().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_ends_the_transaction_is_told() {
    let bench = SqlxBench::new();
    let handler = handler_fn_sqlx(async |tx: &mut Transaction<'_, Postgres>, _: &Event| -> Result<(), sqlx::Error> {
        sqlx::query("COMMIT").execute(&mut **tx).await.map(drop)
    });
    let service = InboxLayer::in_order(bench.open()).layer(handler);
    let error = take(&service, vec![event("a", 1)]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::Invalid, true), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_broke_is_made_anew() {
    let bench = SqlxBench::new();
    let service = InboxLayer::in_order(bench.open()).layer(bench.handler(Script::default()));
    assert_eq!(take(&service, vec![event("a", 1)]).await.unwrap(), [Applied::Applied]);
    let ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let ended = bench.0.0.session().await.query(ending, &[]).await.unwrap();
    assert_eq!(ended.len(), 1, "the inbox has one connection");
    let error = take(&service, vec![event("a", 2)]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::Unavailable, false), "{error}");
    assert_eq!(take(&service, vec![event("a", 2)]).await.unwrap(), [Applied::Applied]);
    assert_eq!(bench.effects(), ["a@1.1.0", "a@1.2.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_that_is_not_there_is_not_made_in_silence() {
    let bench = SqlxBench::new();
    let options = PgConnectOptions::from_str(bench.0.0.url()).unwrap();
    let inbox = PostgresInbox::open_sqlx(options.clone(), "testes").unwrap();
    let service = InboxLayer::in_order(inbox).layer(bench.handler(Script::default()));
    let error = take(&service, vec![event("a", 1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let inbox = PostgresInbox::open_sqlx(options.database("none_such"), "tests").unwrap();
    let service = InboxLayer::in_order(inbox).layer(bench.handler(Script::default()));
    let error = take(&service, vec![event("a", 1)]).await.unwrap_err();
    assert!(error.to_string().contains("create the database"), "{error}");
}
