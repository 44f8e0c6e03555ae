//! Reading entries from the server's write-ahead log.
//!
//! The log gives each commit a moment after it is flushed, without a query: that is what it is for. What makes sure that
//! nothing is lost is the table, as for polling: both read by the same positions, which say what transactions were read, so
//! whatever the log cannot give, the table can. All routes share one slot and one stream:
//!
//! - A route that stands where the stream is gets what comes next from there. One that stands elsewhere, because its sink
//!   was slow, or it was stopped, or it begins, reads the table up to a place of the stream and goes on in it.
//! - The slot is told that something is done with as soon as it can be seen in the table. So a slow route never keeps the
//!   server's log, and it does not matter what a relay had stored when it was killed: the stream begins behind what can be
//!   seen then, and the table has what came before. Whoever reads up to that snapshot and then what the slot gives and the
//!   snapshot does not see, reads everything once.
//! - If the slot is lost, or held by somebody else, or the server cannot be reached for streaming, or holds more log than
//!   [`WalSettings::hard_cap`] allows, the table is polled until that is over.
//!
//! Nothing waits here for the bookkeeping: that a table has an entry for as long as a route needs it is retention's promise.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use outbox::{Clock, ErrorKind, Source, StoreError, System};

use super::failure::of_state;

mod alone;
mod chain;
mod frame;
mod login;
mod look;
mod lsn;
mod pgoutput;
mod proof;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
#[expect(clippy::panic, reason = "a property that does not hold is told by a panic")]
pub mod properties;
mod publication;
mod pump;
mod replication;
mod rows;
mod shared;
mod silence;
mod slot;
mod source;
mod standby;
mod state;
mod unread;
mod xid;

pub use alone::LogStore;
pub(super) use chain::UNORDERED;
pub use publication::{PUBLICATION, publication_sql, publish};
pub(super) use publication::{Target as Published, sql_to_publish};
pub use slot::Pin;
pub use unread::{UnreadSlot, unread_slots};

use rows::Layout;

use super::{
    connection::{ConnectOptions, Connection},
    mapping::Mapping,
};

/// How a server's log is read.
#[derive(Clone)]
pub struct WalSettings {
    slot: Option<String>,
    publication: String,
    budget: u64,
    hard_cap: u64,
    mapping: Option<Mapping>,
    clock: Arc<dyn Clock>,
}

impl Default for WalSettings {
    fn default() -> Self {
        Self {
            slot: None,
            publication: PUBLICATION.to_owned(),
            budget: 64 << 20,
            hard_cap: 4 << 30,
            mapping: None,
            clock: Arc::new(System),
        }
    }
}

impl WalSettings {
    /// The slot `outbox_` with the database's id, the publication `outbox`, 64 MiB, 4 GiB.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name of the replication slot: 1 to 59 lower-case letters, digits and underscores, used for nothing else on this
    /// server.
    pub fn slot(mut self, name: impl Into<String>) -> Self {
        self.slot = Some(name.into());
        self
    }

    /// The name of the publication.
    pub fn publication(mut self, name: impl Into<String>) -> Self {
        self.publication = name.into();
        self
    }

    /// How many bytes of log the server keeps at most for what no route has asked for yet; beyond, it is read in the table.
    /// For as long as a transaction is open the server keeps what was written since besides, whatever is done here.
    pub fn budget(mut self, bytes: u64) -> Self {
        self.budget = bytes;
        self
    }

    /// How many bytes of log the server keeps at all: beyond, as when a transaction stays open, the slot is dropped and the
    /// table polled, until that transaction has ended.
    pub fn hard_cap(mut self, bytes: u64) -> Self {
        self.hard_cap = bytes;
        self
    }

    /// Reads the rows of a mapped table, as the source that polls does: the one is given the same mapping as the other.
    pub fn mapping(mut self, mapping: Option<Mapping>) -> Self {
        self.mapping = mapping;
        self
    }

    /// Takes times from `clock` rather than from the machine.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

impl fmt::Debug for WalSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalSettings")
            .field("slot", &self.slot)
            .field("publication", &self.publication)
            .field("budget", &self.budget)
            .field("hard_cap", &self.hard_cap)
            .field("mapping", &self.mapping)
            .finish_non_exhaustive()
    }
}

/// How the log is being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalStatus {
    /// The replication slot.
    pub slot: String,
    /// Why the table is polled, if it is: what is wrong, and what to do. `None` while the log is read.
    pub polling: Option<String>,
    /// How many bytes of log the server keeps for the slot, when it was last looked at.
    pub held_bytes: u64,
    /// Of these, how many not because of an open transaction, but because they were not read yet.
    pub unread_bytes: u64,
    /// The oldest open transaction, if the server keeps more than the budget.
    pub pinned_by: Option<Pin>,
}

/// Entries from a server's log, and from the table where that has to be. Cheap to clone; the stream ends with the last clone.
#[derive(Clone)]
pub struct WalSource {
    reader: Arc<source::Reader>,
}

impl WalSource {
    /// Reads the log of the server that `options` lead to, and `table` where that has to be: the source that polls the same
    /// database, whose positions this one shares. Nothing is read, and no slot made, before the first
    /// [`read`](Source::read); `options` must lead to the server itself, not to a pooler.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with the SQL to run, if the server's log does not tell of every entry, commits would wait for
    /// this reader as for a standby, or the slot's name cannot be one; [`ErrorKind::NotPermitted`] if the server is a standby, or the role may not replicate; otherwise as the
    /// server says.
    pub async fn open(
        table: Arc<dyn Source>,
        options: ConnectOptions,
        settings: WalSettings,
    ) -> Result<Self, StoreError> {
        let beside = look::Beside::new(Connection::new(options.clone()), settings.publication.clone());
        let (slot, layout) = {
            let client = beside.connection().client().await?;
            let meta = super::schema::check(&*client).await?;
            let layout = Layout::of(&client, settings.mapping.as_ref()).await?;
            publication::check(&*client, &settings.publication, &layout.target()).await?;
            let slot = settings.slot.clone().unwrap_or_else(|| unread::own_slot(&meta.store_id));
            (slot, layout)
        };
        check_slot_name(&slot)?;
        slot::look(&beside, &slot).await?;
        standby::refuse(&beside.look().await?.standbys, &options).await?;
        // Whether we may replicate is known only once we try to.
        drop(replication::Replication::connect(&options).await?);
        let shared = shared::Shared::new(table, beside, options, slot, (layout, settings));
        Ok(Self { reader: Arc::new(source::Reader::new(shared)) })
    }

    /// How the log is being read.
    pub fn status(&self) -> WalStatus {
        self.reader.shared().status()
    }
}

fn check_slot_name(name: &str) -> Result<(), StoreError> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if is_plain && (1..=59).contains(&name.len()) {
        return Ok(());
    }
    let message = format!(
        "`{name}` cannot be the name of a replication slot: use 1 to 59 lower-case letters, digits and underscores"
    );
    Err(StoreError::new(ErrorKind::Invalid, message))
}

/// What the server says in an error message of its protocol.
fn refused(attempted: &str, body: &Bytes) -> StoreError {
    let field = |wanted: u8| {
        let fields = body.split(|byte| *byte == 0).filter_map(<[u8]>::split_first);
        fields
            .into_iter()
            .find(|(kind, _)| **kind == wanted)
            .map(|(_, text)| String::from_utf8_lossy(text).into_owned())
    };
    let code = field(b'C').unwrap_or_default();
    let (kind, remedy) = match (code.as_str(), attempted) {
        ("42501", login::LOGGING_IN) => (
            ErrorKind::NotPermitted,
            ": let this role replicate: ALTER ROLE … REPLICATION (on Amazon RDS: GRANT rds_replication TO …)",
        ),
        // Of its catalogues, too, a decoder sees what was there when the log was written.
        ("42704", replication::STREAMING) => (
            ErrorKind::HistoryChanged,
            ": the log was written while that was not there, and so cannot be read: run `outbox adopt` if it is read alone",
        ),
        ("53300", _) => {
            (ErrorKind::Unavailable, ": raise max_wal_senders and max_connections, or close other connections")
        }
        ("53400", _) => (ErrorKind::Unavailable, ": raise max_replication_slots, or drop slots that nobody reads"),
        ("55006", _) => (ErrorKind::Unavailable, ""),
        _ => of_state(&code),
    };
    let said = field(b'M').unwrap_or_default();
    StoreError::new(kind, format!("{attempted}: {said} (SQLSTATE {code}){remedy}"))
}

/// How long a step of the stream's housekeeping waits for the next.
const ROUND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_server_is_told_with_its_code_and_remedy() {
        let body = Bytes::from_static(
            b"SFATAL\0VFATAL\0C42501\0Mmust be superuser or replication role to start walsender\0\0",
        );
        let error = refused(login::LOGGING_IN, &body);
        assert_eq!(error.kind(), ErrorKind::NotPermitted);
        assert!(error.to_string().contains("ALTER ROLE") && error.to_string().contains("42501"), "{error}");
        assert_eq!(refused("x", &Bytes::from_static(b"\0\0")).kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_slots_name_is_checked_before_the_server_is_asked() {
        for name in ["outbox", "a_1", &"x".repeat(59)] {
            check_slot_name(name).unwrap();
        }
        for name in ["", "A", "a-b", "ä", &"x".repeat(60)] {
            assert_eq!(check_slot_name(name).unwrap_err().kind(), ErrorKind::Invalid, "{name}");
        }
    }
}
