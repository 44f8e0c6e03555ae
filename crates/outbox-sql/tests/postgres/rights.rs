//! Roles with no more rights than they need.

use outbox::WriteError;
use outbox_sql::postgres::{Grants, write};

use crate::fixture::{Fixture, event, refusal};

/// A role of this test's own; roles belong to the server, so it is dropped again.
async fn with_role<T>(
    fixture: &Fixture,
    name: &str,
    grants: impl Fn(Grants, String) -> Grants,
    test: impl AsyncFnOnce(&mut tokio_postgres::Client) -> T,
) -> T {
    let role = format!("{name}_{}", fixture.number("SELECT txid_current()").await);
    let role = format!(
        "{role}_{}",
        fixture.number("SELECT oid::bigint FROM pg_database WHERE datname = current_database()").await
    );
    fixture.sql(&format!("CREATE ROLE {role}")).await;
    fixture.sql(&grants(Grants::new(), role.clone()).sql()).await;
    fixture.sql(&grants(Grants::new(), role.clone()).sql()).await;
    let mut client = fixture.database.session().await;
    client.batch_execute(&format!("CREATE SCHEMA AUTHORIZATION {role}; SET ROLE {role}")).await.unwrap();
    let outcome = test(&mut client).await;
    drop(client);
    fixture.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    outcome
}

#[tokio::test]
async fn a_writer_may_write_and_nothing_else() {
    let fixture = Fixture::new().await;
    with_role(&fixture, "writer", Grants::writer, async |client| {
        for call in [
            "write('k', 't')",
            "write('k', 't', '{}'::json)",
            "write('k', 't', '{}'::jsonb)",
            "write('k', 't', ''::bytea)",
            "write_all('[{\"type\": \"t\", \"key\": \"l\"}]')",
            "write_all('[]'::json)",
            "write_all('[]'::jsonb)",
            "committed('k', 1, gen_random_uuid())",
        ] {
            client.batch_execute(&format!("SELECT outbox.{call}")).await.expect(call);
        }
        client.batch_execute("SELECT sequence FROM outbox.heads").await.unwrap();
        let transaction = client.transaction().await.unwrap();
        write(&transaction, [event("k")]).await.unwrap();
        transaction.commit().await.unwrap();
        for sql in [
            "SELECT FROM outbox.entries",
            "INSERT INTO outbox.entries (type) VALUES ('t')",
            "SELECT FROM outbox.entries_1",
            "UPDATE outbox.heads SET sequence = 1",
            "DELETE FROM outbox.heads",
            "SELECT FROM outbox.meta",
            "SELECT nextval('outbox.entry_ids')",
            "SELECT outbox.put('k', 0, 1, 't', NULL, NULL, NULL, NULL, NULL, NULL, gen_random_uuid(), now())",
            "SELECT outbox.make_leaf()",
            "SELECT outbox.drop_leaf()",
            "SELECT outbox.empty_leaf(ARRAY[pg_current_snapshot()], 1, now())",
            "CREATE TABLE outbox.mine ()",
        ] {
            let refused = refusal(client, sql).await;
            assert!(refused.starts_with("42501"), "{sql}: {refused}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_relay_may_read_and_keep_leaves_and_write_no_event() {
    let fixture = Fixture::new().await;
    fixture.sql("SELECT outbox.write('k', 't')").await;
    with_role(&fixture, "relay", Grants::relay, async |client| {
        for sql in [
            "SELECT * FROM outbox.entries, outbox.heads, outbox.meta, outbox.leaves, outbox.entry_ids",
            "INSERT INTO outbox.routes VALUES ('r', '', '', NULL, 1, true, now())",
            "UPDATE outbox.routes SET gapless = false",
            "DELETE FROM outbox.routes",
            "UPDATE outbox.meta SET max_event_bytes = 1, claim_epoch = 2, claim_nonce = 'n', bookkeeping = 'b'",
            "SELECT outbox.make_leaf(), outbox.drop_leaf(), outbox.empty_leaf(ARRAY[pg_current_snapshot()], 1, now())",
        ] {
            client.batch_execute(sql).await.expect(sql);
        }
        for sql in [
            "SELECT outbox.write('k', 't')",
            "DELETE FROM outbox.entries",
            "TRUNCATE outbox.entries",
            "UPDATE outbox.meta SET producer = 'x'",
            "UPDATE outbox.heads SET sequence = 1",
        ] {
            let refused = refusal(client, sql).await;
            assert!(refused.starts_with("42501"), "{sql}: {refused}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_writer_defines_is_not_run_with_the_owners_rights() {
    let fixture = Fixture::new().await;
    with_role(&fixture, "trap", Grants::writer, async |client| {
        client
            .batch_execute(
                "CREATE FUNCTION octet_length(text) RETURNS integer LANGUAGE sql AS 'SELECT 1/0';
                 CREATE FUNCTION trap(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT 1/0 = 1';
                 CREATE OPERATOR ~ (LEFTARG = text, RIGHTARG = text, FUNCTION = trap);
                 CREATE TEMPORARY TABLE heads (key text);
                 SELECT set_config('search_path', current_user::text || ', pg_temp, pg_catalog', false)",
            )
            .await
            .unwrap();
        client.batch_execute("SELECT outbox.write('k', 't'), outbox.write('k', 'ü')").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_writer_without_rights_is_told_which() {
    let fixture = Fixture::new().await;
    with_role(
        &fixture,
        "nobody",
        |grants, _| grants,
        async |client| {
            let transaction = client.transaction().await.unwrap();
            let error = write(&transaction, [event("k")]).await.unwrap_err();
            assert!(matches!(&error, WriteError::Store { message, .. } if message.contains("grant")), "{error}");
        },
    )
    .await;
}
