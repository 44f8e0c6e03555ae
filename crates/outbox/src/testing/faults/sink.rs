//! Faults of sinks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use super::super::hold::Hold;
use crate::{
    event::{Event, Key},
    sink::{Batch, Fault, Outcome, Sink, SinkError, SinkLimits},
};

/// What goes wrong with a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkFault {
    /// The event with this id is refused by name; what else is in the call goes through, but for later events of its
    /// key.
    Refuse {
        /// The event's id.
        event: String,
        /// Whether asking again is pointless.
        permanent: bool,
    },
    /// A call that holds the event with this id fails as a whole: a target that answers 500 for one event only.
    Poison {
        /// The event's id.
        event: String,
        /// Whose fault the sink says it is.
        fault: Fault,
    },
    /// The call fails as a whole, without effect.
    FailCall(Fault),
    /// The call takes effect, and its answer is lost.
    AcceptAndLoseAnswer,
    /// The call takes effect, and the answer lacks its last outcome: a sink with a defect.
    ShortAnswer,
    /// Every event of the call is answered with a throttle, and nothing takes effect.
    Throttle {
        /// How long the sink asks to be left alone.
        after: Option<Duration>,
    },
    /// The call hangs before it takes effect, until [`SinkFaults::release`].
    Hang,
}

impl SinkFault {
    /// Whether the fault concerns this call.
    fn concerns(&self, batch: &Batch) -> bool {
        match self {
            Self::Refuse { event, .. } | Self::Poison { event, .. } => batch.events.iter().any(|e| e.id() == event),
            Self::FailCall(_) | Self::AcceptAndLoseAnswer | Self::ShortAnswer | Self::Throttle { .. } | Self::Hang => {
                true
            }
        }
    }
}

/// Which faults happen at which calls of a sink. A handle: clones share the script.
#[derive(Clone, Debug, Default)]
pub struct SinkFaults(Arc<Script>);

#[derive(Debug, Default)]
struct Script {
    scripted: Mutex<Vec<(SinkFault, Times)>>,
    hold: Hold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    Once,
    Always,
}

/// What the script says of one call.
#[derive(Default)]
struct Plan {
    refused: BTreeMap<String, bool>,
    call: Option<SinkFault>,
}

impl SinkFaults {
    /// The next call that this fault concerns, and that has no earlier fault, suffers it.
    pub fn once(&self, fault: SinkFault) {
        self.scripted().push((fault, Times::Once));
    }

    /// Every call that this fault concerns suffers it, until [`mend`](Self::mend).
    pub fn always(&self, fault: SinkFault) {
        self.scripted().push((fault, Times::Always));
    }

    /// From now on nothing goes wrong. What hangs goes on hanging.
    pub fn mend(&self) {
        self.scripted().clear();
    }

    /// How many scripted faults have not happened yet, or happen always.
    pub fn pending(&self) -> usize {
        self.scripted().len()
    }

    /// Lets the calls that hang now go on.
    pub fn release(&self) {
        self.0.hold.release();
    }

    /// Waits until so many calls hang at the same time.
    pub async fn hanging_at_least(&self, calls: usize) {
        self.0.hold.hanging_at_least(calls).await;
    }

    fn scripted(&self) -> MutexGuard<'_, Vec<(SinkFault, Times)>> {
        self.0.scripted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refusals add up; of the faults that strike a call as a whole the first one does.
    fn plan(&self, batch: &Batch) -> Plan {
        let mut plan = Plan::default();
        self.scripted().retain(|(fault, times)| {
            if !fault.concerns(batch) {
                return true;
            }
            if let SinkFault::Refuse { event, permanent } = fault {
                plan.refused.insert(event.clone(), *permanent);
            } else if plan.call.is_none() {
                plan.call = Some(fault.clone());
            } else {
                return true;
            }
            *times == Times::Always
        });
        plan
    }
}

/// A sink that fails as its script says.
pub struct FaultySink {
    inner: Arc<dyn Sink>,
    faults: SinkFaults,
}

impl FaultySink {
    /// `inner`, failing as `faults` say.
    pub fn new(inner: Arc<dyn Sink>, faults: SinkFaults) -> Self {
        Self { inner, faults }
    }

    /// Publishes what is not refused, and puts the outcomes together in the batch's order.
    async fn publish_rest(&self, batch: &Batch, refused: &BTreeMap<String, bool>) -> Result<Vec<Outcome>, SinkError> {
        if refused.is_empty() {
            return self.inner.publish(batch).await;
        }
        let mut held = BTreeSet::<&Key>::new();
        let mut answers = Vec::with_capacity(batch.events.len());
        for event in &batch.events {
            answers.push(match refused.get(event.id()) {
                _ if event.key().is_some_and(|key| held.contains(key)) => Some(Outcome::Throttled { after: None }),
                Some(&permanent) => {
                    held.extend(event.key());
                    Some(Outcome::Refused { permanent, reason: "scripted refusal".to_owned() })
                }
                None => None,
            });
        }
        let through = batch.events.iter().zip(&answers).filter(|(_, answer)| answer.is_none());
        let rest = Batch { events: through.map(|(event, _)| event.clone()).collect(), ..batch.clone() };
        let outcomes = if rest.events.is_empty() { Vec::new() } else { self.inner.publish(&rest).await? };
        let mut outcomes = outcomes.into_iter();
        Ok(answers.into_iter().filter_map(|answer| answer.or_else(|| outcomes.next())).collect())
    }
}

#[async_trait]
impl Sink for FaultySink {
    fn limits(&self) -> SinkLimits {
        self.inner.limits()
    }

    fn size(&self, event: &Event) -> usize {
        self.inner.size(event)
    }

    async fn check(&self) -> Result<(), SinkError> {
        self.inner.check().await
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let Plan { refused, call } = self.faults.plan(batch);
        match call {
            // Refusals are planned apart.
            None | Some(SinkFault::Refuse { .. }) => self.publish_rest(batch, &refused).await,
            Some(SinkFault::FailCall(fault) | SinkFault::Poison { fault, .. }) => {
                Err(SinkError::new(fault, "scripted failure of the call"))
            }
            Some(SinkFault::AcceptAndLoseAnswer) => {
                self.publish_rest(batch, &refused).await?;
                Err(SinkError::new(Fault::Unknown, "scripted loss of the answer").uncertain())
            }
            Some(SinkFault::ShortAnswer) => {
                let mut outcomes = self.publish_rest(batch, &refused).await?;
                outcomes.pop();
                Ok(outcomes)
            }
            Some(SinkFault::Throttle { after }) => Ok(vec![Outcome::Throttled { after }; batch.events.len()]),
            Some(SinkFault::Hang) => {
                self.faults.0.hold.hang().await;
                self.publish_rest(batch, &refused).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{entry::EventRef, memory::MemorySink, testing_event};

    fn faulty() -> (Arc<MemorySink>, FaultySink, SinkFaults) {
        let inner = Arc::new(MemorySink::default());
        let faults = SinkFaults::default();
        (inner.clone(), FaultySink::new(inner, faults.clone()), faults)
    }

    fn batch(events: &[(&str, u64)]) -> Batch {
        let events = events.iter().map(|(key, n)| EventRef::single(testing_event("t", Some(key), *n))).collect();
        Batch { events, gapless: true, replay: None }
    }

    #[tokio::test]
    async fn a_refusal_holds_back_the_rest_of_its_key_and_nothing_else() {
        let (inner, sink, faults) = faulty();
        faults.once(SinkFault::Refuse { event: "a@1.1.0".to_owned(), permanent: false });
        let call = batch(&[("a", 1), ("b", 1), ("a", 2)]);
        let outcomes = sink.publish(&call).await.unwrap();
        assert!(matches!(outcomes[..], [Outcome::Refused { .. }, Outcome::Accepted, Outcome::Throttled { .. }]));
        assert_eq!(inner.ids(), ["b@1.1.0"]);
        assert_eq!(sink.publish(&call).await.unwrap(), vec![Outcome::Accepted; 3]);
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_the_events_accepted() {
        let (inner, sink, faults) = faulty();
        faults.once(SinkFault::AcceptAndLoseAnswer);
        assert!(sink.publish(&batch(&[("a", 1)])).await.unwrap_err().uncertain);
        assert_eq!(inner.ids(), ["a@1.1.0"]);
    }

    #[tokio::test]
    async fn a_poison_event_fails_only_calls_that_hold_it() {
        let (inner, sink, faults) = faulty();
        faults.always(SinkFault::Poison { event: "a@1.1.0".to_owned(), fault: Fault::Unknown });
        sink.publish(&batch(&[("b", 1), ("a", 1)])).await.unwrap_err();
        sink.publish(&batch(&[("b", 1)])).await.unwrap();
        sink.publish(&batch(&[("a", 1)])).await.unwrap_err();
        assert_eq!(inner.ids(), ["b@1.1.0"]);
    }

    #[tokio::test]
    async fn faults_strike_one_call_after_the_other() {
        let (inner, sink, faults) = faulty();
        faults.once(SinkFault::FailCall(Fault::Sink));
        faults.once(SinkFault::Throttle { after: None });
        faults.once(SinkFault::ShortAnswer);
        assert_eq!(sink.publish(&batch(&[("a", 1)])).await.unwrap_err().fault, Fault::Sink);
        assert_eq!(sink.publish(&batch(&[("a", 1)])).await.unwrap(), [Outcome::Throttled { after: None }]);
        assert_eq!(sink.publish(&batch(&[("a", 1)])).await.unwrap(), []);
        assert_eq!((inner.ids().len(), faults.pending()), (1, 0));
    }

    #[tokio::test]
    async fn a_hanging_call_takes_effect_only_when_it_is_released() {
        let (inner, sink, faults) = faulty();
        faults.once(SinkFault::Hang);
        let call = tokio::spawn(async move { sink.publish(&batch(&[("a", 1)])).await });
        faults.hanging_at_least(1).await;
        assert_eq!(inner.ids().len(), 0);
        faults.release();
        call.await.unwrap().unwrap();
        assert_eq!(inner.ids().len(), 1);
    }
}
