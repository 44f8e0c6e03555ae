//! What is written to a bookkeeping, noted by the bookkeeping itself.

use std::path::Path;

use rusqlite::{Connection, types::FromSql};

use super::rig::PATIENCE;

/// What a relay writes under its lease.
const TABLES: [&str; 8] = ["leases", "claims", "checkpoints", "witnesses", "troubles", "kept", "tombstones", "health"];

/// Notes every checkpoint of the route, whoever takes or renews the lease, and every other write, in their order, each with
/// the epoch that the lease had reached by then: whose write it was, a trigger cannot know.
const NOTES: &str = "
    CREATE TABLE seen_checkpoints (number INTEGER PRIMARY KEY, epoch INTEGER, position INTEGER);
    CREATE TABLE seen_leases (number INTEGER PRIMARY KEY, epoch INTEGER, holder TEXT);
    CREATE TABLE seen_writes (number INTEGER PRIMARY KEY, epoch INTEGER, what TEXT);
    CREATE TRIGGER watch_insert AFTER INSERT ON checkpoints WHEN NEW.route = 'main' BEGIN
        INSERT INTO seen_checkpoints (epoch, position) SELECT epoch, CAST(NEW.position AS INTEGER) FROM leases;
    END;
    CREATE TRIGGER watch_update AFTER UPDATE ON checkpoints WHEN NEW.route = 'main' BEGIN
        INSERT INTO seen_checkpoints (epoch, position) SELECT epoch, CAST(NEW.position AS INTEGER) FROM leases;
    END;
    CREATE TRIGGER watch_take AFTER INSERT ON leases BEGIN
        INSERT INTO seen_leases (epoch, holder) VALUES (NEW.epoch, NEW.holder);
    END;
    CREATE TRIGGER watch_renew AFTER UPDATE ON leases BEGIN
        INSERT INTO seen_leases (epoch, holder) VALUES (NEW.epoch, NEW.holder);
    END;
    CREATE TRIGGER watch_replayed AFTER UPDATE ON replays BEGIN
        INSERT INTO seen_writes (epoch, what) SELECT epoch, 'update of replays' FROM leases;
    END;";

/// A bookkeeping that notes who writes to it.
#[derive(Debug)]
pub struct Watch {
    connection: Connection,
}

impl Watch {
    /// Has the bookkeeping in `file` take notes from now on.
    pub fn new(file: &Path) -> Self {
        let connection = Connection::open(file).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        connection.execute_batch(NOTES).unwrap();
        for table in TABLES {
            for change in ["insert", "update", "delete"] {
                let trigger = format!(
                    "CREATE TRIGGER watch_{change}_of_{table} AFTER {change} ON {table} BEGIN
                         INSERT INTO seen_writes (epoch, what) SELECT epoch, '{change} of {table}' FROM leases;
                     END;"
                );
                connection.execute_batch(&trigger).unwrap();
            }
        }
        Self { connection }
    }

    /// The checkpoints of route `main`, and the lease's epoch with each.
    pub fn checkpoints(&self) -> Vec<(i64, i64)> {
        self.seen("SELECT epoch, position FROM seen_checkpoints ORDER BY number")
    }

    /// Epochs and holders of the lease, once for each time that it was taken or renewed.
    pub fn leases(&self) -> Vec<(i64, String)> {
        self.seen("SELECT epoch, holder FROM seen_leases ORDER BY number")
    }

    /// What was written, and the lease's epoch with each.
    pub fn writes(&self) -> Vec<(i64, String)> {
        self.seen("SELECT epoch, what FROM seen_writes ORDER BY number")
    }

    fn seen<T: FromSql>(&self, sql: &str) -> Vec<(i64, T)> {
        let mut statement = self.connection.prepare(sql).unwrap();
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    }
}
