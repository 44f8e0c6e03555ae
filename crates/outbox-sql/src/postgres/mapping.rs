//! Tables that are laid out otherwise: which of their columns are what of an event.
//!
//! Nothing that reads entries knows of it: every statement reads `outbox.entries AS e`, and for a mapped table a query stands
//! there that gives its rows the same columns. One column is Outbox's own, the number of the transaction that wrote the row, by
//! which no row is lost; the team adds it by the statement that [`Mapping::statements`] gives. The rows have no places: what is
//! written by others has no head, so order is that of the ids, and consumers use the modes `once` and `latest`.

use std::{fmt, str::FromStr};

use outbox::StoreError;
use tokio_postgres::{Client, types::Type};

use super::failure::store_error;

mod catalog;
mod columns;
mod entries;
mod log;
mod preparation;
mod refusal;
mod table;

pub(super) use entries::Entries;
pub(super) use log::{Form, LogTable};
use table::Table;

/// The column that is Outbox's: which transaction wrote the row.
pub(super) const XID: &str = "outbox_xid";

/// A layout that is known by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `Outbox(Id SERIAL, EventType, Payload JSON, Status, CreatedAt)`, whose status goes from `PENDING` to `PROCESSED`.
    PollingOutbox,
    /// Debezium's `outboxevent(id uuid, aggregatetype, aggregateid, type, payload)`. It has no growing id: only with one that
    /// was added, and [`Mapping::id`] names, can it be read; and a trigger that is part of [`Mapping::statements`] refuses a row
    /// that is deleted in the transaction that wrote it, as is usual where Debezium reads: nobody who polls would ever see it.
    Debezium,
}

/// There is no layout of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoLayout;

impl fmt::Display for NoLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is no layout: write `polling-outbox` or `debezium`, or say by `table` and its columns what it is")
    }
}

impl std::error::Error for NoLayout {}

impl FromStr for Layout {
    type Err = NoLayout;

    fn from_str(text: &str) -> Result<Self, NoLayout> {
        match text {
            "polling-outbox" => Ok(Self::PollingOutbox),
            "debezium" => Ok(Self::Debezium),
            _ => Err(NoLayout),
        }
    }
}

/// A table that holds entries, and which of its columns are what.
///
/// Names are looked for as they are written, and else without regard to case, if that leaves no doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    table: String,
    id: Option<String>,
    key: Vec<String>,
    kind: String,
    payload: String,
    content_type: Option<String>,
    event_id: Option<String>,
    time: Option<String>,
    attributes: Option<String>,
    status: Option<Status>,
    /// Whether who writes a row may be used to deleting it at once.
    is_guarded: bool,
}

/// A column that tells others which rows were published.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Status {
    column: String,
    waiting: String,
    done: String,
}

impl Mapping {
    /// A table, as `outbox_events` or `app.outbox_events`: its growing id, and the columns of the events' types and payloads.
    pub fn new(
        table: impl Into<String>,
        id: impl Into<String>,
        kind: impl Into<String>,
        payload: impl Into<String>,
    ) -> Self {
        Self {
            table: table.into(),
            id: Some(id.into()),
            key: Vec::new(),
            kind: kind.into(),
            payload: payload.into(),
            content_type: None,
            event_id: None,
            time: None,
            attributes: None,
            status: None,
            is_guarded: false,
        }
    }

    /// A layout that is known.
    pub fn of(layout: Layout) -> Self {
        match layout {
            Layout::PollingOutbox => Self::new("Outbox", "Id", "EventType", "Payload").time("CreatedAt").status(
                "Status",
                "PENDING",
                "PROCESSED",
            ),
            Layout::Debezium => Self { id: None, is_guarded: true, ..Self::new("outboxevent", "", "type", "payload") }
                .event_id("id")
                .key(["aggregatetype", "aggregateid"]),
        }
    }

    /// Another table of the same layout.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }

    /// The growing id: a number that the table draws from a sequence, with a unique index.
    pub fn id(mut self, column: impl Into<String>) -> Self {
        self.id = Some(column.into());
        self
    }

    /// Without a growing id: the table cannot be polled, and [is read from the server's log](super::wal::LogStore) alone.
    pub fn without_id(mut self) -> Self {
        self.id = None;
        self
    }

    /// Whether there is a growing id, by which the table can be polled.
    pub fn has_id(&self) -> bool {
        self.id.is_some()
    }

    /// Whether there is a column for a status that is kept.
    pub fn has_status(&self) -> bool {
        self.status.is_some()
    }

    /// What order is kept by: one column, or several that `/` joins. Where one of them is NULL the event has no key. Without
    /// any, no event has one.
    pub fn key(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.key = columns.into_iter().map(Into::into).collect();
        self
    }

    /// The events' types.
    pub fn kind(mut self, column: impl Into<String>) -> Self {
        self.kind = column.into();
        self
    }

    /// The payloads: JSON, text or bytes.
    pub fn payload(mut self, column: impl Into<String>) -> Self {
        self.payload = column.into();
        self
    }

    /// The payloads' media type. Unless it is said, texts are JSON, and a row whose text is none is set aside; bytes are
    /// `application/octet-stream`.
    pub fn content_type(mut self, media: impl Into<String>) -> Self {
        self.content_type = Some(media.into());
        self
    }

    /// The events' ids. Without it, an event's id is made from its row's id, time, type and key.
    pub fn event_id(mut self, column: impl Into<String>) -> Self {
        self.event_id = Some(column.into());
        self
    }

    /// When a row was written. Where it is NULL, and without it, when it is read; then no row is old enough for a retention by
    /// age. A time without a zone is in the zone of the relay's session.
    pub fn time(mut self, column: impl Into<String>) -> Self {
        self.time = Some(column.into());
        self
    }

    /// Without a column for the time.
    pub fn without_time(mut self) -> Self {
        self.time = None;
        self
    }

    /// Whether there is a column for the time.
    pub fn has_time(&self) -> bool {
        self.time.is_some()
    }

    /// A JSON object with further attributes of the event, as `subject`.
    pub fn attributes(mut self, column: impl Into<String>) -> Self {
        self.attributes = Some(column.into());
        self
    }

    /// A column for others to look at: `waiting`, or NULL, becomes `done` once every route is past the row, some time later and
    /// many rows at once. What was published is not told by it.
    pub fn status(mut self, column: impl Into<String>, waiting: impl Into<String>, done: impl Into<String>) -> Self {
        self.status = Some(Status { column: column.into(), waiting: waiting.into(), done: done.into() });
        self
    }

    /// Without a status that is kept.
    pub fn without_status(mut self) -> Self {
        self.status = None;
        self
    }

    /// What has to be run by the table's owner before it can be read; empty if nothing. Each statement by itself, for one of
    /// them cannot be part of a transaction. Nothing is run.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](outbox::ErrorKind::Invalid) or [`ErrorKind::Incompatible`](outbox::ErrorKind::Incompatible) if
    /// the table is not as the mapping says, or cannot be read without losing rows; otherwise as the server says.
    pub async fn statements(&self, client: &Client) -> Result<Vec<String>, StoreError> {
        let table = Table::find(client, self).await?;
        Ok(table.statements())
    }

    /// The SQL that publishes the table to who reads the server's log, to be run by its owner, who needs the right to CREATE
    /// in the database.
    ///
    /// # Errors
    /// As [`statements`](Self::statements).
    pub async fn publication_sql(&self, client: &Client, publication: &str) -> Result<String, StoreError> {
        let relation = table::find_relation(client, &self.table).await?;
        table::check_relation(&relation)?;
        let target = super::wal::Published::new(&relation.schema, &relation.name);
        Ok(super::wal::sql_to_publish(publication, &target))
    }

    /// The same, if there is no such publication yet.
    ///
    /// # Errors
    /// As [`statements`](Self::statements).
    pub async fn publication_statement(
        &self,
        client: &Client,
        publication: &str,
    ) -> Result<Option<String>, StoreError> {
        const SQL: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_publication AS p WHERE p.pubname = $1)";
        let found = client.query_typed_one(SQL, &[(&publication, Type::TEXT)]).await.and_then(|row| row.try_get(0));
        if found.map_err(store_error("looking for the publication"))? {
            return Ok(None);
        }
        let sql = self.publication_sql(client, publication).await?;
        Ok(Some(sql.trim_end_matches(';').to_owned()))
    }

    /// Looks whether the table can be read in the server's log as the mapping says.
    ///
    /// # Errors
    /// As [`statements`](Self::statements); also for a status that nobody could keep, or a time that the log does not tell
    /// exactly.
    pub async fn check_in_log(&self, client: &Client) -> Result<(), StoreError> {
        self.in_log(client).await.map(drop)
    }

    /// The table as the server's log gives its rows.
    pub(super) async fn in_log(&self, client: &Client) -> Result<LogTable, StoreError> {
        LogTable::find(client, self).await
    }

    /// What a relay's `role` needs of the table, as GRANTs to be run by its owner.
    ///
    /// # Errors
    /// As [`statements`](Self::statements).
    pub async fn grants(&self, client: &Client, role: &str) -> Result<String, StoreError> {
        if !self.has_id() {
            // Rows come in the log, where only the right to replicate counts.
            let relation = table::find_relation(client, &self.table).await?;
            return Ok(format!("GRANT USAGE ON SCHEMA {} TO {};\n", quoted(&relation.schema), quoted(role)));
        }
        let table = Table::find(client, self).await?;
        Ok(table.grants(role))
    }

    /// The table as it is read.
    ///
    /// # Errors
    /// As [`statements`](Self::statements); also if something is still to be run, or this role lacks a right.
    pub(super) async fn entries(&self, client: &Client) -> Result<Entries, StoreError> {
        let table = Table::find(client, self).await?;
        table.check_prepared()?;
        table.check_rights()?;
        table.check_numbers(client).await?;
        table::check_alone(client, &table.shown()).await?;
        Ok(Entries::of(&table))
    }
}

/// `name` as an identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as a literal.
fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_stay_what_they_are_in_a_statement() {
        assert_eq!(quoted("Out\"box"), "\"Out\"\"box\"");
        assert_eq!((literal("it's"), literal("a\\'")), ("'it''s'".to_owned(), "E'a\\\\'''".to_owned()));
    }

    #[test]
    fn layouts_are_known_by_their_names() {
        assert_eq!("polling-outbox".parse(), Ok(Layout::PollingOutbox));
        assert_eq!("debezium".parse(), Ok(Layout::Debezium));
        assert!("outbox".parse::<Layout>().unwrap_err().to_string().contains("`debezium`"));
    }
}
