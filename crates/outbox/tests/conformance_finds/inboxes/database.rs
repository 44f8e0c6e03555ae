//! A small database that locks rows, in which a defect can be planted. Its transactions run on threads of their own, side by
//! side: each reads what is committed and what it has changed itself, and its changes are committed at once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use outbox::{
    ErrorKind, InboxStore, Place, StoreError,
    bookkeeping::KeptId,
    inbox_store::{Abort, EventId, InboxCounts, InboxKept, Isolation, Job, LaneId, LaneRecord},
};
use tokio::{runtime::Handle, sync::OwnedMutexGuard, task::yield_now};

/// What is wrong with a database.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Defect {
    Nothing,
    KeepsEachHandleToItself,
    StaysLockedByADroppedCall,
    FoldsCase,
    WritesEffectsElsewhere,
    LosesEffectsOfABatchThatIsRedone,
    AdvancesMarksElsewhere,
    AnswersBeforeItCommits,
    LocksNoLane,
    LocksTheFirstLaneOnly,
    LocksNoId,
    ForgetsEpochs,
    ForgetsAttempts,
    /// Since when a lane is in trouble is written when it gets into it, and never again.
    KeepsTheFirstSince,
    ForgetsIdsWhenOpened,
    ForgetsWhatIsDoneWhenOpened,
    ForgetsWaitsWhenOpened,
    LosesWaits,
    WakesOne,
    PurgesWhatHasNotExpired,
    PurgesWhatIsNotDone,
    KeepsAPlaceTwice,
    GivesTheLastKept,
    RemovesAllOfALane,
    TakesAnyMode,
    TakesAnyProducer,
    ForgetsEveryProducer,
}

/// What is committed.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) mode: Option<&'static str>,
    pub(super) counts: InboxCounts,
    pub(super) lanes: BTreeMap<LaneId, LaneRecord>,
    pub(super) ids: BTreeMap<EventId, (Timestamp, bool)>,
    pub(super) kept: BTreeMap<(LaneId, Place, KeptId), InboxKept>,
    pub(super) waits: BTreeMap<LaneId, LaneId>,
    pub(super) effects: Vec<String>,
}

/// What is locked until the end of a transaction, whether it is there or not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Row {
    Lane(LaneId),
    Id(EventId),
}

type Locks = BTreeMap<Row, Arc<tokio::sync::Mutex<()>>>;

/// The database.
pub(super) struct Database {
    pub(super) defect: Defect,
    committed: Mutex<State>,
    locks: Mutex<Locks>,
    pub(super) last_kept: AtomicU64,
    busy: AtomicBool,
}

impl Database {
    pub(super) fn new(defect: Defect) -> Arc<Self> {
        let (committed, locks, last_kept, busy) =
            (Mutex::default(), Mutex::default(), AtomicU64::default(), AtomicBool::default());
        Arc::new(Self { defect, committed, locks, last_kept, busy })
    }

    pub(super) fn committed(&self) -> State {
        self.committed.lock().unwrap().clone()
    }

    /// Changes what is committed, past every transaction.
    pub(super) fn slip(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.committed.lock().unwrap());
    }

    /// As a restart of the consumer finds it.
    pub(super) fn reopened(&self) {
        self.slip(|state| match self.defect {
            Defect::ForgetsIdsWhenOpened => state.ids.clear(),
            Defect::ForgetsWhatIsDoneWhenOpened => state.ids.values_mut().for_each(|(_, done)| *done = false),
            Defect::ForgetsWaitsWhenOpened => state.waits.clear(),
            _ => {}
        });
    }
}

type Change = Box<dyn Fn(&mut State)>;

/// One transaction.
pub(super) struct Tx {
    pub(super) database: Arc<Database>,
    isolation: Isolation,
    changes: Vec<Change>,
    held: BTreeMap<Row, OwnedMutexGuard<()>>,
    /// How many changes there were at the point that is gone back to.
    pub(super) guarded: usize,
}

impl Tx {
    fn begin(database: &Arc<Database>, isolation: Isolation) -> Self {
        Self { database: database.clone(), isolation, changes: Vec::new(), held: BTreeMap::new(), guarded: 0 }
    }

    pub(super) fn has(&self, defect: Defect) -> bool {
        self.database.defect == defect
    }

    /// What is committed by now, with the changes of this transaction.
    pub(super) fn seen(&self) -> State {
        let mut state = self.database.committed();
        self.changes.iter().for_each(|change| change(&mut state));
        state
    }

    pub(super) fn change(&mut self, change: impl Fn(&mut State) + 'static) {
        self.changes.push(Box::new(change));
    }

    /// What a handler does.
    pub(super) fn effect(&mut self, effect: String) {
        match (self.database.defect, self.isolation) {
            (Defect::WritesEffectsElsewhere, _) => self.database.slip(|state| state.effects.push(effect)),
            (Defect::LosesEffectsOfABatchThatIsRedone, Isolation::Each) => {}
            _ => self.change(move |state| state.effects.push(effect.clone())),
        }
    }

    pub(super) fn point(&mut self) {
        self.guarded = self.changes.len();
    }

    pub(super) fn back_to_point(&mut self) {
        self.changes.truncate(self.guarded);
    }

    /// Locks `row`; of two transactions that wait for each other, one gives way.
    pub(super) async fn lock(&mut self, row: Row) -> Result<(), StoreError> {
        if self.held.contains_key(&row) {
            return Ok(());
        }
        let lock = self.database.locks.lock().unwrap().entry(row.clone()).or_default().clone();
        let locked = tokio::time::timeout(Duration::from_millis(50), lock.lock_owned()).await;
        let locked = locked.map_err(|_| StoreError::new(ErrorKind::Unavailable, "two wait for each other"))?;
        self.held.insert(row, locked);
        Ok(())
    }

    /// Lets another transaction run, where a lock is missing that would keep it out.
    pub(super) async fn leave_a_gap(&self) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    /// Commits, then lets go of what is locked.
    fn commit(self) {
        let mut state = self.database.committed.lock().unwrap();
        self.changes.iter().for_each(|change| change(&mut state));
    }
}

/// A handle to a database.
#[derive(Clone)]
pub(super) struct Store(pub(super) Arc<Database>);

impl InboxStore for Store {
    type Tx<'t> = Tx;

    fn transact<J, O>(&self, job: J) -> impl Future<Output = Result<O, StoreError>> + Send
    where
        J: for<'t> Job<Self::Tx<'t>, Output = O>,
        O: Send + 'static,
    {
        let database = self.0.clone();
        async move {
            if database.defect == Defect::StaysLockedByADroppedCall {
                if database.busy.swap(true, Ordering::Relaxed) {
                    return Err(StoreError::new(ErrorKind::Unavailable, "locked"));
                }
                yield_now().await;
                database.busy.store(false, Ordering::Relaxed);
            }
            let runtime = Handle::current();
            tokio::task::spawn_blocking(move || runtime.block_on(run(&database, job))).await.unwrap()
        }
    }
}

/// Runs `job` in transactions, until one of them commits.
async fn run<J, O>(database: &Arc<Database>, mut job: J) -> Result<O, StoreError>
where
    J: Job<Tx, Output = O>,
{
    let mut isolation = Isolation::Whole;
    loop {
        let mut tx = Tx::begin(database, isolation);
        match job.run(&mut tx, isolation).await {
            Ok(output) => {
                if !(tx.has(Defect::AnswersBeforeItCommits)) {
                    tx.commit();
                }
                return Ok(output);
            }
            Err(Abort::Redo) => isolation = Isolation::Each,
            Err(Abort::Store(error)) if error.kind() == ErrorKind::Unavailable => {}
            Err(Abort::Store(_)) if job.again() => isolation = Isolation::Whole,
            Err(Abort::Store(error)) => return Err(error),
        }
    }
}
