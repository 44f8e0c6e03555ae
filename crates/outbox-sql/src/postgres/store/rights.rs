//! What a relay needs of a database, checked when it is opened.

use outbox::{ErrorKind, StoreError};
use tokio_postgres::Client;

use crate::postgres::{connection::ConnectOptions, failure::store_error};

const CHECKING: &str = "checking what this role may do";

/// What is missing, one a row.
const RIGHTS: &str = "SELECT w.what || ' ON ' || w.of FROM (
        SELECT 'SELECT' AS what, t.name AS of, has_table_privilege(t.name, 'SELECT') AS has
        FROM unnest(ARRAY['outbox.meta', 'outbox.heads', 'outbox.entries', 'outbox.entries_default', 'outbox.leaves',
            'outbox.routes']) AS t (name)
        UNION ALL
        SELECT p.what, 'outbox.routes', has_table_privilege('outbox.routes', p.what)
        FROM unnest(ARRAY['INSERT', 'UPDATE', 'DELETE']) AS p (what)
        UNION ALL
        SELECT 'UPDATE (' || c.name || ')', 'outbox.meta', has_column_privilege('outbox.meta', c.name, 'UPDATE')
        FROM unnest(ARRAY['max_event_bytes', 'bookkeeping', 'claim_epoch', 'claim_nonce']) AS c (name)
        UNION ALL
        SELECT 'EXECUTE', 'FUNCTION ' || f.name, coalesce(has_function_privilege(to_regprocedure(f.name), 'EXECUTE'), false)
        FROM unnest(ARRAY['outbox.make_leaf(interval,bigint,bigint)', 'outbox.drop_leaf()',
            'outbox.empty_leaf(pg_snapshot[],bigint,timestamptz)',
            'outbox.raise_incarnation(int8multirange,int8multirange,bigint,boolean)',
            -- It has one parameter more since PostgreSQL 17.
            'pg_catalog.pg_logical_emit_message(boolean,text,text'
                || CASE WHEN current_setting('server_version_num')::integer < 170000 THEN ')' ELSE ',boolean)' END
        ]) AS f (name)
    ) AS w WHERE NOT w.has";

/// Triggers and rules that come between a write and its row: they may change its key or number, or swallow it.
const BETWEEN: &str = "SELECT 'trigger `' || t.tgname || '` on ' || t.tgrelid::regclass
        FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid IN (SELECT p.relid FROM pg_partition_tree('outbox.entries') AS p)
            AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND (t.tgtype & 2) <> 0 AND (t.tgtype & 4) <> 0
    UNION ALL
    SELECT 'rule `' || r.rulename || '` on ' || r.ev_class::regclass
        FROM pg_catalog.pg_rewrite AS r
        WHERE r.ev_class IN (SELECT p.relid FROM pg_partition_tree('outbox.entries') AS p) AND r.ev_type = '3'";

/// Checks that the server takes writes, that this role has its rights, and that nothing comes between a write and its row.
///
/// # Errors
/// [`ErrorKind::NotPermitted`] or [`ErrorKind::Incompatible`] with the remedy; otherwise as the server says.
pub(super) async fn check(client: &Client, options: &ConnectOptions) -> Result<(), StoreError> {
    let replica = client.query_typed_one("SELECT pg_is_in_recovery()", &[]).await.and_then(|row| row.try_get(0));
    if replica.map_err(store_error(CHECKING))? {
        let message = format!(
            "{options} is a standby: what it shows may still be taken back, and it takes no claim; name the primary"
        );
        return Err(StoreError::new(ErrorKind::NotPermitted, message));
    }
    let missing = texts(client, RIGHTS).await?;
    if !missing.is_empty() {
        let message = format!(
            "this role lacks rights at {options}: {}; grant them: `outbox init --relay ROLE` prints how",
            missing.join(", ")
        );
        return Err(StoreError::new(ErrorKind::NotPermitted, message));
    }
    let between = texts(client, BETWEEN).await?;
    if !between.is_empty() {
        let message = format!(
            "entries may be changed before they are written, by {}: remove it, or make it an AFTER trigger",
            between.join(" and ")
        );
        return Err(StoreError::new(ErrorKind::Incompatible, message));
    }
    Ok(())
}

async fn texts(client: &Client, sql: &str) -> Result<Vec<String>, StoreError> {
    let rows = client.query_typed(sql, &[]).await.map_err(store_error(CHECKING))?;
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(store_error(CHECKING))
}
