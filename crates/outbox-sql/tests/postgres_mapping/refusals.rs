//! Tables that cannot be read by a mapping, or not without losing rows: each refused, with the column's name and the remedy.

use outbox_sql::postgres::{Layout, Mapping};

use crate::{
    fixture::{SEED, Service, types},
    reader::{PLENTY, Reader},
};

fn mapping() -> Mapping {
    Mapping::new("events", "id", "kind", "body")
}

#[tokio::test]
async fn a_table_that_is_not_prepared_is_refused_with_what_to_run() {
    let service = Service::of_seed().await;
    let refused = service.refusal().await;
    let statements = service.mapping.statements(&service.client).await.unwrap();
    assert_eq!(
        statements,
        [
            "SET lock_timeout = '500ms'; \
             ALTER TABLE \"public\".\"outbox\" ADD COLUMN outbox_xid xid8 NOT NULL DEFAULT pg_current_xact_id(); \
             RESET lock_timeout",
            "CREATE INDEX CONCURRENTLY \"outbox_outbox\" ON \"public\".\"outbox\" (outbox_xid, \"id\")",
        ]
    );
    assert!(statements.iter().all(|statement| refused.contains(statement)), "{refused}");
    service.sql(&statements[0]).await;
    let refused = service.refusal().await;
    assert!(!refused.contains("ALTER TABLE") && refused.contains(&statements[1]), "{refused}");
    service.sql(&statements[1]).await;
    service.store().await;
    assert!(service.mapping.statements(&service.client).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_to_be_run_on_a_table_does_not_hold_up_its_writers() {
    let service = Service::of_seed().await;
    let statements = service.mapping.statements(&service.client).await.unwrap();
    let (open, other) = (service.database.session().await, service.database.session().await);
    let insert = "INSERT INTO outbox (eventtype, payload) VALUES ('t', '1')";
    open.batch_execute(&format!("BEGIN; {insert}")).await.unwrap();
    let both = async { tokio::join!(service.client.batch_execute(&statements[0]), other.batch_execute(insert)) };
    let both = tokio::time::timeout(std::time::Duration::from_secs(30), both).await;
    let (refused, written) = both.expect("neither waits for the transaction that is open");
    written.unwrap();
    assert_eq!(refused.unwrap_err().code().map(tokio_postgres::error::SqlState::code), Some("55P03"));
    open.batch_execute("COMMIT").await.unwrap();
    service.prepare().await;
    assert_eq!(service.text("SELECT current_setting('lock_timeout')").await, "0");
}

#[tokio::test]
async fn the_index_of_a_partitioned_table_is_made_partition_by_partition_beside_its_writers() {
    const PARTITIONED: &str =
        "CREATE TABLE events (id bigserial PRIMARY KEY, kind text, body jsonb) PARTITION BY RANGE (id);
        CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (100);
        CREATE TABLE others PARTITION OF events DEFAULT PARTITION BY RANGE (id);
        CREATE TABLE events_2 PARTITION OF others DEFAULT";
    let service = Service::with(PARTITIONED, mapping()).await;
    let statements = service.mapping.statements(&service.client).await.unwrap();
    let has = |part: &str| statements.iter().filter(|statement| statement.contains(part)).count();
    assert_eq!((has("ADD COLUMN"), has("CONCURRENTLY"), has("ON ONLY"), has("ATTACH")), (1, 2, 2, 3), "{statements:?}");
    assert_eq!(has("CREATE INDEX"), 4, "{statements:?}");
    for statement in &statements {
        service.sql(statement).await;
    }
    assert!(service.mapping.statements(&service.client).await.unwrap().is_empty());
    service.store().await;
}

#[tokio::test]
async fn what_would_lose_rows_or_is_not_known_is_refused_by_name() {
    const WHOLE: &str = "CREATE TABLE events (id bigserial PRIMARY KEY, kind text, body jsonb)";
    let cases: [(&str, Mapping, &[&str]); 18] = [
        (&format!("{WHOLE}; CREATE TABLE heir () INHERITS (events)"), mapping(), &["inherit", "partitioned"]),
        (WHOLE, mapping().table("event"), &["mapping.table", "`event`"]),
        (WHOLE, mapping().kind("type"), &["mapping.type", "no column `type`", "`kind`"]),
        (WHOLE, mapping().time("at"), &["mapping.time", "\"\" for none"]),
        (
            &WHOLE.replace("jsonb", "xml"),
            mapping(),
            &["mapping.payload", "`body`", "is xml", "json, jsonb, text or bytea"],
        ),
        (&WHOLE.replace("text", "point"), mapping(), &["mapping.type", "`kind`", "is point"]),
        (WHOLE, mapping().key(["body"]), &["mapping.key", "`body`", "is jsonb"]),
        (WHOLE, mapping().time("kind"), &["mapping.time", "is text", "timestamptz"]),
        (WHOLE, mapping().status("body", "NEW", "DONE"), &["mapping.status", "`body`"]),
        (&WHOLE.replace("bigserial", "uuid"), mapping(), &["mapping.id", "is uuid", "not a growing number"]),
        (&WHOLE.replace("bigserial PRIMARY KEY", "bigserial"), mapping(), &["mapping.id", "no unique index"]),
        (&WHOLE.replace("bigserial PRIMARY KEY", "bigint UNIQUE"), mapping(), &["mapping.id", "NULL"]),
        (&WHOLE.replace("bigserial", "bigint"), mapping(), &["mapping.id", "not drawn from a sequence", "IDENTITY"]),
        (&WHOLE.replace("TABLE", "UNLOGGED TABLE"), mapping(), &["unlogged", "SET LOGGED"]),
        (
            &format!("{WHOLE}; CREATE VIEW seen AS SELECT * FROM events"),
            mapping().table("seen"),
            &["no table", "behind"],
        ),
        (&format!("{WHOLE}; CREATE TABLE \"EVENTS\" (id integer)"), mapping().table("Events"), &["may be", "`EVENTS`"]),
        (
            &WHOLE.replace("body jsonb", "body jsonb, outbox_xid xid8 NOT NULL DEFAULT '7'"),
            mapping(),
            &["`outbox_xid`", "DEFAULT pg_current_xact_id()"],
        ),
        (SEED, Mapping::of(Layout::PollingOutbox).kind("Type"), &["mapping.type", "`eventtype`"]),
    ];
    for (sql, mapping, expected) in cases {
        let service = Service::with(sql, mapping).await;
        let refused = service.refusal().await;
        for part in expected {
            assert!(refused.contains(part), "`{part}` is not in: {refused}");
        }
    }
}

#[tokio::test]
async fn entries_that_nobody_would_read_are_not_left_in_silence() {
    let service = Service::of_seed().await.prepared().await;
    service.sql("SELECT outbox.write('a', 't')").await;
    let refused = service.refusal().await;
    assert!(refused.contains("outbox.entries") && refused.contains("`outbox.write`"), "{refused}");
}

#[tokio::test]
async fn rows_that_a_policy_hides_are_not_taken_for_none() {
    let service = Service::of_seed().await.prepared().await;
    let role = format!("mapped_{}", service.text("SELECT current_database()").await);
    service
        .sql(&format!(
            "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN PASSWORD 'x'; {}",
            outbox_sql::postgres::Grants::new().relay(&role).sql()
        ))
        .await;
    let open = async || {
        let url = service.database.url();
        let (scheme, rest) = url.split_once("://").unwrap();
        let at = rest.split_once('@').map_or(rest, |(_, at)| at);
        let options = outbox_sql::postgres::ConnectOptions::parse(&format!("{scheme}://{role}:x@{at}")).unwrap();
        let settings =
            outbox_sql::postgres::StoreOptions { mapping: Some(service.mapping.clone()), ..Default::default() };
        outbox_sql::postgres::PostgresStore::open(options, settings).await
    };
    let denied = open().await.err().expect("it may not read").to_string();
    assert!(denied.contains("may not read") && denied.contains("--relay"), "{denied}");
    service.sql("GRANT SELECT ON outbox TO PUBLIC").await;
    let denied = open().await.err().expect("it may not update").to_string();
    assert!(denied.contains("`status`"), "{denied}");
    service.sql(&service.mapping.grants(&service.client, &role).await.unwrap()).await;
    let mut reader = Reader::new(open().await.unwrap()).await;
    service.sql("INSERT INTO Outbox (EventType) VALUES ('t'); ALTER TABLE outbox ENABLE ROW LEVEL SECURITY").await;
    let error = reader.read(PLENTY).await.unwrap_err();
    assert!(error.kind() == outbox::ErrorKind::NotPermitted, "{error}");
    reader.store = service.store().await;
    let hidden = open().await.err().expect("rows are hidden").to_string();
    assert!(hidden.contains("row-level security") && hidden.contains("BYPASSRLS"), "{hidden}");
    service.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn rows_of_a_dump_from_a_server_with_more_transactions_are_refused_until_they_are_renumbered() {
    let service = Service::of_seed().await.prepared().await;
    service
        .sql("INSERT INTO Outbox (EventType, Payload) SELECT 'old' || n, '{}' FROM generate_series(1, 3) AS n")
        .await;
    service
        .sql("UPDATE Outbox SET outbox_xid = (outbox_xid::text::bigint + 100000000 + Id)::text::xid8 WHERE Id > 1")
        .await;
    let refused = service.refusal().await;
    let (said, remedy) = refused.split_once("nobody writes: ").expect("it says what to run");
    assert!(said.contains("`public.outbox`") && said.contains("dump"), "{refused}");
    service.sql(remedy).await;
    let mut reader = service.reader().await;
    service.sql("INSERT INTO Outbox (EventType, Payload) VALUES ('new', '{}')").await;
    reader.read_all().await;
    assert_eq!(types(&reader), ["old1", "old2", "old3", "new"]);
}
