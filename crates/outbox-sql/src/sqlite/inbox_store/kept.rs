//! Kept events, as full copies.

use jiff::Timestamp;
use outbox::{
    Event, Place, StoreError,
    bookkeeping::KeptId,
    cloudevents::{Envelope, json},
    event::extension,
    inbox::RawMessage,
    inbox_store::{InboxKept, KeptMessage, LaneId},
};
use rusqlite::{OptionalExtension, Params, Row, params};

use super::{
    super::failure::store_error,
    tx::{SqliteTx, lane_of, micros, timestamp},
};

pub(super) fn keep(
    tx: &mut SqliteTx<'_>,
    lane: &LaneId,
    place: Place,
    message: &KeptMessage,
    now: Timestamp,
) -> Result<Option<KeptId>, StoreError> {
    let producer = tx.producer(&lane.producer)?;
    let (kind, bytes) = match message {
        KeptMessage::Event(event) => (Some(event.kind()), encode(event)),
        KeptMessage::Raw { message, .. } => (None, message.to_bytes()),
    };
    let attempted = store_error("keeping an event");
    let inserted = tx
        .prepare(
            "INSERT INTO outbox_inbox_kept (producer, lane, incarnation, sequence, idx, arrived, event_id, type, message) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            producer,
            lane.lane.to_text(),
            place.incarnation,
            place.sequence.cast_signed(),
            place.index,
            micros(now),
            message.id(),
            kind,
            bytes,
        ])
        .map_err(attempted)?;
    Ok((inserted == 1).then(|| KeptId(tx.transaction().last_insert_rowid().cast_unsigned())))
}

fn encode(event: &Event) -> Vec<u8> {
    json::encode(event, Envelope { gapless: event.gapless(), replay: event.extension_text(extension::REPLAY_ID) })
}

pub(super) fn first(tx: &mut SqliteTx<'_>, lane: &LaneId) -> Result<Option<InboxKept>, StoreError> {
    let producer = tx.producer(&lane.producer)?;
    read(
        tx,
        "SELECT id, incarnation, sequence, idx, arrived, event_id, type IS NOT NULL, message FROM outbox_inbox_kept \
         WHERE producer = ?1 AND lane = ?2 ORDER BY incarnation, sequence, idx LIMIT 1",
        (producer, lane.lane.to_text()),
    )
}

pub(super) fn find(tx: &SqliteTx<'_>, id: KeptId) -> Result<Option<(LaneId, InboxKept)>, StoreError> {
    let lane: Option<(String, String)> = tx
        .prepare(
            "SELECT p.producer, k.lane FROM outbox_inbox_kept k JOIN outbox_inbox_producers p ON p.id = k.producer \
             WHERE k.id = ?1 AND p.consumer = ?2",
        )?
        .query_row((id.0.cast_signed(), tx.consumer()), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(store_error("looking for a kept event"))?;
    let Some((producer, lane)) = lane else { return Ok(None) };
    let kept = read(
        tx,
        "SELECT id, incarnation, sequence, idx, arrived, event_id, type IS NOT NULL, message FROM outbox_inbox_kept \
         WHERE id = ?1",
        [id.0.cast_signed()],
    )?;
    kept.map(|kept| Ok((lane_of(&producer, &lane)?, kept))).transpose()
}

fn read(tx: &SqliteTx<'_>, sql: &str, params: impl Params) -> Result<Option<InboxKept>, StoreError> {
    tx.prepare(sql)?.query_row(params, read_row).optional().map_err(store_error("reading a kept event"))
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<InboxKept> {
    let bytes: Vec<u8> = row.get(7)?;
    let id: String = row.get(5)?;
    let decoded = if row.get(6)? { json::decode(&bytes).map_err(Some) } else { Err(None) };
    let message = match decoded {
        Ok(event) => KeptMessage::Event(event),
        // A row that somebody changed by hand is in nobody's way but its own lane's.
        Err(Some(_)) => KeptMessage::Raw { id: id.into(), message: RawMessage::new(json::MEDIA_TYPE, bytes) },
        Err(None) => KeptMessage::Raw { id: id.into(), message: RawMessage::from_bytes(&bytes.into()) },
    };
    Ok(InboxKept {
        id: KeptId(row.get::<_, i64>(0)?.cast_unsigned()),
        place: Place::new(row.get(1)?, row.get::<_, i64>(2)?.cast_unsigned(), row.get(3)?),
        arrived: timestamp(row.get(4)?),
        message,
    })
}
