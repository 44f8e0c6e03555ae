//! Sinks with a defect.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use outbox::{
    Batch, Event, Fault, Outcome, Sink, SinkError, SinkLimits,
    memory::MemorySink,
    testing::{
        Delivery, SinkUnderTest,
        conformance::{
            self,
            sink::{self, blame, full, interrupted, sizes},
        },
        faults::{FaultySink, SinkFault, SinkFaults},
    },
};
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore},
    task::yield_now,
};

#[path = "sinks/whole.rs"]
mod whole;

/// What such a sink says that it takes: so many calls that a few of them are not all.
const LIMITS: SinkLimits =
    SinkLimits { ordered_calls: true, max_events: 100, max_bytes: 1 << 20, max_event_bytes: 256 << 10, max_calls: 64 };

#[derive(Clone, Copy, PartialEq)]
enum SinkDefect {
    ForgetsAnOutcome,
    Reorders,
    SwallowsDuplicates,
    AcceptsBeforeItArrives,
    BlamesTheEvent,
    ChangesItsSize,
    CutsLargeEvents,
    LosesItsPlaces,
    WaitsUnderALock,
    TearsADroppedCall,
    NeverConnectsAgain,
    SaysThatALostAnswerHadNoEffect,
    SaysThatItTakesMoreBytes,
    CountsHalfOfThePayload,
    CountsNoEnvelope,
    LosesWhatTheRouteAdds,
    LosesTheReplay,
    PromisesWhatTheRouteDoesNot,
    TakesAllReplaysForOne,
    BeginsAnewWhenItIsOpened,
    NeverAnswers,
    /// Carries another value of this attribute, or none.
    Spoils(&'static str),
}

struct DefectiveSink {
    inner: Arc<MemorySink>,
    defect: SinkDefect,
    wire: Arc<Wire>,
}

/// What such a sink holds over its calls.
struct Wire {
    asked: AtomicUsize,
    places: Semaphore,
    lock: AsyncMutex<()>,
    /// What arrived of calls that were dropped.
    torn: Mutex<Vec<Delivery>>,
    cut: AtomicBool,
    answer_lost: AtomicBool,
    /// What arrived before that is gone.
    began_at: AtomicUsize,
}

impl Wire {
    fn new() -> Arc<Self> {
        let (cut, answer_lost, began_at) = (AtomicBool::default(), AtomicBool::default(), AtomicUsize::default());
        let places = Semaphore::new(LIMITS.max_calls);
        let (asked, lock, torn) = (AtomicUsize::new(0), AsyncMutex::default(), Mutex::default());
        Arc::new(Self { asked, places, lock, torn, cut, answer_lost, began_at })
    }
}

#[async_trait]
impl Sink for DefectiveSink {
    fn limits(&self) -> SinkLimits {
        self.inner.limits()
    }

    fn size(&self, event: &Event) -> usize {
        let (sent, payload) = (self.inner.size(event), event.data().map_or(0, Bytes::len));
        match self.defect {
            SinkDefect::ChangesItsSize => sent + self.wire.asked.fetch_add(1, Ordering::Relaxed),
            SinkDefect::CountsHalfOfThePayload => sent - payload / 2,
            SinkDefect::CountsNoEnvelope => payload,
            _ => sent,
        }
    }

    async fn check(&self) -> Result<(), SinkError> {
        self.inner.check().await
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let mut batch = batch.clone();
        let accepted = vec![Outcome::Accepted; batch.events.len()];
        match self.defect {
            SinkDefect::NeverAnswers => std::future::pending().await,
            SinkDefect::ForgetsAnOutcome => {
                let faults = SinkFaults::default();
                faults.once(SinkFault::ShortAnswer);
                FaultySink::new(self.inner.clone(), faults).publish(&batch).await
            }
            SinkDefect::Reorders => {
                batch.events.reverse();
                self.inner.publish(&batch).await
            }
            SinkDefect::SwallowsDuplicates => {
                let known = self.inner.ids();
                batch.events.retain(|event| !known.iter().any(|id| id == event.id()));
                self.inner.publish(&batch).await?;
                Ok(accepted)
            }
            SinkDefect::TakesAllReplaysForOne => {
                let replayed =
                    |id: &str| self.inner.accepted().iter().any(|a| a.replay.is_some() && a.event.id() == id);
                batch.events.retain(|event| batch.replay.is_none() || !replayed(event.id()));
                self.inner.publish(&batch).await?;
                Ok(accepted)
            }
            SinkDefect::LosesWhatTheRouteAdds => {
                self.inner.publish(&Batch { gapless: false, replay: None, ..batch }).await
            }
            SinkDefect::LosesTheReplay => self.inner.publish(&Batch { replay: None, ..batch }).await,
            SinkDefect::PromisesWhatTheRouteDoesNot => self.inner.publish(&Batch { gapless: true, ..batch }).await,
            SinkDefect::AcceptsBeforeItArrives => Ok(accepted),
            SinkDefect::LosesItsPlaces => {
                self.wire.places.acquire().await.unwrap().forget();
                yield_now().await;
                self.wire.places.add_permits(1);
                self.inner.publish(&batch).await
            }
            SinkDefect::WaitsUnderALock => {
                let _held = self.wire.lock.lock().await;
                yield_now().await;
                self.inner.publish(&batch).await
            }
            SinkDefect::TearsADroppedCall => {
                let event = &batch.events[0];
                let half = event.data().map(|data| data.slice(..data.len() / 2));
                let torn = Delivery { data: half, ..Delivery::surrounded(event, batch.envelope()) };
                self.wire.torn.lock().unwrap().push(torn);
                yield_now().await;
                self.wire.torn.lock().unwrap().pop();
                self.inner.publish(&batch).await
            }
            SinkDefect::NeverConnectsAgain if self.wire.cut.load(Ordering::Relaxed) => {
                Err(SinkError::new(Fault::Sink, "broken pipe"))
            }
            SinkDefect::SaysThatALostAnswerHadNoEffect if self.wire.answer_lost.swap(false, Ordering::Relaxed) => {
                self.inner.publish(&batch).await?;
                Err(SinkError::new(Fault::Unknown, "no answer"))
            }
            SinkDefect::NeverConnectsAgain
            | SinkDefect::SaysThatALostAnswerHadNoEffect
            | SinkDefect::ChangesItsSize
            | SinkDefect::BeginsAnewWhenItIsOpened
            | SinkDefect::CutsLargeEvents
            | SinkDefect::Spoils(_) => self.inner.publish(&batch).await,
            // As a broker does that counts by itself.
            SinkDefect::SaysThatItTakesMoreBytes
            | SinkDefect::CountsHalfOfThePayload
            | SinkDefect::CountsNoEnvelope => {
                let sent: usize = batch.events.iter().map(|event| self.inner.size(event)).sum();
                let few = self.defect == SinkDefect::SaysThatItTakesMoreBytes;
                let most = if few { LIMITS.max_bytes / 2 } else { LIMITS.max_bytes };
                if sent > most {
                    return Err(SinkError::new(Fault::Event, "the message is too large"));
                }
                self.inner.publish(&batch).await
            }
            SinkDefect::BlamesTheEvent => match self.inner.publish(&batch).await {
                Ok(outcomes) => Ok(outcomes),
                Err(error) => {
                    let refused = Outcome::Refused { permanent: true, reason: error.message };
                    Ok(vec![refused; batch.events.len()])
                }
            },
        }
    }
}

struct Defective(Arc<MemorySink>, SinkDefect, Arc<Wire>);

impl Defective {
    fn new(defect: SinkDefect) -> Self {
        Self(Arc::new(MemorySink::new(LIMITS)), defect, Wire::new())
    }
}

#[async_trait]
impl SinkUnderTest for Defective {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(DefectiveSink { inner: self.0.clone(), defect: self.1, wire: self.2.clone() })
    }

    async fn delivered(&self) -> Vec<Delivery> {
        let most = if self.1 == SinkDefect::CutsLargeEvents { 64 << 10 } else { usize::MAX };
        let cut = |data: &Bytes| data.slice(..data.len().min(most));
        let kept = self.0.accepted().into_iter().skip(self.2.began_at.load(Ordering::Relaxed));
        let whole = kept.map(Delivery::from);
        let mut arrived: Vec<_> = whole.map(|one| Delivery { data: one.data.as_ref().map(cut), ..one }).collect();
        if let SinkDefect::Spoils(name) = self.1 {
            arrived = arrived.into_iter().map(|one| whole::spoilt(&one.event.unwrap(), name).into()).collect();
        }
        arrived.extend(self.2.torn.lock().unwrap().iter().cloned());
        arrived
    }

    async fn open(&self) -> Option<Arc<dyn Sink>> {
        if self.1 == SinkDefect::BeginsAnewWhenItIsOpened {
            self.2.began_at.store(self.0.accepted().len(), Ordering::Relaxed);
        }
        Some(self.sink())
    }

    async fn take_nothing(&self) -> bool {
        self.0.break_down(Fault::Sink, "too many clients: close some");
        true
    }

    async fn cut_connections(&self) -> bool {
        self.2.cut.store(true, Ordering::Relaxed);
        true
    }

    async fn lose_an_answer(&self) -> bool {
        self.2.answer_lost.store(true, Ordering::Relaxed);
        true
    }

    async fn take_away(&self) -> bool {
        self.0.break_down(Fault::Sink, "nobody listens: start the target");
        true
    }
}

async fn run_sink_suite(defect: SinkDefect) {
    sink::all(async || Defective::new(defect)).await;
}

#[tokio::test]
#[should_panic(expected = "one outcome for each event")]
async fn a_sink_that_forgets_an_outcome_is_found() {
    let sink = Defective::new(SinkDefect::ForgetsAnOutcome);
    sink::there_is_one_outcome_for_each_event(&sink).await;
}

#[tokio::test]
#[should_panic(expected = "events of an ordered call arrive in order")]
async fn a_sink_that_reorders_is_found() {
    run_sink_suite(SinkDefect::Reorders).await;
}

#[tokio::test]
#[should_panic(expected = "no dedup id may swallow it")]
async fn a_sink_that_swallows_replays_is_found() {
    run_sink_suite(SinkDefect::SwallowsDuplicates).await;
}

#[tokio::test]
#[should_panic(expected = "and the next one too: no dedup id may swallow it")]
async fn a_sink_that_swallows_the_second_replay_is_found() {
    run_sink_suite(SinkDefect::TakesAllReplaysForOne).await;
}

#[tokio::test]
#[should_panic(expected = "what is accepted has arrived")]
async fn a_sink_that_accepts_too_early_is_found() {
    sink::what_is_accepted_has_arrived(&Defective::new(SinkDefect::AcceptsBeforeItArrives)).await;
}

#[tokio::test]
#[should_panic(expected = "an absent target is the sink's fault")]
async fn a_sink_that_blames_events_for_its_target_is_found() {
    run_sink_suite(SinkDefect::BlamesTheEvent).await;
}

#[tokio::test]
#[should_panic(expected = "a target that takes nothing blames no event")]
async fn a_sink_that_blames_events_for_what_its_target_says_of_itself_is_found() {
    blame::a_target_that_takes_nothing_blames_no_event(&Defective::new(SinkDefect::BlamesTheEvent)).await;
}

#[tokio::test]
#[should_panic(expected = "a call filled to its bytes is taken: of 100 events")]
async fn a_sink_that_says_that_it_takes_more_bytes_is_found() {
    run_sink_suite(SinkDefect::SaysThatItTakesMoreBytes).await;
}

#[tokio::test]
#[should_panic(expected = "a call filled to its bytes is taken: of 100 events")]
async fn a_sink_that_counts_no_envelope_is_found() {
    run_sink_suite(SinkDefect::CountsNoEnvelope).await;
}

#[tokio::test]
#[should_panic(expected = "a size is at least its payload")]
async fn a_sink_that_counts_half_of_the_payload_is_found() {
    sizes::a_size_is_at_least_its_payload(&Defective::new(SinkDefect::CountsHalfOfThePayload)).await;
}

#[tokio::test]
#[should_panic(expected = "a call filled to its bytes is taken: of 104 accepted 104 arrived, 100 of them whole")]
async fn a_sink_that_cuts_what_is_in_a_full_call_is_found() {
    full::a_call_filled_to_its_bytes_is_taken(&Defective::new(SinkDefect::CutsLargeEvents)).await;
}

#[tokio::test]
#[should_panic(expected = "a size is pure")]
async fn a_sink_that_changes_its_size_is_found() {
    sizes::a_size_is_pure(&Defective::new(SinkDefect::ChangesItsSize)).await;
}

#[tokio::test]
#[should_panic(expected = "the largest event is taken")]
async fn a_sink_that_cuts_large_events_is_found() {
    sizes::the_largest_event_is_taken(&Defective::new(SinkDefect::CutsLargeEvents)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "calls that are dropped free their place: nothing happened")]
async fn a_sink_that_loses_its_places_is_found() {
    interrupted::calls_that_are_dropped_free_their_place(&Defective::new(SinkDefect::LosesItsPlaces)).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "a call that waits holds up no other: nothing happened")]
async fn a_sink_that_waits_under_a_lock_is_found() {
    interrupted::a_call_that_waits_holds_up_no_other(&Defective::new(SinkDefect::WaitsUnderALock)).await;
}

#[tokio::test]
#[should_panic(expected = "`a@1.2.0` arrived otherwise than it was published")]
async fn a_sink_that_tears_dropped_calls_is_found() {
    interrupted::a_dropped_call_leaves_the_sink_working(&Defective::new(SinkDefect::TearsADroppedCall)).await;
}

#[tokio::test]
#[should_panic(expected = "a cut connection is made again: after 5 calls")]
async fn a_sink_that_never_connects_again_is_found() {
    run_sink_suite(SinkDefect::NeverConnectsAgain).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "`its_limits_allow_a_call` came to no end within 600s")]
async fn a_sink_that_never_answers_is_found() {
    run_sink_suite(SinkDefect::NeverAnswers).await;
}

#[tokio::test]
#[should_panic(expected = "what was accepted is there after a restart: once it is opened")]
async fn a_sink_that_begins_anew_when_it_is_opened_is_found() {
    run_sink_suite(SinkDefect::BeginsAnewWhenItIsOpened).await;
}

#[tokio::test]
#[should_panic(expected = "a lost answer is uncertain")]
async fn a_sink_that_is_sure_of_a_lost_answer_is_found() {
    run_sink_suite(SinkDefect::SaysThatALostAnswerHadNoEffect).await;
}

/// A sink whose target can do nothing besides: its suite is green, and says what it did not look at.
struct Plain(Arc<MemorySink>);

#[async_trait]
impl SinkUnderTest for Plain {
    fn sink(&self) -> Arc<dyn Sink> {
        self.0.clone()
    }

    async fn delivered(&self) -> Vec<Delivery> {
        let accepted = self.0.accepted().into_iter();
        accepted.map(|a| Delivery { event: None, ..a.into() }).collect()
    }
}

#[tokio::test]
async fn what_a_target_cannot_do_is_told_with_the_checks_that_were_passed_over() {
    let fresh = async || Plain(Arc::new(MemorySink::default()));
    let told = conformance::passed_over_by(sink::all(fresh)).await;
    let checks: Vec<_> = told.iter().map(|one| one.check.as_str()).collect();
    assert_eq!(
        checks,
        [
            "a_refused_event_is_named_and_the_rest_accepted",
            "what_was_accepted_is_there_after_a_restart",
            "every_attribute_arrives",
            "what_a_route_adds_arrives",
            "nothing_of_a_key_is_accepted_behind_what_was_refused",
            "an_absent_target_is_the_sinks_fault",
            "a_target_that_takes_nothing_blames_no_event",
            "a_cut_connection_is_made_again",
            "a_lost_answer_is_uncertain",
        ]
    );
    let offers = ["refuse", "open", "refuse", "take_away", "take_nothing", "cut_connections", "lose_an_answer"];
    let mut offers = offers.map(|offer| format!("`SinkUnderTest::{offer}`")).to_vec();
    offers.splice(2..2, ["`Delivery::event`".to_owned(), "`Delivery::event`".to_owned()]);
    for (one, offer) in told.iter().zip(offers) {
        assert!(one.why.contains(&offer), "{one}");
    }
}
