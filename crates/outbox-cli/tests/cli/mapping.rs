//! A table of the service's own: configured, prepared by its owner, published.

use crate::{place::Place, server::Database};

const TABLE: &str = "CREATE TABLE Outbox (Id SERIAL PRIMARY KEY, EventType VARCHAR(255), Payload JSON, Status VARCHAR(50), \
    CreatedAt TIMESTAMP DEFAULT CURRENT_TIMESTAMP)";

/// A service with the seed's table and two rows in it, and a configuration with `mapping`.
async fn service(mapping: &str) -> (Database, Place) {
    let (database, place) = (Database::new().await, Place::new());
    let session = database.session().await;
    session.batch_execute(TABLE).await.unwrap();
    let rows = "INSERT INTO Outbox (EventType, Payload, Status) VALUES ('UserCreated', '{\"userId\": 1}', 'PENDING'), \
        ('UserCreated', '{\"userId\": 2}', 'PENDING')";
    session.batch_execute(rows).await.unwrap();
    let text = format!(
        "[store]\npostgres = '{}'\nproducer = '/users'\n{mapping}\n[relay]\nfailover = '1s'\n\
         [[route]]\nname = 'ledger'\nfile = 'ledger.jsonl'\n",
        database.url()
    );
    place.write("outbox.toml", &text);
    (database, place)
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
    assert!(refused.out.contains("ADD COLUMN outbox_xid"), "{}", refused.out);
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
