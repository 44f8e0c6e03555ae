//! Marks and troubles of lanes.

use outbox::{
    ErrorKind, Key, Lane, Place, StoreError,
    inbox_store::{InboxCounts, InboxTotals, LaneChange, LaneId, LaneRecord, LaneStep, Life, Trouble, TroubleState},
};
use rusqlite::{CachedStatement, OptionalExtension, Params, Row, params};

use super::{
    super::failure::store_error,
    tx::{SqliteTx, lane_of, micros, timestamp},
};
use crate::lane_state::{state_name, state_of};

pub(super) fn load(tx: &mut SqliteTx<'_>, wanted: &[LaneId]) -> Result<Vec<LaneRecord>, StoreError> {
    let mut select = tx.prepare(
        "SELECT incarnation, sequence, idx, life, troubled FROM outbox_inbox_marks WHERE producer = ?1 AND key = ?2",
    )?;
    let mut records = Vec::with_capacity(wanted.len());
    for lane in wanted {
        let producer = tx.producer(&lane.producer)?;
        let (mut record, troubled) = match &lane.lane {
            Lane::Key(key) => select
                .query_row((producer, key.as_str()), |row| Ok((read_place(row)?, row.get(3)?, row.get(4)?)))
                .optional()
                .map_err(store_error("reading the mark of a key"))?
                .map(|(mark, life, troubled)| Ok((LaneRecord { mark, life: life_of(life)?, trouble: None }, troubled)))
                .transpose()?
                .unwrap_or_default(),
            Lane::Event(_) => (LaneRecord::default(), true),
        };
        if troubled {
            record.trouble = read_trouble(tx, producer, &lane.lane)?;
        }
        records.push(record);
    }
    Ok(records)
}

pub(super) fn advance(tx: &mut SqliteTx<'_>, steps: &[LaneStep<'_>]) -> Result<Vec<bool>, StoreError> {
    let attempted = store_error("moving the mark of a key on");
    let mut update = Update::new(tx.prepare(
        "UPDATE outbox_inbox_marks SET incarnation = ?6, sequence = ?7, idx = ?8 \
         WHERE producer = ?1 AND key = ?2 AND incarnation = ?3 AND sequence = ?4 AND idx = ?5 AND NOT troubled",
    )?);
    let mut moved = Vec::with_capacity(steps.len());
    for LaneStep { lane, from, to } in steps {
        let Lane::Key(key) = &lane.lane else {
            moved.push(false);
            continue;
        };
        let producer = tx.producer(&lane.producer)?;
        let written = if *from == Place::ORIGIN {
            begin(tx, producer, key, *to)?
        } else {
            update.execute(producer, key, *from, *to)
        };
        moved.push(written.map_err(&attempted)? == 1);
    }
    Ok(moved)
}

/// Makes the mark of a key that has none.
fn begin(tx: &SqliteTx<'_>, producer: i64, key: &Key, to: Place) -> Result<rusqlite::Result<usize>, StoreError> {
    let mut insert = tx.prepare(
        "INSERT INTO outbox_inbox_marks (producer, key, incarnation, sequence, idx, life, troubled) \
         VALUES (?1, ?2, ?3, ?4, ?5, 0, 0) ON CONFLICT DO NOTHING",
    )?;
    Ok(insert.execute(params![producer, key.as_str(), to.incarnation, to.sequence.cast_signed(), to.index]))
}

/// A statement that moves marks on, and what is bound to it: most steps differ in little, and binding is a good part of
/// what a step takes.
struct Update<'t> {
    statement: CachedStatement<'t>,
    bound: [Option<i64>; 9],
}

impl<'t> Update<'t> {
    fn new(statement: CachedStatement<'t>) -> Self {
        Self { statement, bound: [None; 9] }
    }

    fn execute(&mut self, producer: i64, key: &Key, from: Place, to: Place) -> rusqlite::Result<usize> {
        self.bind(1, producer)?;
        self.statement.raw_bind_parameter(2, key.as_str())?;
        self.bind_place(3, from)?;
        self.bind_place(6, to)?;
        self.statement.raw_execute()
    }

    fn bind_place(&mut self, first: usize, place: Place) -> rusqlite::Result<()> {
        self.bind(first, place.incarnation.into())?;
        self.bind(first + 1, place.sequence.cast_signed())?;
        self.bind(first + 2, place.index.into())
    }

    fn bind(&mut self, index: usize, value: i64) -> rusqlite::Result<()> {
        if self.bound[index] != Some(value) {
            self.statement.raw_bind_parameter(index, value)?;
            self.bound[index] = Some(value);
        }
        Ok(())
    }
}

fn read_place(row: &Row<'_>) -> rusqlite::Result<Place> {
    Ok(Place::new(row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned(), row.get(2)?))
}

fn life_number(life: Life) -> i64 {
    match life {
        Life::Unknown => 0,
        Life::Open => 1,
        Life::Removed => 2,
    }
}

fn life_of(number: i64) -> Result<Life, StoreError> {
    [Life::Unknown, Life::Open, Life::Removed].into_iter().find(|life| life_number(*life) == number).ok_or_else(|| {
        let message = format!(
            "column `life` of table `outbox_inbox_marks` holds {number}, which is none of 0, 1 and 2: restore the inbox's tables from a backup"
        );
        StoreError::new(ErrorKind::Invalid, message)
    })
}

fn read_trouble(tx: &SqliteTx<'_>, producer: i64, lane: &Lane) -> Result<Option<Trouble>, StoreError> {
    let found = tx
        .prepare(
            "SELECT state, attempts, due, since, reason, epoch, kept FROM outbox_inbox_troubles \
             WHERE producer = ?1 AND lane = ?2",
        )?
        .query_row((producer, lane.to_text()), |row| {
            let trouble = Trouble {
                state: TroubleState::Waiting,
                attempts: row.get(1)?,
                due: row.get::<_, Option<i64>>(2)?.map(timestamp),
                since: timestamp(row.get(3)?),
                reason: row.get(4)?,
                epoch: row.get::<_, i64>(5)?.cast_unsigned(),
                kept: row.get::<_, i64>(6)?.cast_unsigned(),
            };
            Ok((trouble, row.get::<_, String>(0)?))
        })
        .optional()
        .map_err(store_error("reading what a lane keeps"))?;
    found.map(|(trouble, state)| Ok(Trouble { state: state_of(&state)?, ..trouble })).transpose()
}

pub(super) fn save(tx: &mut SqliteTx<'_>, changes: &[LaneChange]) -> Result<(), StoreError> {
    let mut upsert = tx.prepare(
        "INSERT INTO outbox_inbox_marks (producer, key, incarnation, sequence, idx, life, troubled) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET incarnation = excluded.incarnation, \
         sequence = excluded.sequence, idx = excluded.idx, life = excluded.life, troubled = excluded.troubled",
    )?;
    for LaneChange { lane, before, now } in changes {
        let producer = tx.producer(&lane.producer)?;
        let mark = |record: &LaneRecord| (record.mark, record.life, record.trouble.is_some());
        if let Lane::Key(key) = &lane.lane
            && mark(before) != mark(now)
        {
            let Place { incarnation, sequence, index } = now.mark;
            upsert
                .execute(params![
                    producer,
                    key.as_str(),
                    incarnation,
                    sequence.cast_signed(),
                    index,
                    life_number(now.life),
                    now.trouble.is_some()
                ])
                .map_err(store_error("writing the mark of a key"))?;
        }
        if before.trouble != now.trouble {
            save_trouble(tx, producer, &lane.lane, now.trouble.as_ref())?;
        }
    }
    Ok(())
}

fn save_trouble(tx: &SqliteTx<'_>, producer: i64, lane: &Lane, trouble: Option<&Trouble>) -> Result<(), StoreError> {
    let attempted = store_error("writing what a lane keeps");
    let lane = lane.to_text();
    match trouble {
        None => tx
            .prepare("DELETE FROM outbox_inbox_troubles WHERE producer = ?1 AND lane = ?2")?
            .execute((producer, lane))
            .map_err(attempted)?,
        Some(trouble) => tx
            .prepare(
                "INSERT OR REPLACE INTO outbox_inbox_troubles \
                 (producer, lane, state, attempts, due, since, reason, epoch, kept) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                producer,
                lane,
                state_name(trouble.state),
                trouble.attempts,
                trouble.due.map(micros),
                micros(trouble.since),
                trouble.reason,
                trouble.epoch.cast_signed(),
                trouble.kept.cast_signed(),
            ])
            .map_err(attempted)?,
    };
    Ok(())
}

/// The lanes that a query of producer's name and lane finds.
pub(super) fn read_lanes(tx: &SqliteTx<'_>, sql: &str, params: impl Params) -> Result<Vec<LaneId>, StoreError> {
    let rows: Vec<(String, String)> = tx
        .prepare(sql)?
        .query_map(params, |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect)
        .map_err(store_error("reading lanes in trouble"))?;
    rows.iter().map(|(producer, lane)| lane_of(producer, lane)).collect()
}

pub(super) fn totals(tx: &SqliteTx<'_>) -> Result<InboxTotals, StoreError> {
    let count = |sql: &str| -> Result<u64, StoreError> {
        tx.prepare(sql)?
            .query_row([tx.consumer()], |row| row.get::<_, i64>(0))
            .map(i64::cast_unsigned)
            .map_err(store_error("counting what the inbox holds"))
    };
    let mut totals = InboxTotals {
        marks: count(
            "SELECT count(*) FROM outbox_inbox_marks WHERE sequence > 0 \
             AND producer IN (SELECT id FROM outbox_inbox_producers WHERE consumer = ?1)",
        )?,
        ids: count(
            "SELECT count(*) FROM outbox_inbox_ids \
             WHERE producer IN (SELECT id FROM outbox_inbox_producers WHERE consumer = ?1)",
        )?,
        counts: counts(tx)?,
        ..InboxTotals::default()
    };
    let rows: Vec<(String, i64, i64, i64)> = tx
        .prepare(
            "SELECT state, count(*), sum(kept), min(since) FROM outbox_inbox_troubles \
             WHERE producer IN (SELECT id FROM outbox_inbox_producers WHERE consumer = ?1) GROUP BY state",
        )?
        .query_map([tx.consumer()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .and_then(Iterator::collect)
        .map_err(store_error("counting what the inbox keeps"))?;
    for (state, lanes, kept, since) in rows {
        let (lanes, kept) = (lanes.cast_unsigned(), kept.cast_unsigned());
        totals.lanes += lanes;
        // The first of a lane that waits for its predecessor is parked as those behind it are.
        let fronts = match state_of(&state)? {
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
                totals.oldest_dead = Some(timestamp(since));
                lanes
            }
        };
        totals.parked += kept - fronts;
    }
    Ok(totals)
}

fn counts(tx: &SqliteTx<'_>) -> Result<InboxCounts, StoreError> {
    tx.prepare(
        "SELECT applied, duplicates, superseded, ignored, early, history_back FROM outbox_inbox_consumers WHERE name = ?1",
    )?
    .query_row([tx.consumer()], |row| {
        let number = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
        Ok(InboxCounts {
            applied: number(0)?,
            duplicates: number(1)?,
            superseded: number(2)?,
            ignored: number(3)?,
            early: number(4)?,
            history_back: number(5)?,
        })
    })
    .map_err(store_error("reading what the inbox did"))
}
