//! Writers of the same keys at the same time.

use std::time::Duration;

use outbox::WriteError;
use outbox_sql::postgres::{Writer, write};

use crate::fixture::{Fixture, event, key, refusal};

/// Every id of a key is above those of its entries before, and its numbers have no gap.
const OUT_OF_ORDER: &str = "SELECT count(*) FROM (
    SELECT e.sequence - lag(e.sequence, 1, 0::bigint) OVER w AS step, e.id > lag(e.id, 1, 0::bigint) OVER w AS rises
    FROM outbox.entries AS e WHERE e.key IS NOT NULL WINDOW w AS (PARTITION BY e.key ORDER BY e.sequence)
) AS steps WHERE step <> 1 OR NOT rises";

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_a_key_rise_with_its_numbers_under_any_concurrency() {
    const WRITERS: u32 = 12;
    const WRITES: u32 = 80;
    let fixture = Fixture::new().await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..WRITERS {
        let client = fixture.database.session().await;
        writers.spawn(async move {
            for round in 0..WRITES {
                // Some are rolled back, some roll back to a savepoint and write again, some begin with another key.
                let sql = match (number + round) % 5 {
                    0 => "SELECT outbox.write('hot', 't'); ROLLBACK".to_owned(),
                    1 => "SAVEPOINT s; SELECT outbox.write('hot', 't'); ROLLBACK TO s; SELECT outbox.write('hot', 't'); COMMIT".to_owned(),
                    2 => format!("SELECT outbox.write('warm{round}', 't'), outbox.write(NULL, 't'); COMMIT"),
                    _ => "SELECT outbox.write('hot', 't'); COMMIT".to_owned(),
                };
                client.batch_execute(&format!("BEGIN; {sql}")).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    assert_eq!(fixture.number(OUT_OF_ORDER).await, 0);
    assert_eq!(
        fixture.number("SELECT count(*) FROM outbox.entries WHERE key = 'hot'").await,
        i64::from(WRITERS * WRITES * 3 / 5)
    );
    let heads = "SELECT count(*) FROM outbox.heads AS h JOIN outbox.entries AS e ON e.id = h.entry_id AND e.sequence = h.sequence";
    assert_eq!(fixture.number(heads).await, fixture.number("SELECT count(*) FROM outbox.heads").await);
}

/// Calls that write one entry each.
const CALLS: [&str; 4] = [
    "SELECT outbox.write('plain', 't')",
    "SELECT outbox.write('bytes', 't', ''::bytea)",
    r#"SELECT outbox.write_all('[{"key": "many", "type": "t"}]')"#,
    "SELECT outbox.write('new' || pg_backend_pid() || clock_timestamp(), 't')",
];

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_an_adoption_writes_under_the_new_incarnation() {
    let fixture = Fixture::new().await;
    let mut sessions = Vec::new();
    for practised in [0, 8] {
        for call in CALLS {
            let client = fixture.database.session().await;
            for _ in 0..practised {
                client.batch_execute(call).await.unwrap();
            }
            sessions.push((client, call));
        }
    }
    let mut client = fixture.database.session().await;
    let raising = "SELECT outbox.raise_incarnation('{}', '{}', 0, false)";
    fixture.sql(&format!("BEGIN; {raising}")).await;
    let mut writers = tokio::task::JoinSet::new();
    for (client, call) in sessions {
        writers.spawn(async move { client.batch_execute(call).await.expect(call) });
    }
    let written = tokio::spawn(async move {
        let transaction = client.transaction().await.unwrap();
        let receipts = write(&transaction, [event("rust")]).await.unwrap();
        transaction.commit().await.unwrap();
        receipts[0].first.map(|place| place.incarnation)
    });
    fixture.until_waiting(9).await;
    fixture.sql("COMMIT").await;
    writers.join_all().await;
    assert_eq!(written.await.unwrap(), Some(2));
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.entries WHERE incarnation = 2").await, 9);
    let latest = "SELECT count(*) FROM outbox.heads AS h JOIN outbox.entries AS e ON e.id = h.entry_id \
        WHERE h.incarnation <> e.incarnation OR h.after <> e.after";
    assert_eq!(fixture.number(latest).await, 0);
}

#[tokio::test]
async fn a_key_that_moved_under_a_snapshot_is_to_be_run_again() {
    let fixture = Fixture::new().await;
    fixture.sql("SELECT outbox.write('known', 't')").await;
    for name in ["known", "new"] {
        let mut client = fixture.database.session().await;
        let transaction = client
            .build_transaction()
            .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
            .start()
            .await
            .unwrap();
        transaction.batch_execute("SELECT 1").await.unwrap();
        fixture.sql(&format!("SELECT outbox.write('{name}', 't')")).await;
        let refused = write(&transaction, [event(name)]).await.unwrap_err();
        assert!(matches!(refused, WriteError::RetryTransaction { .. }), "{name}: {refused}");
        drop(transaction);
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
        fixture.sql(&format!("SELECT outbox.write('{name}', 't')")).await;
        let refused = refusal(&client, &format!("SELECT outbox.write('{name}', 't')")).await;
        assert!(refused.starts_with("40001"), "{name}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_wait_for_each_other_are_told_to_run_again() {
    let fixture = Fixture::new().await;
    let (mut one, mut other) = (fixture.database.session().await, fixture.database.session().await);
    let (one, other) = (one.transaction().await.unwrap(), other.transaction().await.unwrap());
    write(&one, [event("a")]).await.unwrap();
    write(&other, [event("b")]).await.unwrap();
    let both = async {
        // Each to its end, or its locks stay.
        let first = async {
            let written = write(&one, [event("b")]).await.map(|_| ());
            one.rollback().await.unwrap();
            written
        };
        let second = async {
            let written = write(&other, [event("a")]).await.map(|_| ());
            other.rollback().await.unwrap();
            written
        };
        tokio::join!(first, second)
    };
    let (first, second) = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
    let refused = [first, second].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(matches!(&refused[..], [WriteError::RetryTransaction { .. }]), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_expects_what_another_is_changing_waits_and_is_a_conflict() {
    let fixture = Fixture::new().await;
    for name in ["known", "new"] {
        let expected =
            fixture.number(&format!("SELECT coalesce(max(sequence), 0) FROM outbox.heads WHERE key = '{name}'")).await;
        let mut client = fixture.database.session().await;
        let open = client.transaction().await.unwrap();
        write(&open, [event(name)]).await.unwrap();
        let mut beside = fixture.database.session().await;
        let pid = beside.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0);
        let waiting = tokio::spawn(async move {
            let transaction = beside.transaction().await.unwrap();
            let writer = Writer::new().expecting(key(name), expected.unsigned_abs());
            writer.write(&transaction, event(name)).await
        });
        until_it_waits(&fixture, pid).await;
        open.commit().await.unwrap();
        let answer = waiting.await.unwrap();
        assert!(
            matches!(answer, Err(WriteError::Conflict { actual, .. }) if actual == expected.unsigned_abs() + 1),
            "{answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_first_entries_waits_and_is_the_second() {
    let fixture = Fixture::new().await;
    for (end, number) in [("ROLLBACK", 1), ("COMMIT", 2)] {
        let name = end.to_lowercase();
        fixture.sql(&format!("BEGIN; SELECT outbox.write('{name}', 't')")).await;
        let beside = fixture.database.session().await;
        let pid = beside.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0);
        let sql = format!("SELECT outbox.write('{name}', 't')");
        let waiting = tokio::spawn(async move { beside.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0) });
        let watcher = fixture.database.session().await;
        until(&watcher, pid).await;
        fixture.sql(end).await;
        assert_eq!(waiting.await.unwrap(), number, "{end}");
    }
    assert_eq!(fixture.number(OUT_OF_ORDER).await, 0);
}

async fn until_it_waits(fixture: &Fixture, pid: i32) {
    until(&fixture.client, pid).await;
}

/// Until the session `pid` waits for a lock.
async fn until(watcher: &tokio_postgres::Client, pid: i32) {
    let waits = async {
        let ask = "SELECT cardinality(pg_blocking_pids($1)) > 0";
        while !watcher.query_one(ask, &[&pid]).await.unwrap().get::<_, bool>(0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waits).await.expect("it waits for the lock");
}
