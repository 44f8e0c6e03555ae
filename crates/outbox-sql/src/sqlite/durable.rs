//! Making durable what was read before it is published.
//!
//! A writer at `synchronous = NORMAL` commits into the WAL without waiting for the disk: a power failure can take back
//! what a relay has already published. So the relay syncs the WAL itself before it hands out what it read there. It
//! opens the WAL apart from `SQLite` to do so, which is safe: `SQLite` takes its locks on the database file and on the
//! `-shm` file, never on the `-wal` file, so that closing this file drops none of them.
//!
//! Once is enough for each entry: entries are never changed, so all that a snapshot showed before a sync is durable
//! after it. What a checkpoint has moved into the database file is durable too, as `SQLite` syncs both around it. Only a
//! writer at `synchronous = OFF` takes all of this away: it lets checkpoints go unsynced, and nobody can put that right.

use std::{fs::File, io, path::PathBuf, sync::Mutex};

use outbox::{ErrorKind, StoreError};

use super::blocking::locked;

/// How far the entries are known to be durable.
pub(crate) struct Durable {
    wal: PathBuf,
    /// The highest id known to be durable. Held during the sync: a second reader then finds it done.
    through: Mutex<i64>,
}

impl Durable {
    pub(crate) fn new(wal: PathBuf) -> Self {
        Self { wal, through: Mutex::new(0) }
    }

    /// Whether the entry `id` is known to be durable.
    pub(crate) fn holds(&self, id: i64) -> bool {
        *locked(&self.through) >= id
    }

    /// Makes durable all that a snapshot showed, whose highest id was `highest`. Call it after that snapshot was read.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the disk did not take it; nothing of the snapshot may be published then.
    pub(crate) fn sync(&self, highest: i64) -> Result<(), StoreError> {
        let mut through = locked(&self.through);
        if *through >= highest {
            return Ok(());
        }
        match File::open(&self.wal).and_then(|wal| wal.sync_data()) {
            Ok(()) => {}
            // All of it was moved into the database file, and synced there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let message = format!("making the WAL `{}` durable before publishing: {error}", self.wal.display());
                return Err(StoreError::new(ErrorKind::Unavailable, message).because(error));
            }
        }
        *through = highest;
        Ok(())
    }

    /// Another file took the database's place: nothing is known of it.
    pub(crate) fn forget(&self) {
        *locked(&self.through) = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_once_is_not_synced_again() {
        let directory = tempfile::tempdir().unwrap();
        let room = directory.path().join("room");
        std::fs::create_dir(&room).unwrap();
        std::fs::write(room.join("a.db-wal"), b"frames").unwrap();
        let durable = Durable::new(room.join("a.db-wal"));
        durable.sync(10).unwrap();
        // From now on every sync fails.
        std::fs::remove_dir_all(&room).unwrap();
        std::fs::write(&room, b"").unwrap();
        durable.sync(10).unwrap();
        assert!(durable.holds(10) && !durable.holds(11));
        assert!(durable.sync(11).is_err());
        durable.forget();
        assert!(!durable.holds(10));
    }

    #[test]
    fn what_cannot_be_made_durable_is_not_published() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.db");
        std::fs::write(&file, b"").unwrap();
        let durable = Durable::new(file.join("no directory"));
        let error = durable.sync(3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(!durable.holds(3));
    }

    #[test]
    fn a_missing_wal_means_that_all_is_in_the_database_file() {
        let directory = tempfile::tempdir().unwrap();
        let durable = Durable::new(directory.path().join("a.db-wal"));
        durable.sync(3).unwrap();
        assert!(durable.holds(3));
    }
}
