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
use tokio_postgres::types::Type;

use super::{
    driver::{Driver, Param, Row, column},
    lanes::place,
    tx::{PostgresTx, lane_of, micros, timestamp},
};

pub(super) async fn keep(
    tx: &mut PostgresTx<'_, impl Driver>,
    lane: &LaneId,
    place: Place,
    message: &KeptMessage,
    now: Timestamp,
) -> Result<Option<KeptId>, StoreError> {
    let producer = tx.producer(&lane.producer).await?;
    let (kind, bytes) = match message {
        KeptMessage::Event(event) => (Some(event.kind()), encode(event)),
        KeptMessage::Raw { message, .. } => (None, message.to_bytes()),
    };
    let rows = tx
        .query(
            "keeping an event",
            "INSERT INTO outbox_inbox.kept \
             (producer, lane, incarnation, sequence, idx, arrived, event_id, type, message) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING id",
            &[
                (&producer, Type::INT8),
                (&lane.lane.to_text(), Type::TEXT),
                (&i64::from(place.incarnation), Type::INT8),
                (&place.sequence.cast_signed(), Type::INT8),
                (&i64::from(place.index), Type::INT8),
                (&micros(now), Type::INT8),
                (&message.id(), Type::TEXT),
                (&kind, Type::TEXT),
                (&bytes, Type::BYTEA),
            ],
        )
        .await?;
    rows.first().map(|row| Ok(KeptId(column::<i64>(row, 0)?.cast_unsigned()))).transpose()
}

fn encode(event: &Event) -> Vec<u8> {
    json::encode(event, Envelope { gapless: event.gapless(), replay: event.extension_text(extension::REPLAY_ID) })
}

/// What a query has to select of `outbox_inbox.kept k`, in this order, for [`read`].
pub(super) const KEPT: &str =
    "k.id, k.incarnation, k.sequence, k.idx, k.arrived, k.event_id, k.type IS NOT NULL AS is_event, k.message";

pub(super) async fn first(
    tx: &mut PostgresTx<'_, impl Driver>,
    lane: &LaneId,
) -> Result<Option<InboxKept>, StoreError> {
    let producer = tx.producer(&lane.producer).await?;
    let params: [Param<'_>; 2] = [(&producer, Type::INT8), (&lane.lane.to_text(), Type::TEXT)];
    let sql = format!(
        "SELECT {KEPT} FROM outbox_inbox.kept k WHERE k.producer = $1 AND k.lane = $2 \
         ORDER BY k.incarnation, k.sequence, k.idx LIMIT 1"
    );
    tx.query("reading a kept event", &sql, &params).await?.first().map(|row| read(row, 0)).transpose()
}

pub(super) async fn find(
    tx: &mut PostgresTx<'_, impl Driver>,
    id: KeptId,
) -> Result<Option<(LaneId, InboxKept)>, StoreError> {
    let params: [Param<'_>; 2] = [(&id.0.cast_signed(), Type::INT8), (&tx.consumer(), Type::TEXT)];
    let sql = format!(
        "SELECT {KEPT}, p.producer, k.lane FROM outbox_inbox.kept k \
         JOIN outbox_inbox.producers p ON p.id = k.producer WHERE k.id = $1 AND p.consumer = $2"
    );
    let rows = tx.query("looking for a kept event", &sql, &params).await?;
    rows.first().map(|row| Ok((lane_of(column(row, 8)?, column(row, 9)?)?, read(row, 0)?))).transpose()
}

/// A kept event, whose columns begin at number `at`.
pub(super) fn read(row: &Row, at: usize) -> Result<InboxKept, StoreError> {
    let bytes: Vec<u8> = column(row, at + 7)?;
    let id: &str = column(row, at + 5)?;
    let decoded = if column(row, at + 6)? { json::decode(&bytes).map_err(Some) } else { Err(None) };
    let message = match decoded {
        Ok(event) => KeptMessage::Event(event),
        // A row that somebody changed by hand is in nobody's way but its own lane's.
        Err(Some(_)) => KeptMessage::Raw { id: id.into(), message: RawMessage::new(json::MEDIA_TYPE, bytes) },
        Err(None) => KeptMessage::Raw { id: id.into(), message: RawMessage::from_bytes(&bytes.into()) },
    };
    Ok(InboxKept {
        id: KeptId(column::<i64>(row, at)?.cast_unsigned()),
        place: place(column(row, at + 1)?, column(row, at + 2)?, column(row, at + 3)?)?,
        arrived: timestamp(column(row, at + 4)?),
        message,
    })
}
