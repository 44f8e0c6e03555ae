//! Marks and troubles of lanes.

use outbox::{
    ErrorKind, Lane, Place, StoreError,
    inbox_store::{InboxCounts, InboxTotals, KeptLane, LaneChange, LaneId, LaneRecord, Life, Trouble, TroubleState},
};
use tokio_postgres::types::Type;

use super::{
    driver::{Driver, Param, Row, Statement, column},
    kept,
    tx::{PostgresTx, lane_of, micros, timestamp},
};
use crate::lane_state::{state_name, state_of};

const COUNTING: &str = "counting what the inbox holds";

pub(super) async fn load(
    tx: &mut PostgresTx<'_, impl Driver>,
    wanted: &[LaneId],
) -> Result<Vec<LaneRecord>, StoreError> {
    let mut producers = Vec::with_capacity(wanted.len());
    for lane in wanted {
        producers.push(tx.producer(&lane.producer).await?);
    }
    let lanes: Vec<_> = wanted.iter().map(|lane| lane.lane.to_text()).collect();
    let rows = tx
        .query(
            "loading lanes of the inbox",
            "SELECT * FROM outbox_inbox.load($1, $2)",
            &[(&producers, Type::INT8_ARRAY), (&lanes, Type::TEXT_ARRAY)],
        )
        .await?;
    rows.iter().map(record).collect()
}

fn record(row: &Row) -> Result<LaneRecord, StoreError> {
    // A lane of an event without a key has no mark.
    let Some(incarnation) = column::<Option<i64>>(row, 0)? else {
        return Ok(LaneRecord { trouble: trouble(row)?, ..LaneRecord::default() });
    };
    let mark = place(incarnation, column(row, 1)?, column(row, 2)?)?;
    Ok(LaneRecord { mark, life: life_of(column(row, 3)?)?, trouble: trouble(row)? })
}

fn trouble(row: &Row) -> Result<Option<Trouble>, StoreError> {
    let Some(state) = column::<Option<&str>>(row, 4)? else { return Ok(None) };
    Ok(Some(Trouble {
        state: state_of(state)?,
        attempts: small("attempts", column(row, 5)?)?,
        due: column::<Option<i64>>(row, 6)?.map(timestamp),
        since: timestamp(column(row, 7)?),
        reason: column(row, 8)?,
        epoch: column::<i64>(row, 9)?.cast_unsigned(),
        kept: column::<i64>(row, 10)?.cast_unsigned(),
    }))
}

/// A place from its columns.
pub(super) fn place(incarnation: i64, sequence: i64, index: i64) -> Result<Place, StoreError> {
    Ok(Place::new(small("incarnation", incarnation)?, sequence.cast_unsigned(), small("idx", index)?))
}

fn small(name: &str, number: i64) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|error| {
        let message = format!(
            "column `{name}` of the inbox's tables holds {number}, which cannot be: restore them from a backup"
        );
        StoreError::new(ErrorKind::Invalid, message).because(error)
    })
}

fn life_number(life: Life) -> i16 {
    match life {
        Life::Unknown => 0,
        Life::Open => 1,
        Life::Removed => 2,
    }
}

fn life_of(number: i16) -> Result<Life, StoreError> {
    [Life::Unknown, Life::Open, Life::Removed].into_iter().find(|life| life_number(*life) == number).ok_or_else(|| {
        let message = format!(
            "column `life` of table `outbox_inbox.marks` holds {number}, which is none of 0, 1 and 2: restore the inbox's tables from a backup"
        );
        StoreError::new(ErrorKind::Invalid, message)
    })
}

/// Marks that change, as columns.
#[derive(Default)]
struct Marks {
    producers: Vec<i64>,
    lanes: Vec<String>,
    incarnations: Vec<i64>,
    sequences: Vec<i64>,
    indexes: Vec<i64>,
    lives: Vec<i16>,
}

impl Marks {
    fn push(&mut self, producer: i64, lane: String, now: &LaneRecord) {
        self.producers.push(producer);
        self.lanes.push(lane);
        self.incarnations.push(now.mark.incarnation.into());
        self.sequences.push(now.mark.sequence.cast_signed());
        self.indexes.push(now.mark.index.into());
        self.lives.push(life_number(now.life));
    }
}

/// Troubles that change, as columns; those that are over have no state.
#[derive(Default)]
struct Troubles {
    producers: Vec<i64>,
    lanes: Vec<String>,
    states: Vec<Option<&'static str>>,
    attempts: Vec<i64>,
    dues: Vec<Option<i64>>,
    sinces: Vec<i64>,
    reasons: Vec<String>,
    epochs: Vec<i64>,
    kepts: Vec<i64>,
}

impl Troubles {
    fn push(&mut self, producer: i64, lane: String, now: Option<&Trouble>) {
        self.producers.push(producer);
        self.lanes.push(lane);
        self.states.push(now.map(|now| state_name(now.state)));
        self.attempts.push(now.map_or(0, |now| now.attempts.into()));
        self.dues.push(now.and_then(|now| now.due).map(micros));
        self.sinces.push(now.map_or(0, |now| micros(now.since)));
        // PostgreSQL has no NUL in its texts.
        self.reasons.push(now.map_or_else(String::new, |now| now.reason.replace('\0', "\u{fffd}")));
        self.epochs.push(now.map_or(0, |now| now.epoch.cast_signed()));
        self.kepts.push(now.map_or(0, |now| now.kept.cast_signed()));
    }
}

/// What is to be written of lanes.
#[derive(Default)]
pub(super) struct Changes {
    marks: Marks,
    troubles: Troubles,
}

impl Changes {
    /// Those of `changes` that differ; `None` if none does.
    pub(super) async fn of(
        tx: &mut PostgresTx<'_, impl Driver>,
        changes: &[LaneChange],
    ) -> Result<Option<Self>, StoreError> {
        let (mut marks, mut troubles) = (Marks::default(), Troubles::default());
        for LaneChange { lane, before, now } in changes {
            let producer = tx.producer(&lane.producer).await?;
            if matches!(lane.lane, Lane::Key(_)) && (before.mark, before.life) != (now.mark, now.life) {
                marks.push(producer, lane.lane.to_text(), now);
            }
            if before.trouble != now.trouble {
                troubles.push(producer, lane.lane.to_text(), now.trouble.as_ref());
            }
        }
        let differ = !marks.producers.is_empty() || !troubles.producers.is_empty();
        Ok(differ.then_some(Self { marks, troubles }))
    }

    /// Writes them by themselves.
    pub(super) fn save(&self) -> Statement<'_> {
        Statement {
            attempted: "writing lanes of the inbox",
            sql: "SELECT outbox_inbox.save($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
            params: self.params(),
        }
    }

    /// As the functions of the database take them.
    pub(super) fn params(&self) -> Vec<Param<'_>> {
        let Self { marks, troubles } = self;
        vec![
            (&marks.producers, Type::INT8_ARRAY),
            (&marks.lanes, Type::TEXT_ARRAY),
            (&marks.incarnations, Type::INT8_ARRAY),
            (&marks.sequences, Type::INT8_ARRAY),
            (&marks.indexes, Type::INT8_ARRAY),
            (&marks.lives, Type::INT2_ARRAY),
            (&troubles.producers, Type::INT8_ARRAY),
            (&troubles.lanes, Type::TEXT_ARRAY),
            (&troubles.states, Type::TEXT_ARRAY),
            (&troubles.attempts, Type::INT8_ARRAY),
            (&troubles.dues, Type::INT8_ARRAY),
            (&troubles.sinces, Type::INT8_ARRAY),
            (&troubles.reasons, Type::TEXT_ARRAY),
            (&troubles.epochs, Type::INT8_ARRAY),
            (&troubles.kepts, Type::INT8_ARRAY),
        ]
    }
}

/// The lanes that a query of producer's name and lane finds.
pub(super) async fn read_lanes(
    tx: &mut PostgresTx<'_, impl Driver>,
    sql: &str,
    params: &[Param<'_>],
) -> Result<Vec<LaneId>, StoreError> {
    let rows = tx.query("reading lanes in trouble", sql, params).await?;
    rows.iter().map(|row| lane_of(column(row, 0)?, column(row, 1)?)).collect()
}

/// Lanes in trouble by producer and lane, each with its first kept event, all of it as it was at one moment. Locks nothing:
/// who looks changes nothing, and who changes something loads it first.
pub(super) async fn troubled(
    tx: &mut PostgresTx<'_, impl Driver>,
    after: Option<&LaneId>,
    most: i64,
) -> Result<Vec<KeptLane>, StoreError> {
    let (producer, lane) = after.map_or_else(Default::default, |after| (&*after.producer, after.lane.to_text()));
    let sql = format!(
        "SELECT m.incarnation, m.sequence, m.idx, m.life, t.state, t.attempts, t.due, t.since, t.reason, t.epoch, t.kept, \
         p.producer, t.lane, first.* FROM outbox_inbox.troubles t \
         JOIN outbox_inbox.producers p ON p.id = t.producer \
         LEFT JOIN outbox_inbox.marks m ON m.producer = t.producer AND m.lane = t.lane \
         CROSS JOIN LATERAL (SELECT {} FROM outbox_inbox.kept k WHERE k.producer = t.producer AND k.lane = t.lane \
         ORDER BY k.incarnation, k.sequence, k.idx LIMIT 1) AS first \
         WHERE p.consumer = $1 AND (p.producer, t.lane) > ($2, $3) ORDER BY p.producer, t.lane LIMIT $4",
        kept::KEPT
    );
    let consumer = tx.consumer();
    let params: [Param<'_>; 4] =
        [(&consumer, Type::TEXT), (&producer, Type::TEXT), (&lane, Type::TEXT), (&most, Type::INT8)];
    let rows = tx.query("reading lanes in trouble", &sql, &params).await?;
    let lane = |row: &Row| {
        let lane = lane_of(column(row, 11)?, column(row, 12)?)?;
        Ok(KeptLane { lane, record: record(row)?, first: kept::read(row, 13)? })
    };
    rows.iter().map(lane).collect()
}

pub(super) async fn totals(tx: &mut PostgresTx<'_, impl Driver>) -> Result<InboxTotals, StoreError> {
    let consumer = tx.consumer();
    let rows = tx
        .query(
            COUNTING,
            "SELECT applied, duplicates, superseded, ignored, early, history_back, \
             (SELECT count(*) FROM outbox_inbox.marks m JOIN outbox_inbox.producers p ON p.id = m.producer \
              WHERE p.consumer = $1 AND m.sequence > 0), \
             (SELECT count(*) FROM outbox_inbox.ids i JOIN outbox_inbox.producers p ON p.id = i.producer \
              WHERE p.consumer = $1) \
             FROM outbox_inbox.consumers WHERE name = $1",
            &[(&consumer, Type::TEXT)],
        )
        .await?;
    let mut totals = InboxTotals::default();
    if let Some(row) = rows.first() {
        let number = |index| column::<i64>(row, index).map(i64::cast_unsigned);
        totals.counts = InboxCounts {
            applied: number(0)?,
            duplicates: number(1)?,
            superseded: number(2)?,
            ignored: number(3)?,
            early: number(4)?,
            history_back: number(5)?,
        };
        (totals.marks, totals.ids) = (number(6)?, number(7)?);
    }
    // What this transaction has counted is written at its end.
    totals.counts.add(tx.counted());
    troubles(tx, &mut totals).await?;
    Ok(totals)
}

/// Counts the lanes in trouble, and what is kept of them.
async fn troubles(tx: &mut PostgresTx<'_, impl Driver>, totals: &mut InboxTotals) -> Result<(), StoreError> {
    let consumer = tx.consumer();
    let rows = tx
        .query(
            COUNTING,
            "SELECT t.state, count(*), sum(t.kept)::bigint, min(t.since) FROM outbox_inbox.troubles t \
             JOIN outbox_inbox.producers p ON p.id = t.producer WHERE p.consumer = $1 GROUP BY t.state",
            &[(&consumer, Type::TEXT)],
        )
        .await?;
    for row in &rows {
        let (lanes, kept) = (column::<i64>(row, 1)?.cast_unsigned(), column::<i64>(row, 2)?.cast_unsigned());
        totals.lanes += lanes;
        // The first of a lane that waits for its predecessor is parked as those behind it are.
        let fronts = match state_of(column(row, 0)?)? {
            TroubleState::Waiting | TroubleState::Claimed => 0,
            TroubleState::Cause => {
                totals.awaiting_cause = lanes;
                lanes
            }
            TroubleState::Retrying => {
                totals.retrying = lanes;
                lanes
            }
            TroubleState::Dead => {
                totals.dead = lanes;
                totals.oldest_dead = Some(timestamp(column(row, 3)?));
                lanes
            }
        };
        totals.parked += kept - fronts;
    }
    Ok(())
}
