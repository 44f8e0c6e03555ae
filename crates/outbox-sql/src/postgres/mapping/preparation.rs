//! What is done once to a table before it is polled: a column of Outbox's, and an index; a trigger where rows are likely to be
//! deleted at once.

use std::fmt::Write;

use outbox::StoreError;
use tokio_postgres::Client;

use super::{XID, catalog::Partition, quoted, refusal::incompatible, table::Table};
use crate::postgres::failure::store_error;

/// Whoever writes queues behind a statement that waits for a lock: it gives up soon, and is run again.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '500ms'";
const DEFAULT: &str = "pg_current_xact_id()";
/// The trigger that refuses to delete a row in the transaction that wrote it, and its function.
const GUARD: &str = "outbox_refuse_unread_delete";

/// `statement`, which keeps writers out, with a limit to how long it waits for them.
fn locking(statement: &str) -> String {
    format!("{LOCK_TIMEOUT}; {statement}; RESET lock_timeout")
}

impl Table {
    /// What is still to be run. The column's default is worked out once for the rows that are there, so the table is not
    /// rewritten: they get the number of the transaction that adds it, which ends after all that wrote them, for it waits for
    /// their locks. So they come in the first range of who starts at the beginning.
    pub(super) fn statements(&self) -> Vec<String> {
        let table = self.name();
        let mut statements = Vec::new();
        if !self.has_column() {
            statements.push(locking(&format!("ALTER TABLE {table} ADD COLUMN {XID} xid8 NOT NULL DEFAULT {DEFAULT}")));
        }
        if !self.has_index() {
            statements.extend(self.index_statements());
        }
        if !self.has_guard() {
            let function = format!("{}.{GUARD}", quoted(&self.relation.schema));
            statements.push(format!(
                "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS \
                 $$BEGIN RAISE EXCEPTION 'a row of % is deleted in the transaction that wrote it, and would never be published', \
                 TG_TABLE_NAME USING HINT = 'Leave it there: the retention of Outbox removes what is published.'; END$$"
            ));
            statements.push(locking(&format!(
                "CREATE OR REPLACE TRIGGER {GUARD} AFTER DELETE ON {table} FOR EACH ROW WHEN (OLD.{XID} = {DEFAULT}) \
                 EXECUTE FUNCTION {function}()"
            )));
        }
        statements
    }

    /// The index, made beside those who write: it waits for others without holding anybody up, and leaves rubbish behind if it
    /// gives up. Of a partitioned table each partition gets its own, and what is above only puts them together.
    fn index_statements(&self) -> Vec<String> {
        let columns = format!("({XID}, {})", quoted(&self.id.name));
        let index = quoted(&format!("{}_outbox", self.relation.name.chars().take(40).collect::<String>()));
        if self.partitions.is_empty() {
            return vec![format!("CREATE INDEX CONCURRENTLY {index} ON {} {columns}", self.name())];
        }
        // Cut to the length that a name may have, names of partitions may be the same.
        let index_of = |part: &Partition| {
            if part.oid == self.relation.oid { index.clone() } else { format!("outbox_{}", part.oid) }
        };
        let made = self.partitions.iter().map(|part| {
            let (index, table) = (index_of(part), format!("{}.{}", quoted(&part.schema), quoted(&part.name)));
            if part.is_leaf {
                format!("CREATE INDEX CONCURRENTLY {index} ON {table} {columns}")
            } else {
                locking(&format!("CREATE INDEX {index} ON ONLY {table} {columns}"))
            }
        });
        let attached = self.partitions.iter().filter_map(|part| {
            let above = self.partitions.iter().find(|above| Some(above.oid) == part.parent)?;
            Some(locking(&format!(
                "ALTER INDEX {}.{} ATTACH PARTITION {}.{}",
                quoted(&above.schema),
                index_of(above),
                quoted(&part.schema),
                index_of(part)
            )))
        });
        made.chain(attached).collect()
    }

    /// What the relay's `role` needs, to read, to keep the status, and to remove what is past its retention.
    pub(super) fn grants(&self, role: &str) -> String {
        let (table, role) = (self.name(), quoted(role));
        let mut grants = format!(
            "GRANT USAGE ON SCHEMA {} TO {role};\nGRANT SELECT, DELETE ON {table} TO {role};\n",
            quoted(&self.relation.schema)
        );
        if let Some((column, _)) = &self.status {
            // Writing to a string does not fail.
            let _ = writeln!(grants, "GRANT UPDATE ({}) ON {table} TO {role};", quoted(&column.name));
        }
        grants
    }

    /// Whether nothing is to be run.
    pub(super) fn check_prepared(&self) -> Result<(), StoreError> {
        if let Some(column) = self.columns.iter().find(|column| column.name == XID)
            && (column.kind != "xid8" || !column.is_required || column.default.as_deref() != Some(DEFAULT))
        {
            return Err(incompatible(format!(
                "the column `{XID}` of the mapped table {} is not the one that Outbox reads by: it has to be \
                 xid8 NOT NULL DEFAULT {DEFAULT}; drop it, and run what `outbox init` prints",
                self.shown()
            )));
        }
        match &self.statements()[..] {
            [] => Ok(()),
            missing => Err(incompatible(format!(
                "the mapped table {} is not prepared for polling: have its owner run, each by itself: {}",
                self.shown(),
                missing.join("; ")
            ))),
        }
    }

    /// Whether all rows that are there were written here. A dump carries numbers that the server has yet to give: until then
    /// nobody would see these rows.
    pub(super) async fn check_numbers(&self, client: &Client) -> Result<(), StoreError> {
        const LOOKING: &str = "looking for rows of another server";
        const UNGIVEN: &str = "pg_snapshot_xmax(pg_current_snapshot())";
        let table = self.name();
        // The highest stands at one end of the index.
        let sql = format!("SELECT coalesce(max({XID}) >= {UNGIVEN}, false) FROM {table}");
        let found = client.query_typed_one(&sql, &[]).await.and_then(|row| row.try_get::<_, bool>(0));
        if !found.map_err(store_error(LOOKING))? {
            return Ok(());
        }
        Err(incompatible(format!(
            "the mapped table {} holds rows with numbers of transactions that this server has not given yet, as a dump brings \
             them: they would not be published. Have its owner run, while nobody writes: \
             UPDATE {table} SET {XID} = {DEFAULT} WHERE {XID} >= {UNGIVEN}",
            self.shown()
        )))
    }

    fn has_guard(&self) -> bool {
        !self.is_guarded || self.delete_triggers.iter().any(|name| name == GUARD)
    }

    fn has_column(&self) -> bool {
        self.columns.iter().any(|column| column.name == XID)
    }

    fn has_index(&self) -> bool {
        let wanted = [XID, &self.id.name];
        self.indexes.iter().any(|index| index.columns.iter().map(String::as_str).take(2).eq(wanted))
    }
}
