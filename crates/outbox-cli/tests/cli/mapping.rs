//! A table of the service's own: configured, prepared by its owner, published.

use crate::{
    place::Place,
    postgres::LEFT_OPEN,
    server::{self, Database},
};

const TABLE: &str = "CREATE TABLE Outbox (Id SERIAL PRIMARY KEY, EventType VARCHAR(255), Payload JSON, Status VARCHAR(50), \
    CreatedAt TIMESTAMP DEFAULT CURRENT_TIMESTAMP)";

const DEBEZIUM: &str = "CREATE TABLE outboxevent (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype varchar(255) NOT NULL, \
    aggregateid varchar(255) NOT NULL, type varchar(255) NOT NULL, payload jsonb)";

/// A service with the seed's table and two rows in it, and a configuration with `mapping`.
async fn service(mapping: &str) -> (Database, Place) {
    let (database, place) = (Database::new().await, Place::new());
    let session = database.session().await;
    session.batch_execute(TABLE).await.unwrap();
    let rows = "INSERT INTO Outbox (EventType, Payload, Status) VALUES ('UserCreated', '{\"userId\": 1}', 'PENDING'), \
        ('UserCreated', '{\"userId\": 2}', 'PENDING')";
    session.batch_execute(rows).await.unwrap();
    configure(&database, &place, mapping);
    (database, place)
}

fn configure(database: &Database, place: &Place, mapping: &str) {
    let text = format!(
        "[store]\npostgres = '{}'\nproducer = '/users'\n{mapping}\n[relay]\nfailover = '1s'\n\
         [[route]]\nname = 'ledger'\nfile = 'ledger.jsonl'\n",
        database.url()
    );
    place.write("outbox.toml", &text);
}

/// Runs what `init` prints, as the table's owner would.
async fn prepare(database: &Database, place: &Place, count: usize) {
    let made = place.json(&["init"]);
    let statements = made["statements"].as_array().unwrap();
    assert_eq!(statements.len(), count, "{statements:?}");
    let session = database.session().await;
    for statement in statements {
        session.batch_execute(statement.as_str().unwrap()).await.unwrap();
    }
    assert_eq!(place.json(&["init"])["statements"].as_array().unwrap().len(), 0, "nothing is left to be run");
}

/// A slot would keep the database. The server sees only a while later that whoever read it is gone.
pub(crate) async fn drop_slots(database: &Database) {
    let session = database.session().await;
    let dropping = async {
        let left = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()";
        while session.query_one(left, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                WHERE database = current_database() AND NOT active";
            // One may have become active, or be gone, meanwhile.
            let _ = session.batch_execute(sql).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), dropping).await.expect("the slots are free");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_deleted_at_once_are_published_from_the_log_and_a_lost_slot_is_adopted() {
    let _nobody_leaves_one_open = LEFT_OPEN.read().await;
    let (database, place) = (Database::new().await, Place::new());
    let session = database.session().await;
    session.batch_execute(DEBEZIUM).await.unwrap();
    configure(&database, &place, "read = 'wal'\nmapping = 'debezium'");
    let refused = place.run(&["init", "--sql"]);
    assert!(
        refused.out.contains("CREATE PUBLICATION \"outbox\" FOR TABLE \"public\".\"outboxevent\""),
        "{}",
        refused.out
    );
    prepare(&database, &place, 1).await;
    let checked = place.run(&["check"]);
    assert_eq!(checked.code, 0, "{}{}", checked.out, checked.err);
    assert!(checked.out.contains("log alone"), "{}", checked.out);
    let write = async |aggregate: u32, kind: &str| {
        let sql = format!(
            "BEGIN; INSERT INTO outboxevent (aggregatetype, aggregateid, type, payload) \
             VALUES ('user', '{aggregate}', '{kind}', '{{\"n\": 1}}'); DELETE FROM outboxevent; COMMIT"
        );
        session.batch_execute(&sql).await.unwrap();
    };
    let relay = place.relay();
    place.wait_until(|status| status["routes"][0]["state"] == "flowing");
    write(1, "UserCreated").await;
    write(1, "UserRenamed").await;
    place.until("both are published", |place| (place.read("ledger.jsonl").lines().count() == 2).then_some(()));
    let refused = place.run(&["replay", "--all"]);
    assert!(
        refused.code != 0 && format!("{}{}", refused.out, refused.err).contains("mapping.id"),
        "{}{}",
        refused.out,
        refused.err
    );
    place.wait_until(|status| status["routes"][0]["backlog"] == 0);
    assert_eq!(relay.stop().code, 0);
    write(1, "Waits").await;
    let relay = place.relay();
    place.until("what came meanwhile is published", |place| place.read("ledger.jsonl").contains("Waits").then_some(()));
    assert_eq!(relay.stop().code, 0);
    drop_slots(&database).await;
    write(1, "Lost").await;
    let stopped = place.run(&["relay"]);
    assert_eq!(stopped.code, 4, "{}{}", stopped.out, stopped.err);
    assert!(stopped.err.contains("was dropped or invalidated"), "{}", stopped.err);
    let explained = place.run(&["adopt"]);
    assert!(explained.out.contains("by hand"), "{}{}", explained.out, explained.err);
    let adopted = place.run(&["adopt", "--yes"]);
    assert_eq!(adopted.code, 0, "{}{}", adopted.out, adopted.err);
    write(1, "Then").await;
    let relay = place.relay();
    place.until("it goes on", |place| place.read("ledger.jsonl").contains("Then").then_some(()));
    assert_eq!(relay.stop().code, 0);
    assert!(!place.read("ledger.jsonl").contains("Lost"));
    drop_slots(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_rows_in_the_log_alone_none_is_lost_or_out_of_order_though_the_relay_is_killed_under_load() {
    let _nobody_leaves_one_open = LEFT_OPEN.read().await;
    let (database, place) = (Database::new().await, Place::new());
    let session = database.session().await;
    session.batch_execute(DEBEZIUM).await.unwrap();
    configure(&database, &place, "read = 'wal'\nmapping = 'debezium'");
    prepare(&database, &place, 1).await;
    let lines = |place: &Place| place.read("ledger.jsonl").lines().count();
    // It makes the slot: what is written before that is not in it.
    let first = place.relay();
    place.wait_until(|status| status["routes"][0]["state"] == "flowing");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| (writer, database.url().to_owned(), stop.clone()))
        .map(|(writer, url, stop)| {
            tokio::spawn(async move {
                let session = server::session(&url).await;
                let mut number = 0;
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    number += 1;
                    let sql = format!(
                        "BEGIN; INSERT INTO outboxevent (aggregatetype, aggregateid, type, payload) \
                         VALUES ('user', '{writer}', '{writer}.{number}', '{{}}'); DELETE FROM outboxevent WHERE aggregateid = '{writer}'; COMMIT"
                    );
                    session.batch_execute(&sql).await.unwrap();
                    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
                }
                number
            })
        })
        .collect();
    let mut relay = first;
    for _ in 0..5 {
        let before = lines(&place);
        place.until("it publishes", |place| (lines(place) > before + 50).then_some(()));
        relay.kill();
        relay = place.relay();
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut written = Vec::new();
    for writer in writers {
        written.push(writer.await.unwrap());
    }
    let came = |place: &Place, writer: usize| {
        let text = place.read("ledger.jsonl");
        let kinds =
            text.lines().filter_map(|line| line.split("\"type\":\"").nth(1)?.split('"').next().map(str::to_owned));
        let mut seen = std::collections::BTreeSet::new();
        kinds.filter(|kind| kind.starts_with(&format!("{writer}.")) && seen.insert(kind.clone())).collect::<Vec<_>>()
    };
    for (writer, count) in written.into_iter().enumerate() {
        place.until("all is published", |place| (came(place, writer).len() >= count).then_some(()));
        let expected: Vec<_> = (1..=count).map(|number| format!("{writer}.{number}")).collect();
        assert_eq!(came(&place, writer), expected, "each, first in the order of the commits");
    }
    assert_eq!(relay.stop().code, 0);
    drop_slots(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_table_of_the_service_is_read_can_be_changed_and_changed_back() {
    let _nobody_leaves_one_open = LEFT_OPEN.read().await;
    let (database, place) = service("mapping = 'polling-outbox'").await;
    prepare(&database, &place, 2).await;
    let session = database.session().await;
    for (round, read) in ["poll", "wal", "poll", "wal"].into_iter().enumerate() {
        configure(&database, &place, &format!("read = '{read}'\nmapping = 'polling-outbox'"));
        if round == 1 {
            prepare(&database, &place, 1).await;
        }
        let relay = place.relay();
        let rows = format!(
            "INSERT INTO Outbox (EventType, Payload, Status) SELECT '{round}.' || n, '{{}}', 'PENDING' FROM generate_series(1, 20) AS n"
        );
        session.batch_execute(&rows).await.unwrap();
        place.wait_until(|status| status["routes"][0]["backlog"] == 0);
        place.until("they are published", |place| {
            (place.read("ledger.jsonl").lines().count() == 2 + 20 * (round + 1)).then_some(())
        });
        assert_eq!(relay.stop().code, 0);
    }
    let text = place.read("ledger.jsonl");
    let kinds: Vec<_> =
        text.lines().skip(2).filter_map(|line| line.split("\"type\":\"").nth(1)?.split('"').next()).collect();
    let expected: Vec<_> = (0..4).flat_map(|round| (1..=20).map(move |number| format!("{round}.{number}"))).collect();
    assert_eq!(kinds, expected);
    drop_slots(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_the_service_is_prepared_by_what_init_prints_and_published() {
    let (database, place) = service("mapping = 'polling-outbox'").await;
    let made = place.run(&["init", "--json"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let session = database.session().await;
    let columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.outbox'::regclass AND attnum > 0";
    assert_eq!(session.query_one(columns, &[]).await.unwrap().get::<_, i64>(0), 5, "init has changed the table");
    let refused = place.run(&["check"]);
    assert_eq!(refused.code, 1, "{}{}", refused.out, refused.err);
    let told = refused.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("ADD COLUMN outbox_xid"), "{told}");
    let made: serde_json::Value = serde_json::from_str(&made.out).unwrap();
    let statements = made["statements"].as_array().unwrap();
    assert_eq!(statements.len(), 2);
    for statement in statements {
        session.batch_execute(statement.as_str().unwrap()).await.unwrap();
    }
    let checked = place.run(&["check"]);
    assert_eq!(checked.code, 0, "{}{}", checked.out, checked.err);
    assert!(checked.out.contains("no places") && !checked.out.contains("gapless:"), "{}", checked.out);
    let relay = place.relay();
    place.wait_until(|status| status["routes"][0]["backlog"] == 0);
    let processed = async {
        let pending = "SELECT count(*) FROM Outbox WHERE Status <> 'PROCESSED'";
        while session.query_one(pending, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), processed).await.expect("the status is kept");
    assert_eq!(relay.stop().code, 0);
    let text = place.read("ledger.jsonl");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("UserCreated") && text.contains("/users") && !text.contains("gapless"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_does_not_fit_is_refused_by_every_command_with_the_columns_name() {
    let (_database, place) = service("mapping = { layout = 'polling-outbox', key = 'UserId' }").await;
    for command in [&["init"][..], &["init", "--sql"], &["check"]] {
        let refused = place.run(command);
        assert_ne!(refused.code, 0, "{command:?}: {}", refused.out);
        let said = format!("{}{}", refused.out, refused.err);
        if command != ["check"] {
            assert!(said.contains("mapping.key") && said.contains("`UserId`"), "{command:?}: {said}");
        }
    }
}
