//! `outbox.write`: one call from any language.

use outbox::event::AttributeValue;

use crate::{
    fixture::{Fixture, place},
    reader::events_of,
};

#[tokio::test]
async fn one_call_writes_an_event_and_gives_its_number() {
    let fixture = Fixture::new().await;
    let call = r#"outbox.write('cart/42', 'order.placed', '{"units": 3}')"#;
    assert_eq!(fixture.number(&format!("SELECT {call}")).await, 1);
    assert_eq!(fixture.number(&format!("SELECT {call}")).await, 2);
    let events = events_of(&fixture.client, "cart/42").await;
    assert_eq!(events.len(), 2);
    let (first, second) = (events[0].placing().unwrap(), events[1].placing().unwrap());
    assert_eq!((first.place, first.after), (place(1), outbox::Place::ORIGIN));
    assert_eq!((second.place, second.after), (place(2), place(1)));
    assert_eq!(events[1].kind(), "order.placed");
    assert_eq!(events[1].data().unwrap(), r#"{"units": 3}"#.as_bytes());
}

#[tokio::test]
async fn a_payload_is_text_or_json_or_bytes() {
    let fixture = Fixture::new().await;
    fixture
        .sql(
            r#"SELECT outbox.write('k', 't', '{"b": 1.50,  "a": 1}'::text);
               SELECT outbox.write('k', 't', '{"b": 1.50,  "a": 1}'::json);
               SELECT outbox.write('k', 't', '{"b": 1.50,  "a": 1}'::jsonb);
               SELECT outbox.write('k', 't', '\xff00'::bytea, content_type => 'image/png');
               SELECT outbox.write('k', 't', '')"#,
        )
        .await;
    fixture.sql("SELECT outbox.write('k', 't'); SELECT outbox.write('k', 't', NULL)").await;
    let events = events_of(&fixture.client, "k").await;
    let payloads: Vec<_> = events.iter().map(|event| event.data().map(|data| data.to_vec())).collect();
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let given = text(r#"{"b": 1.50,  "a": 1}"#);
    let printed = text(r#"{"a": 1, "b": 1.50}"#);
    assert_eq!(payloads, [given.clone(), given, printed, Some(vec![0xff, 0]), text(""), None, None]);
    assert_eq!(events[3].content_type(), Some("image/png"));
}

#[tokio::test]
async fn every_attribute_comes_out_as_it_was_given() {
    let fixture = Fixture::new().await;
    for data in ["'{}'::text", "'{}'::json", "'{}'::jsonb", "'{}'::bytea"] {
        fixture
            .sql(&format!(
                r#"SELECT outbox.write('kü', 'order.placéd', {data}, 'application/x+json', 'chosen', '{{"subject": "s",
                "time": "2026-11-21T09:30:00.5+01:00", "dataschema": "/schema", "tenant": "nörth", "n": -7, "yes": true}}')"#
            ))
            .await;
    }
    let events = events_of(&fixture.client, "kü").await;
    assert_eq!(events.len(), 4);
    for event in events {
        assert_eq!((event.id(), event.kind()), ("chosen", "order.placéd"));
        assert_eq!((event.content_type(), event.subject()), (Some("application/x+json"), Some("s")));
        assert_eq!((event.schema(), event.time()), (Some("/schema"), Some("2026-11-21T08:30:00.5Z".parse().unwrap())));
        assert_eq!(event.extension("tenant"), Some(&AttributeValue::from("nörth")));
        assert_eq!(event.extension("n"), Some(&AttributeValue::from(-7)));
        assert_eq!(event.extension("yes"), Some(&AttributeValue::from(true)));
    }
}

#[tokio::test]
async fn an_event_without_a_key_has_no_number_and_an_id_of_its_own() {
    let fixture = Fixture::new().await;
    let commit = "00112233-4455-6677-8899-aabbccddeeff";
    let call =
        format!("SELECT outbox.write(NULL, 't', commit_id => '{commit}', recorded_at => '2026-11-21T09:30:00Z')");
    let rows = fixture.rows(&format!("{call} UNION ALL {call}")).await;
    assert_eq!(rows, [r#"{"write":null}"#, r#"{"write":null}"#]);
    let ids =
        "SELECT count(DISTINCT event_id) FROM outbox.entries WHERE event_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-'";
    assert_eq!(fixture.number(ids).await, 2);
    let given = format!(
        "SELECT count(*) FROM outbox.entries WHERE commit_id = '{commit}' AND key IS NULL \
        AND sequence IS NULL AND recorded_at = '2026-11-21T09:30:00Z'"
    );
    assert_eq!(fixture.number(&given).await, 2);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.heads").await, 0);
}

#[tokio::test]
async fn statements_of_one_transaction_follow_each_other() {
    let fixture = Fixture::new().await;
    fixture.sql("BEGIN; SELECT outbox.write('k', 'first'); SELECT outbox.write('k', 'second'); COMMIT").await;
    let events = events_of(&fixture.client, "k").await;
    let kinds: Vec<_> = events.iter().map(|event| (event.kind(), event.placing().unwrap().place)).collect();
    assert_eq!(kinds, [("first", place(1)), ("second", place(2))]);
}

#[tokio::test]
async fn a_number_of_a_savepoint_that_was_rolled_back_is_given_again() {
    let fixture = Fixture::new().await;
    for start in ["", "SELECT outbox.write('k', 'kept');"] {
        fixture
            .sql(&format!(
                "BEGIN; {start} SAVEPOINT s; SELECT outbox.write('k', 'gone'); ROLLBACK TO s; \
                 SELECT outbox.write('k', 'kept'); COMMIT"
            ))
            .await;
    }
    let events = events_of(&fixture.client, "k").await;
    let kinds: Vec<_> = events.iter().map(|event| (event.kind(), event.placing().unwrap().place)).collect();
    assert_eq!(kinds, [("kept", place(1)), ("kept", place(2)), ("kept", place(3))]);
}

#[tokio::test]
async fn a_prepared_transaction_holds_its_key_and_is_there_once_committed() {
    let fixture = Fixture::new().await;
    let name = fixture.number("SELECT txid_current()").await;
    fixture.sql(&format!("BEGIN; SELECT outbox.write('k', 'prepared'); PREPARE TRANSACTION 'p{name}'")).await;
    fixture.sql("SET lock_timeout = '50ms'").await;
    let waiting = fixture.refusal("SELECT outbox.write('k', 'later')").await;
    assert!(waiting.starts_with("55P03"), "{waiting}");
    fixture.sql(&format!("COMMIT PREPARED 'p{name}'")).await;
    assert_eq!(fixture.number("SELECT outbox.write('k', 'later')").await, 2);
    let kinds: Vec<_> = events_of(&fixture.client, "k").await.iter().map(|event| event.kind().to_owned()).collect();
    assert_eq!(kinds, ["prepared", "later"]);
}

#[tokio::test]
async fn nobody_is_notified_unless_the_database_says_so() {
    let fixture = Fixture::new().await;
    let config: tokio_postgres::Config = fixture.database.url().parse().unwrap();
    let (listener, mut connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let tokio_postgres::AsyncMessage::Notification(notification) = message {
                sender.send(notification.channel().to_owned()).unwrap();
            }
        }
    });
    listener.batch_execute("LISTEN outbox; LISTEN probe").await.unwrap();
    for (notify, expected) in [(false, vec![]), (true, vec!["outbox", "outbox"])] {
        fixture.sql(&format!("UPDATE outbox.meta SET notify = {notify}")).await;
        fixture.sql("SELECT outbox.write('k', 't')").await;
        fixture
            .sql("BEGIN; SELECT outbox.write('k', 't'), outbox.write(NULL, 't'), outbox.write('l', 't'); COMMIT")
            .await;
        fixture.sql("NOTIFY probe").await;
        let mut channels = Vec::new();
        while let Some(channel) = told.recv().await.filter(|channel| channel != "probe") {
            channels.push(channel);
        }
        assert_eq!(channels, expected, "notify = {notify}");
    }
}

#[tokio::test]
async fn a_lost_commit_can_be_settled_by_sql() {
    let fixture = Fixture::new().await;
    let id = |number: u8| format!("'00000000-0000-4000-8000-0000000000{number:02}'");
    for number in 1..=3 {
        fixture.sql(&format!("SELECT outbox.write('k', 't', commit_id => {})", id(number))).await;
    }
    let ask = async |sequence: u8, commit: u8| {
        fixture.rows(&format!("SELECT outbox.committed('k', {sequence}, {}) AS is", id(commit))).await.remove(0)
    };
    assert_eq!(ask(1, 1).await, r#"{"is":true}"#);
    assert_eq!(ask(3, 3).await, r#"{"is":true}"#);
    assert_eq!(ask(2, 3).await, r#"{"is":false}"#);
    assert_eq!(ask(4, 4).await, r#"{"is":false}"#);
    fixture.sql("DELETE FROM outbox.entries WHERE sequence < 3").await;
    assert_eq!(ask(1, 1).await, r#"{"is":null}"#, "purged since");
}

#[tokio::test]
async fn arguments_may_be_columns_of_any_collation() {
    let fixture = Fixture::new().await;
    let mut collations = vec!["\"POSIX\""];
    let icu = "SELECT count(*) FROM pg_collation WHERE collname = 'und-x-icu'";
    if fixture.number(icu).await > 0 {
        fixture.sql("CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)").await;
        collations.extend(["\"und-x-icu\"", "loose"]);
    }
    for (number, collation) in (0..).zip(collations) {
        let table = format!(
            "CREATE TEMP TABLE given AS SELECT key COLLATE {collation} AS key, 'order.placed' COLLATE {collation} AS type \
             FROM unnest(ARRAY['k', 'K']) AS key"
        );
        fixture.sql(&table).await;
        for call in [
            "key, type",
            "key, type, '{}'::jsonb",
            "key, type, '\\x00'::bytea",
            "key, type, attributes => '{\"n\": 1}'",
        ] {
            fixture.sql(&format!("SELECT outbox.write({call}) FROM given")).await;
        }
        let expected = 4 * (number + 1);
        let heads = format!("SELECT count(*) FROM outbox.heads WHERE sequence = {expected}");
        assert_eq!(fixture.number(&heads).await, 2, "{collation}: each key has its own");
        let committed = "SELECT count(*) FROM given WHERE NOT outbox.committed(key, 1, gen_random_uuid())";
        assert_eq!(fixture.number(committed).await, 2, "{collation}");
        let expecting = format!("SELECT outbox.write(key, type, expected => {}) FROM given", expected + 1);
        assert!(fixture.refusal(&expecting).await.starts_with("OX001"), "{collation}");
        fixture.sql("DROP TABLE given").await;
    }
}
