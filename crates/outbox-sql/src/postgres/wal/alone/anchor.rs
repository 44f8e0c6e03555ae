//! The slot that keeps the log for all routes, and whether it still does.

use std::sync::LazyLock;

use outbox::{ErrorKind, Position, StoreError, store::Registration};
use tokio_postgres::types::{ToSql, Type};

use super::{Alone, place::Place};
use crate::postgres::{
    position::Snapshot,
    wal::{
        look::{read_lsn, read_snapshot, timeline},
        lsn::Lsn,
        publication::fingerprint,
        replication::{Replication, identifier, literal},
        slot,
    },
};

const LOOKING: &str = "looking at the replication slot";

/// What the server says of slot, log and publication, all at once.
#[derive(Debug)]
pub(super) struct Look {
    /// `None` if there is no slot, or it was invalidated.
    pub(super) confirmed: Option<Lsn>,
    /// How many bytes of log the slot holds.
    pub(super) held: u64,
    /// What can be seen.
    pub(super) snapshot: Snapshot,
    /// Up to where the log was written.
    pub(super) written: Lsn,
    /// The standbys that commits wait for, as the server's setting names them.
    pub(super) standbys: String,
    /// Which of the histories of the log the server writes.
    pub(super) timeline: u32,
    /// Another text whenever the publication of the table was changed, or made anew.
    pub(super) publication: String,
}

impl Look {
    /// What may be given out, if that is not everything: what can be seen, where commits wait for a standby.
    pub(super) fn gate(&self) -> Option<Snapshot> {
        (!self.standbys.is_empty()).then(|| self.snapshot.clone())
    }
}

/// Since when the log is known to be whole, kept with each registered route: `@0~0/1/16B3748#16B3748#16400.760.16403.761`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Nothing before this place is missed by anybody.
    pub(super) begin: Lsn,
    /// [`Look::publication`], as it was.
    pub(super) publication: String,
}

impl Mark {
    /// A route's start, and the mark.
    pub(super) fn with(&self, start: Place) -> String {
        format!("{}#{}#{}", start.position(), self.begin, self.publication)
    }

    /// The start, and the mark.
    fn read(text: &str) -> Option<(&str, Self)> {
        let mut parts = text.split('#');
        let (Some(start), Some(begin), Some(publication), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        Some((start, Self { begin: begin.parse().ok()?, publication: publication.to_owned() }))
    }

    /// The latest of the registered routes; `None` without any.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if a route was registered where the table was polled.
    pub(super) fn of(routes: &[Registration]) -> Result<Option<Self>, StoreError> {
        let mut latest: Option<Self> = None;
        for registration in routes {
            let mark = registration.start_position.as_deref().and_then(Self::read).map(|(_, mark)| mark);
            let mark = mark.ok_or_else(|| {
                let route = &registration.route;
                let message = format!(
                    "the route `{route}` began where a table was polled, and cannot go on in a log that is read alone: let it \
                     publish what there is, then `outbox route retire {route}`, and register it anew"
                );
                StoreError::new(ErrorKind::Invalid, message)
            })?;
            if latest.as_ref().is_none_or(|latest| latest.begin < mark.begin) {
                latest = Some(mark);
            }
        }
        Ok(latest)
    }
}

/// The registration without the mark.
pub(super) fn plain(registration: Registration) -> Registration {
    let start = registration
        .start_position
        .as_deref()
        .map(|text| Mark::read(text).map_or_else(|| text.to_owned(), |(start, _)| start.to_owned()));
    Registration { start_position: start, ..registration }
}

/// What cannot be gone on with.
pub(super) fn lost(found: &str) -> StoreError {
    let message = format!(
        "{found}: what was committed meanwhile cannot be read any more, for these rows are in the log alone. Publish by hand \
         what is missing, and run `outbox adopt`, which goes on from here; with --restored, if it finds nothing"
    );
    StoreError::new(ErrorKind::HistoryChanged, message)
}

impl Alone {
    /// Looks.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the slot is another one's; otherwise as the server says.
    pub(super) async fn look(&self) -> Result<Look, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let publication = fingerprint("$2", "r.prrelid = $3::text::regclass");
            format!(
                "SELECT s.plugin = 'pgoutput' AND s.database = current_database() AND NOT s.two_phase, \
            coalesce(s.wal_status = 'lost' OR s.restart_lsn IS NULL, true), s.confirmed_flush_lsn::text, \
            pg_wal_lsn_diff(pg_current_wal_insert_lsn(), s.restart_lsn)::bigint, \
            pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text, \
            current_setting('synchronous_standby_names'), \
            pg_walfile_name(pg_current_wal_insert_lsn()), \
            {publication} \
            FROM (SELECT) AS one LEFT JOIN pg_replication_slots AS s ON s.slot_name = $1"
            )
        });
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&self.slot, Type::TEXT), (&self.settings.publication, Type::TEXT), (&self.table, Type::TEXT)];
        let client = self.connection.client().await?;
        let limit = client.limit();
        let row = limit.within(LOOKING, client.query_typed_one(&SQL, &params)).await?;
        let of = |error| crate::postgres::failure::store_error(LOOKING)(error);
        let text = |column| row.try_get::<_, String>(column).map_err(of);
        if row.try_get::<_, Option<bool>>(0).map_err(of)? == Some(false) {
            let message = format!(
                "the replication slot `{}` is not one of pgoutput in this database: choose another name by `slot`",
                self.slot
            );
            return Err(StoreError::new(ErrorKind::Invalid, message));
        }
        let is_lost: bool = row.try_get(1).map_err(of)?;
        let confirmed: Option<String> = row.try_get(2).map_err(of)?;
        let held: Option<i64> = row.try_get(3).map_err(of)?;
        Ok(Look {
            confirmed: confirmed.filter(|_| !is_lost).map(|text| read_lsn(&text)).transpose()?,
            held: held.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default(),
            snapshot: read_snapshot(&text(4)?)?,
            written: read_lsn(&text(5)?)?,
            standbys: text(6)?,
            timeline: timeline(&text(7)?),
            publication: text(8)?,
        })
    }

    /// Makes sure that the log is whole since `mark` for who stands at `place`, as far as can be seen without reading.
    ///
    /// # Errors
    /// [`ErrorKind::HistoryChanged`] if it is not.
    pub(super) fn check(&self, look: &Look, mark: &Mark, place: Place) -> Result<(), StoreError> {
        let slot = &self.slot;
        let Some(confirmed) = look.confirmed else {
            return Err(lost(&format!(
                "the replication slot `{slot}`, which kept the log, was dropped or invalidated"
            )));
        };
        if confirmed > place.lsn.max(mark.begin) {
            return Err(lost(&format!(
                "the replication slot `{slot}` was moved on to {confirmed} by somebody else, beyond {}, up to where was read",
                place.lsn
            )));
        }
        if look.publication != mark.publication {
            return Err(lost(&format!(
                "the publication `{}` was changed or made anew, and may have left out rows",
                self.settings.publication
            )));
        }
        let is_older = look.timeline < place.timeline || look.written < place.lsn;
        if is_older {
            let message = format!(
                "the server has written its log up to {} of timeline {}, but what was read before reaches {} of timeline {}: \
                 it is an older copy. Stop its writers and run `outbox adopt`",
                look.written, look.timeline, place.lsn, place.timeline
            );
            return Err(StoreError::new(ErrorKind::HistoryChanged, message));
        }
        Ok(())
    }

    /// Whether what the slot holds can be read: not if some of it was written while there was no such publication.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn is_readable(&self) -> Result<bool, StoreError> {
        let mut session = Replication::connect(&self.options).await?;
        let sql = format!(
            "SELECT count(*) FROM pg_logical_slot_peek_binary_changes({}, NULL, NULL, \
             'proto_version', '1', 'publication_names', {})",
            literal(&self.slot),
            literal(&identifier(&self.settings.publication)),
        );
        match session.query_patiently(&sql).await {
            Err(error) if error.kind() == ErrorKind::HistoryChanged => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// Makes the slot anew. Gives where it begins.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn make(&self) -> Result<Mark, StoreError> {
        slot::drop(&self.beside, &self.slot).await?;
        if let Some(pin) = slot::pin(&self.beside).await? {
            tracing::warn!(slot = %self.slot, %pin, "a replication slot is made, which waits for all open transactions");
        }
        let mut session = Replication::connect(&self.options).await?;
        slot::make(&self.beside, &mut session, &self.slot).await?;
        let look = self.look().await?;
        let begin = look.confirmed.ok_or_else(|| lost("the replication slot was dropped as soon as it was made"))?;
        tracing::info!(slot = %self.slot, %begin, "what commits from here on is read in the server's log");
        Ok(Mark { begin, publication: look.publication })
    }

    /// Lets go of the log before `place`.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn let_go(&self, place: Lsn) -> Result<(), StoreError> {
        const SQL: &str = "SELECT pg_replication_slot_advance($1::text::name, $2::text::pg_lsn)::text";
        let client = self.connection.client().await?;
        let (limit, place) = (client.limit(), place.to_string());
        let params: [(&(dyn ToSql + Sync), Type); 2] = [(&self.slot, Type::TEXT), (&place, Type::TEXT)];
        limit.within("letting go of the log", client.query_typed_one(SQL, &params)).await?;
        Ok(())
    }
}

/// A stored position without a mark, as every other is.
pub(super) fn start_of(text: &str) -> Position {
    Position::new(Mark::read(text).map_or(text, |(start, _)| start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_from_a_routes_start() {
        let mark = Mark { begin: Lsn(0x16_0000_0048), publication: "16400.760.16403.761".to_owned() };
        let text = mark.with(Place::before(Lsn(0x16_0000_0050), 1));
        assert_eq!(text, "@0~0/1/1600000050#16/48#16400.760.16403.761");
        assert_eq!(Mark::read(&text), Some(("@0~0/1/1600000050", mark)));
        assert_eq!(start_of(&text).as_str(), "@0~0/1/1600000050");
        assert_eq!(Mark::read("@0/0/0"), None);
    }
}
