//! Mode `latest`: a newer state takes the place of one that is kept, unless it needs that one.

use super::{Executor, Pass, Subject};
use crate::{
    event::Event,
    inbox::{
        decision::{Basis, Verdict, judge},
        settings::Mode,
    },
    inbox_store::{Abort, InboxTx, KeptMessage, LaneRecord},
};

/// Behind a front that failed so many are looked at.
const LOOKED_AT: u64 = 16;

impl<T: InboxTx, X: Executor<T>> Pass<'_, T, X> {
    /// Whether `newer` makes a kept message superfluous. Whether a change is applied at all is decided by the create or
    /// removal before it, so that is needed until there is another.
    pub(super) fn takes_the_place(&self, newer: &Event, kept: &KeptMessage) -> bool {
        let kinds = &self.settings.kinds;
        let decides = |event: &Event| kinds.create.contains(event.kind()) || kinds.remove.contains(event.kind());
        match kept {
            KeptMessage::Event(kept) => decides(newer) || !decides(kept),
            KeptMessage::Raw { .. } => true,
        }
    }

    /// A front has failed: whether a newer state that came while somebody had it in hand takes its place. If so, the front
    /// is gone, and what is kept between the two.
    pub(super) async fn is_overtaken(&mut self, subject: &Subject<'_>, record: &mut LaneRecord) -> Result<bool, Abort> {
        let kept = record.trouble.as_ref().map_or(0, |trouble| trouble.kept);
        if self.settings.mode != Mode::Latest || subject.kept.is_none() || kept < 2 {
            return Ok(false);
        }
        let front = KeptMessage::Event(subject.event.clone());
        let mut before = Vec::new();
        for _ in 0..kept.min(LOOKED_AT) {
            let Some(first) = self.tx.first(subject.lane).await? else { break };
            if !before.is_empty() && self.is_next_state(&first.message, &front, record) {
                for kept in &before {
                    self.superseded(subject.lane, record, kept).await?;
                }
                return Ok(true);
            }
            self.tx.remove(first.id).await?;
            before.push(first);
        }
        for kept in before {
            self.tx.keep(subject.lane, kept.place, &kept.message, kept.arrived).await?;
        }
        Ok(false)
    }

    fn is_next_state(&self, kept: &KeptMessage, front: &KeptMessage, record: &LaneRecord) -> bool {
        let KeptMessage::Event(event) = kept else { return false };
        let verdict = judge(self.settings, record, &Basis::of(&self.settings.mode, event, self.now), event);
        matches!(verdict, Verdict::Try { .. }) && self.takes_the_place(event, front)
    }
}
