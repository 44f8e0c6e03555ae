//! What an operator does in one transaction.

use jiff::Timestamp;

use crate::{
    bookkeeping::{KeptId, Lane},
    error::{ErrorKind, StoreError},
    inbox_store::{
        Abort, EventId, InboxKept, InboxTotals, InboxTx, Isolation, Job, KeptLane, KeptMessage, LaneChange, LaneId,
        LaneRecord, Life, Trouble, TroubleState,
    },
    place::Place,
};

pub(super) struct TotalsJob;

impl<T: InboxTx> Job<T> for TotalsJob {
    type Output = InboxTotals;

    fn only_reads(&self) -> bool {
        true
    }

    async fn run(&mut self, tx: &mut T, _: Isolation) -> Result<InboxTotals, Abort> {
        Ok(tx.totals().await?)
    }
}

pub(super) struct KeptJob {
    pub(super) after: Option<LaneId>,
    pub(super) limit: usize,
}

impl<T: InboxTx> Job<T> for KeptJob {
    type Output = Vec<KeptLane>;

    fn only_reads(&self) -> bool {
        true
    }

    async fn run(&mut self, tx: &mut T, _: Isolation) -> Result<Vec<KeptLane>, Abort> {
        Ok(tx.troubled(self.after.as_ref(), self.limit).await?)
    }
}

pub(super) struct ShowJob {
    pub(super) id: KeptId,
}

impl<T: InboxTx> Job<T> for ShowJob {
    type Output = Option<KeptLane>;

    fn only_reads(&self) -> bool {
        true
    }

    async fn run(&mut self, tx: &mut T, _: Isolation) -> Result<Option<KeptLane>, Abort> {
        let Some((lane, first)) = tx.find(self.id).await? else { return Ok(None) };
        let record = load(tx, &lane).await?;
        Ok(Some(KeptLane { lane, record, first }))
    }
}

#[derive(Clone, Copy)]
pub(super) enum Change {
    Redrive,
    Discard,
    Erase,
    WaitAgain,
}

/// Changes lanes that still are as they were when they were chosen.
pub(super) struct ChangeJob {
    targets: Vec<KeptLane>,
    change: Change,
    now: Timestamp,
    /// How many of the targets it takes.
    taken: usize,
    /// Of one lane it erases so many events at most.
    erased: usize,
}

/// What a [`ChangeJob`] did.
pub(super) struct Changed {
    /// Lanes that were changed.
    pub(super) lanes: u64,
    /// Targets that it took.
    pub(super) taken: usize,
    /// A lane of which only a part was erased, as it is now.
    pub(super) partly: Option<KeptLane>,
}

impl ChangeJob {
    pub(super) fn new(targets: Vec<KeptLane>, change: Change, now: Timestamp) -> Self {
        let taken = targets.len();
        Self { targets, change, now, taken, erased: usize::MAX }
    }
}

impl<T: InboxTx> Job<T> for ChangeJob {
    type Output = Changed;

    fn less(&mut self) -> bool {
        if self.taken > 1 {
            self.taken = self.taken.div_ceil(2);
            return true;
        }
        let before = self.erased;
        self.erased = before.min(ERASED_AT_FIRST * 2).div_ceil(2);
        matches!(self.change, Change::Erase) && self.erased < before
    }

    async fn run(&mut self, tx: &mut T, _: Isolation) -> Result<Changed, Abort> {
        let (mut changes, mut partly) = (Vec::new(), None);
        for target in &self.targets[..self.taken] {
            let before = load(tx, &target.lane).await?;
            let first = tx.first(&target.lane).await?;
            if before.trouble != target.record.trouble || first.is_none_or(|first| first.id != target.first.id) {
                continue;
            }
            let mut now = before.clone();
            match self.change {
                Change::Redrive => redrive(&mut now, self.now),
                Change::WaitAgain => wait_again(&mut now, self.now),
                Change::Discard => drop_first(tx, &target.lane, &mut now, &target.first).await?,
                Change::Erase => {
                    let left = erase(tx, &target.lane, &mut now, self.erased).await?;
                    partly = left.map(|first| KeptLane { lane: target.lane.clone(), record: now.clone(), first });
                }
            }
            if matches!(self.change, Change::Discard) {
                wait_again(&mut now, self.now);
            }
            changes.push(LaneChange { lane: target.lane.clone(), before, now });
        }
        tx.save(&changes).await?;
        let lanes = changes.len() as u64 - u64::from(partly.is_some());
        Ok(Changed { lanes, taken: self.taken, partly })
    }
}

/// A store whose transactions take few changes erases a lane in parts, the first of which is this large.
const ERASED_AT_FIRST: usize = 32;

/// Erases the first events of a lane, `most` of them. Gives the first that is left: nobody tries it meanwhile.
async fn erase<T: InboxTx>(
    tx: &mut T,
    lane: &LaneId,
    now: &mut LaneRecord,
    most: usize,
) -> Result<Option<InboxKept>, StoreError> {
    let mut erased = 0;
    while let Some(first) = tx.first(lane).await? {
        if erased == most {
            if let Some(trouble) = &mut now.trouble {
                trouble.state = TroubleState::Dead;
                trouble.due = None;
                "it is being erased".clone_into(&mut trouble.reason);
            }
            return Ok(Some(first));
        }
        drop_first(tx, lane, now, &first).await?;
        erased += 1;
    }
    now.trouble = None;
    Ok(None)
}

async fn load<T: InboxTx>(tx: &mut T, lane: &LaneId) -> Result<LaneRecord, StoreError> {
    Ok(tx.load(std::slice::from_ref(lane)).await?.pop().unwrap_or_default())
}

fn redrive(record: &mut LaneRecord, now: Timestamp) {
    if let Some(trouble) = &mut record.trouble {
        trouble.state = TroubleState::Retrying;
        trouble.attempts = 0;
        trouble.due = Some(at_once(trouble, now));
    }
}

/// A time that is past by the consumer's clock too, which may be behind the operator's: that of what it wrote itself.
fn at_once(trouble: &Trouble, now: Timestamp) -> Timestamp {
    trouble.since.min(now)
}

/// The lane's first event is judged anew at the next sweep.
fn wait_again(record: &mut LaneRecord, now: Timestamp) {
    if let Some(trouble) = &mut record.trouble {
        *trouble = Trouble {
            state: TroubleState::Waiting,
            attempts: 0,
            due: Some(at_once(trouble, now)),
            reason: String::new(),
            ..trouble.clone()
        };
    }
}

async fn drop_first<T: InboxTx>(
    tx: &mut T,
    lane: &LaneId,
    record: &mut LaneRecord,
    first: &InboxKept,
) -> Result<(), StoreError> {
    tx.remove(first.id).await?;
    tx.stop_waiting(lane).await?;
    if let KeptMessage::Event(event) = &first.message {
        tx.set_done(&EventId::of(event), true).await?;
    }
    if matches!(lane.lane, Lane::Key(_)) {
        record.mark = record.mark.max(first.place);
    }
    if let Some(trouble) = &mut record.trouble {
        trouble.kept = trouble.kept.saturating_sub(1);
        if trouble.kept == 0 {
            record.trouble = None;
        }
    }
    Ok(())
}

pub(super) struct SkipJob {
    pub(super) lane: LaneId,
    pub(super) to: Option<Place>,
    pub(super) now: Timestamp,
}

impl<T: InboxTx> Job<T> for SkipJob {
    type Output = Place;

    async fn run(&mut self, tx: &mut T, _: Isolation) -> Result<Place, Abort> {
        let before = load(tx, &self.lane).await?;
        let before_first = tx.first(&self.lane).await?.and_then(|first| match first.message {
            KeptMessage::Event(event) => event.placing().map(|placing| placing.after),
            KeptMessage::Raw { .. } => None,
        });
        let invalid = |message: String| Abort::Store(StoreError::new(ErrorKind::Invalid, message));
        let Some(to) = self.to.or(before_first) else {
            return Err(invalid("nothing is parked for this key: name the place to skip to".to_owned()));
        };
        if to <= before.mark {
            return Err(invalid(format!("the mark of this key is {} already: nothing to skip", before.mark)));
        }
        let mut now = LaneRecord { mark: to, ..before.clone() };
        if now.trouble.as_ref().is_some_and(|trouble| trouble.state != TroubleState::Dead) {
            wait_again(&mut now, self.now);
        }
        tx.save(&[LaneChange { lane: self.lane.clone(), before, now }]).await?;
        Ok(to)
    }
}

pub(super) struct RewindJob {
    pub(super) lane: LaneId,
    pub(super) to: Place,
    pub(super) now: Timestamp,
}

impl<T: InboxTx> Job<T> for RewindJob {
    type Output = ();

    async fn run(&mut self, tx: &mut T, _: Isolation) -> Result<(), Abort> {
        let before = load(tx, &self.lane).await?;
        if self.to >= before.mark {
            let message =
                format!("the mark of this key is {}: it can only be set back to an earlier place", before.mark);
            return Err(StoreError::new(ErrorKind::Invalid, message).into());
        }
        let life = if self.to == Place::ORIGIN { Life::Unknown } else { before.life };
        let mut now = LaneRecord { mark: self.to, life, ..before.clone() };
        wait_again(&mut now, self.now);
        tx.stop_waiting(&self.lane).await?;
        Ok(tx.save(&[LaneChange { lane: self.lane.clone(), before, now }]).await?)
    }
}

pub(super) struct ForgetJob {
    pub(super) producer: String,
}

impl<T: InboxTx> Job<T> for ForgetJob {
    type Output = u64;

    async fn run(&mut self, tx: &mut T, _: Isolation) -> Result<u64, Abort> {
        Ok(tx.forget(&self.producer).await?)
    }
}
