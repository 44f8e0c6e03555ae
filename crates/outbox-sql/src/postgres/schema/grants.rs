//! Rights, no more than needed.

use super::line;

/// The functions that writers call.
const WRITING: [&str; 9] = [
    "write(text, text, text, text, text, jsonb, bigint, uuid, timestamptz)",
    "write(text, text, bytea, text, text, jsonb, bigint, uuid, timestamptz)",
    "write(text, text, jsonb, text, text, jsonb, bigint, uuid, timestamptz)",
    "write(text, text, json, text, text, jsonb, bigint, uuid, timestamptz)",
    "write_all(json, uuid, timestamptz)",
    "write_all(text, uuid, timestamptz)",
    "write_all(jsonb, uuid, timestamptz)",
    "write_entries(uuid, bigint, bigint[], text[], integer[], text[], text[], text[], text[], bytea[], text[], text[], text[], bigint[])",
    "committed(text, bigint, uuid)",
];

/// The functions that relays call, to make and empty the leaves of the entries, and that `outbox adopt` calls.
const KEEPING: [&str; 4] = [
    "make_leaf(interval, bigint, bigint)",
    "empty_leaf(pg_snapshot[], bigint, timestamptz)",
    "drop_leaf()",
    "raise_incarnation(int8multirange, int8multirange, bigint, boolean)",
];

/// What roles may do, as GRANTs to be run by the schema's owner. The roles are there already.
///
/// A writer may call the functions that write, and read the heads: it has no right on the entries, so it can neither read
/// other writers' events nor put a row there that breaks a key's order. A relay may read the entries, keep the
/// registrations, and have leaves made and emptied; it cannot write an event.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    writers: Vec<String>,
    relays: Vec<String>,
}

impl Grants {
    /// Grants to nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also to `role`, which writes.
    pub fn writer(mut self, role: impl Into<String>) -> Self {
        self.writers.push(role.into());
        self
    }

    /// Also to `role`, which reads for a relay.
    pub fn relay(mut self, role: impl Into<String>) -> Self {
        self.relays.push(role.into());
        self
    }

    /// The GRANTs, one a line. They can be run again without effect.
    pub fn sql(&self) -> String {
        let mut sql = String::new();
        for role in self.writers.iter().map(|role| quoted(role)) {
            line(&mut sql, format_args!("GRANT USAGE ON SCHEMA outbox TO {role}"));
            line(&mut sql, format_args!("GRANT SELECT ON outbox.heads TO {role}"));
            grant_execute(&mut sql, &WRITING, &role);
        }
        for role in self.relays.iter().map(|role| quoted(role)) {
            line(&mut sql, format_args!("GRANT USAGE ON SCHEMA outbox TO {role}"));
            for table in ["meta", "heads", "entries", "entries_default", "leaves", "routes", "entry_ids"] {
                line(&mut sql, format_args!("GRANT SELECT ON outbox.{table} TO {role}"));
            }
            line(&mut sql, format_args!("GRANT INSERT, UPDATE, DELETE ON outbox.routes TO {role}"));
            line(
                &mut sql,
                format_args!(
                    "GRANT UPDATE (incarnation, max_event_bytes, bookkeeping, claim_epoch, claim_nonce) ON outbox.meta TO {role}"
                ),
            );
            grant_execute(&mut sql, &KEEPING, &role);
        }
        sql
    }
}

fn grant_execute(sql: &mut String, functions: &[&str], role: &str) {
    for function in functions {
        line(sql, format_args!("GRANT EXECUTE ON FUNCTION outbox.{function} TO {role}"));
    }
}

/// `role` as an identifier.
fn quoted(role: &str) -> String {
    format!("\"{}\"", role.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_quoted_whatever_its_name() {
        let sql = Grants::new().writer("a\"; DROP TABLE x; --").sql();
        assert!(sql.lines().all(|line| line.ends_with("TO \"a\"\"; DROP TABLE x; --\";")), "{sql}");
    }
}
