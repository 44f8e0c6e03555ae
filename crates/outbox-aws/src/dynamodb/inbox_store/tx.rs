//! One transaction of an inbox: what was read, and what is to be written, in one `TransactWriteItems` at its end.
//!
//! DynamoDB has no transactions in which one reads and then writes. So everything that a decision rests on goes into the
//! conditions of the one write: if anything changed meanwhile, nothing is written, and the work is done again. An id is not
//! even read before: it is taken for new, and the conditions find out; so, where the options say so, is a mark taken for
//! standing where the next event expects it.

use std::collections::{BTreeMap, HashMap};

use outbox::{
    Place, StoreError,
    inbox_store::{EventId, InboxCounts, LaneId, LaneRecord},
};

use super::{
    effect::{Doer, Effect},
    ids::Remembered,
    items::ReadLane,
    kept::Keeping,
    table::Table,
};

/// What earlier runs of the same work found out.
#[derive(Default)]
pub(super) struct Hints {
    /// Marks are read before they are moved on.
    pub(super) reads_marks: bool,
    /// Ids are read before they are remembered: some were, that were taken for new.
    pub(super) reads_ids: bool,
    /// How often whose action's condition failed.
    pub(super) failed: HashMap<Doer, u32>,
    /// Whose actions the transaction cannot take, and why.
    pub(super) refused: HashMap<Doer, String>,
    /// Why it cannot take anybody's.
    pub(super) refuses_all: Option<String>,
}

/// A lane in a transaction.
pub(super) struct Loaded {
    /// As it was read.
    pub(super) read: ReadLane,
    /// As it is to be.
    pub(super) now: LaneRecord,
    /// Whether lanes may wait for something in it.
    pub(super) awaited: bool,
    /// Its item is written though nothing in it changes: a lane begins to wait for it.
    pub(super) touched: bool,
    /// It has to be at the commit as it was read, though it does not change: it was looked for lanes that wait for it.
    pub(super) checked: bool,
}

/// What a lane waits for.
pub(super) struct Waits {
    pub(super) before: Option<LaneId>,
    pub(super) now: Option<LaneId>,
}

/// One transaction of a [`DynamoInbox`](super::DynamoInbox): what a handler adds to it commits together with the record that
/// it was done.
pub struct DynamoTx<'t> {
    pub(super) table: &'t Table,
    pub(super) hints: &'t Hints,
    pub(super) lanes: BTreeMap<LaneId, Loaded>,
    /// Lanes whose marks move on without having been read: from where, and to where.
    pub(super) advanced: BTreeMap<LaneId, (Place, Place)>,
    pub(super) ids: BTreeMap<EventId, Remembered>,
    pub(super) keeping: Keeping,
    pub(super) waits: BTreeMap<LaneId, Waits>,
    /// The mode that is noted, the first time.
    pub(super) mode: Option<(Option<String>, &'static str)>,
    pub(super) counted: InboxCounts,
    pub(super) effect: Effect,
    /// How many actions there were before the handler that is at work.
    pub(super) guarded: usize,
    /// Two parts of it need each to be a transaction of its own.
    pub(super) clashes: bool,
}

impl<'t> DynamoTx<'t> {
    pub(super) fn new(table: &'t Table, hints: &'t Hints) -> Self {
        Self {
            table,
            hints,
            lanes: BTreeMap::new(),
            advanced: BTreeMap::new(),
            ids: BTreeMap::new(),
            keeping: Keeping::default(),
            waits: BTreeMap::new(),
            mode: None,
            counted: InboxCounts::default(),
            effect: Effect::new(&table.client, &table.calls),
            guarded: 0,
            clashes: false,
        }
    }

    /// What a handler writes through.
    pub fn effect(&mut self) -> &mut Effect {
        &mut self.effect
    }

    /// The lane, which is loaded first if it is not yet.
    pub(super) async fn lane(&mut self, lane: &LaneId) -> Result<&mut Loaded, StoreError> {
        self.load_lanes(std::slice::from_ref(lane)).await?;
        let empty = || Loaded {
            read: ReadLane::default(),
            now: LaneRecord::default(),
            awaited: false,
            touched: false,
            checked: false,
        };
        Ok(self.lanes.entry(lane.clone()).or_insert_with(empty))
    }
}
