//! What every inbox store has to give: the modes, parking, trouble and claims, over its transactions.
//!
//! Implement [`InboxUnderTest`]: it opens the store, makes a handler that writes an effect into the store's transaction,
//! and shows the effects. Each check is a function of its own that gets a fresh one; [`all`] runs them one after the
//! other, and the macro [`inbox_conformance!`](crate::inbox_conformance) makes a test of each.
//!
//! ```
//! use outbox::{
//!     Event,
//!     inbox::{Answer, Handler, memory::{MemoryInbox, MemoryTx}},
//!     testing::conformance::inbox::{self, InboxUnderTest, Script},
//! };
//!
//! #[derive(Default)]
//! struct Consumer(MemoryInbox<Vec<String>>);
//!
//! struct Scripted(Script);
//!
//! impl Handler<MemoryTx<'_, Vec<String>>> for Scripted {
//!     async fn handle(&self, tx: &mut MemoryTx<'_, Vec<String>>, event: &Event) -> Answer {
//!         tx.state().push(Script::effect(event)); // first the effect,
//!         self.0.answer(event) // then the answer
//!     }
//! }
//!
//! impl InboxUnderTest for Consumer {
//!     type Store = MemoryInbox<Vec<String>>;
//!     type Handler = Scripted;
//!
//!     fn open(&self) -> Self::Store {
//!         self.0.clone()
//!     }
//!
//!     fn handler(&self, script: Script) -> Scripted {
//!         Scripted(script)
//!     }
//!
//!     fn effects(&self) -> Vec<String> {
//!         self.0.state()
//!     }
//! }
//!
//! # stringify!(
//! #[tokio::test(flavor = "multi_thread")]
//! # );
//! async fn my_inbox_conforms() {
//!     inbox::all(Consumer::default).await;
//! }
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(my_inbox_conforms());
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tower::Layer;

use crate::{
    cloudevents::{Envelope, json},
    event::{Event, Identity, Key, NewEvent, NewEventBuilder},
    inbox::{Answer, Applied, Handler, InboxLayer, InboxOperator, InboxRetry, InboxService, Incoming},
    inbox_store::{InboxStore, InboxTotals},
    memory::ManualClock,
    place::{Place, Placing},
};

mod after_cause;
mod claims;
mod in_order;
mod latest;
mod once;
mod operator;
mod together;
mod trouble;

pub use after_cause::*;
pub use claims::*;
pub use in_order::*;
pub use latest::*;
pub use once::*;
pub use operator::*;
pub use together::*;
pub use trouble::*;

/// A fresh inbox store, and a handler whose effect can be seen.
pub trait InboxUnderTest: Send + Sync + 'static {
    /// The store.
    type Store: InboxStore;
    /// A handler that writes into the store's transaction.
    type Handler: for<'t> Handler<<Self::Store as InboxStore>::Tx<'t>>;

    /// Opens the store, as after a restart: what was recorded is there.
    fn open(&self) -> Self::Store;

    /// A handler that appends [`Script::effect`] to the effects, then answers [`Script::answer`].
    fn handler(&self, script: Script) -> Self::Handler;

    /// The effects that are committed, in their order.
    fn effects(&self) -> Vec<String>;
}

/// What a handler is to answer, by the event's id, until something else is said.
#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<HashMap<String, Answer>>>);

impl Script {
    /// What a handler writes for `event`.
    pub fn effect(event: &Event) -> String {
        event.id().to_owned()
    }

    /// What a handler answers to `event` now; done, where nothing else is said.
    ///
    /// # Panics
    /// If the answer is a panic.
    pub fn answer(&self, event: &Event) -> Answer {
        let answer = self.lock().get(event.id()).cloned().unwrap_or(Answer::Done);
        assert!(answer != Answer::retry("panic"), "the script asks for a panic");
        answer
    }

    fn say(&self, id: &str, answer: Answer) {
        self.lock().insert(id.to_owned(), answer);
    }

    /// Everything is done from now on.
    fn silence(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The producer of the sample events.
const ORDERS: &str = "/orders";

/// An inbox at work.
struct Run<'b, B: InboxUnderTest> {
    bench: &'b B,
    clock: Arc<ManualClock>,
    script: Script,
    service: InboxService<B::Store, B::Handler>,
    layer: fn(B::Store) -> InboxLayer<B::Store>,
}

impl<'b, B: InboxUnderTest> Run<'b, B> {
    fn start(bench: &'b B, layer: fn(B::Store) -> InboxLayer<B::Store>) -> Self {
        let clock = Arc::new(ManualClock::default());
        let script = Script::default();
        let service = Self::service(bench, layer, &clock, &script);
        Self { bench, clock, script, service, layer }
    }

    fn service(
        bench: &B,
        layer: fn(B::Store) -> InboxLayer<B::Store>,
        clock: &Arc<ManualClock>,
        script: &Script,
    ) -> InboxService<B::Store, B::Handler> {
        // Short, and known: the first failure is followed by at most a second.
        let retry = InboxRetry { attempts: 3, base_delay: Duration::from_secs(1), max_delay: Duration::from_secs(10) };
        layer(bench.open()).retry(retry).clock(clock.clone()).layer(bench.handler(script.clone()))
    }

    /// As after a restart of the consumer.
    fn restart(&mut self) {
        self.service = Self::service(self.bench, self.layer, &self.clock, &self.script);
    }

    async fn apply(&self, events: impl IntoIterator<Item = Event>) -> Vec<Applied> {
        let incoming = events.into_iter().map(Incoming::Event).collect();
        self.service.apply(incoming).await.expect("the inbox records")
    }

    async fn one(&self, event: Event) -> Applied {
        self.apply([event]).await.pop().expect("one event has one outcome")
    }

    /// Lets time pass, then sweeps.
    async fn sweep_after(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.service.sweep().await.expect("the sweep works");
    }

    fn operator(&self) -> InboxOperator<B::Store> {
        self.service.operator()
    }

    async fn totals(&self) -> InboxTotals {
        self.operator().totals().await.expect("the totals can be read")
    }

    #[track_caller]
    fn effects_are(&self, wanted: &[&str]) {
        assert_eq!(self.bench.effects(), wanted);
    }
}

fn key(key: &str) -> Key {
    Key::new(key).expect("a sample key is valid")
}

/// The only event of entry `sequence` of a key, from a gapless route: its id is `key@1.sequence.0`.
fn event(key: &str, sequence: u64) -> Event {
    typed("sample", key, sequence)
}

fn typed(kind: &str, key: &str, sequence: u64) -> Event {
    let after = if sequence > 1 { Place::new(1, sequence - 1, 0) } else { Place::ORIGIN };
    placed(NewEvent::builder(kind).key(key), Place::new(1, sequence, 0), after)
}

/// An event at `place`, from a gapless route.
fn placed(builder: NewEventBuilder, place: Place, after: Place) -> Event {
    gapless(&with_gaps(builder, place, after))
}

fn with_gaps(builder: NewEventBuilder, place: Place, after: Place) -> Event {
    made(builder, Some(Placing { place, count: place.index + 1, after }))
}

fn made(builder: NewEventBuilder, placing: Option<Placing>) -> Event {
    let new = builder.json("payload").build().expect("a sample event is valid");
    let identity = Identity { source: &ORDERS.into(), placing, recorded: None, fallback_id: "fallback" };
    Event::from_new(new, identity).expect("a sample event is valid")
}

fn gapless(event: &Event) -> Event {
    json::decode(&json::encode(event, Envelope { gapless: true, replay: None })).expect("an event can be read back")
}

/// An event without key.
fn keyless(id: &str) -> Event {
    made(NewEvent::builder("sample").id(id), None)
}

fn retry() -> Answer {
    Answer::retry("not now")
}

/// Runs every check, each on a fresh inbox store.
pub async fn all<B: InboxUnderTest>(fresh: impl Fn() -> B) {
    crate::inbox_conformance!(@run fresh);
}

/// Makes a test of each check of the inbox suite: `inbox_conformance!(bench)`, where `bench` makes a fresh
/// [`InboxUnderTest`](crate::testing::conformance::inbox::InboxUnderTest). Needs tokio's macros and its
/// multi-threaded runtime: there are races among the checks.
#[macro_export]
macro_rules! inbox_conformance {
    (@run $fresh:ident) => {
        $crate::inbox_conformance! { @list @calls $fresh }
    };
    (@list @$how:ident $bench:expr) => {
        $crate::inbox_conformance! { @$how $bench,
            "Mode `once`: an event that was applied is not applied again, for as long as its id is remembered." =>
                once_suppresses_a_duplicate
                once_applies_the_events_of_a_key_in_any_order
                once_takes_the_same_id_of_another_producer_for_another_event
                once_keeps_ids_apart_that_look_alike
                once_remembers_ids_for_as_long_as_it_says
                once_remembers_ids_over_a_restart
                once_keeps_an_id_whose_event_is_a_dead_letter
                once_lets_a_failed_event_hold_back_only_itself
            ;
            "Mode `latest`: the latest event of a key is applied, and what it supersedes is not." =>
                latest_acknowledges_duplicates_and_older_ones
                latest_applies_an_early_one_and_supersedes_what_comes_late
                latest_lets_a_newer_event_take_the_place_of_a_failed_one
                latest_replaces_a_dead_letter_by_what_is_newer
                latest_lets_what_came_under_a_claim_take_the_place_of_what_was_given_up
                latest_lets_a_newer_state_take_the_place_of_one_whose_worker_is_gone
                latest_tries_a_removal_again_that_failed_before_a_change
                latest_lets_a_later_create_take_the_place_of_one_that_was_given_up
                latest_keeps_a_create_that_failed_for_the_changes_that_need_it
                latest_lets_a_change_wait_for_its_create
                latest_does_nothing_for_a_change_after_the_removal
                latest_opens_a_key_again_by_a_later_create
                latest_compares_events_without_a_place_by_their_time
                latest_keeps_events_of_one_time_that_come_while_one_is_claimed
                latest_lets_the_last_of_changes_of_one_time_wait_for_their_create
                latest_applies_a_create_before_the_change_of_the_same_time
                latest_refuses_an_event_without_a_place_where_others_had_one
                latest_takes_a_marker_for_no_state
            ;
            "Mode `in_order`: each event of a key is applied once, in turn; what comes early is parked durably." =>
                in_order_suppresses_a_duplicate_a_year_later
                in_order_parks_an_early_event_until_its_turn
                in_order_suppresses_a_duplicate_of_a_parked_event
                in_order_applies_every_event_of_an_entry
                in_order_sorts_a_batch
                in_order_stops_a_key_whose_route_has_gaps
                in_order_refuses_an_event_without_a_place
                in_order_joins_with_the_first_seen
                in_order_joins_with_seeds_and_their_state
                in_order_leaves_a_key_beyond_its_seed_as_it_is
                in_order_goes_on_in_a_higher_incarnation
                in_order_drops_what_its_producer_has_lost
                in_order_moves_on_over_a_marker
                in_order_does_nothing_for_a_change_after_the_removal
                in_order_keeps_parked_events_over_a_restart
                in_order_drains_a_long_queue_in_several_transactions
                in_order_keeps_keys_apart_that_look_alike
            ;
            "`InboxTx`: a lane that was loaded changes by nobody else until the transaction ends." =>
                in_order_strands_nothing_when_predecessor_and_successor_come_at_once
                two_consumers_apply_each_event_once_and_in_order
            ;
            "`InboxTx`: whether an event is done with changes by nobody else until the end of a transaction that asked for it." =>
                after_cause_strands_nothing_when_cause_and_effect_come_at_once
            ;
            "`InboxTx`: all that is done through it, the handler's effect included, commits together." =>
                a_failed_effect_leaves_nothing_but_its_record
                a_failed_batch_is_done_again_one_by_one
                a_batch_whose_caller_is_gone_is_applied_once
            ;
            "What fails is tried again when it is due, then kept as a dead letter; it holds back its key only." =>
                a_failed_event_is_tried_again_when_it_is_due
                attempts_are_counted_over_a_restart
                a_poison_event_holds_back_its_key_only
                a_handler_that_gives_up_makes_a_dead_letter_at_once
                a_handler_decides_when_it_is_tried_again
                a_clock_that_is_set_back_holds_no_failed_event_back
                a_panic_is_a_failure_like_any_other
                a_duplicate_of_a_failed_event_is_not_an_attempt
                what_cannot_be_decoded_is_kept_with_its_bytes_and_parks_nothing
                what_can_be_decoded_by_now_is_applied_when_redriven
                what_is_refused_when_redriven_stays_a_dead_letter
            ;
            "`InboxTx::bind`: `ErrorKind::Invalid` if what is recorded belongs to a mode that records otherwise." =>
                an_inbox_of_ids_does_not_become_one_of_marks
            ;
            "An operator redrives, discards, skips, rewinds and erases; `InboxTx::totals` says what the inbox holds." =>
                a_redriven_dead_letter_is_applied_before_what_is_parked_behind_it
                a_dead_letter_is_redriven_at_once_whatever_the_operators_clock_says
                a_discarded_dead_letter_lets_its_key_go_on
                an_early_event_cannot_be_discarded
                a_gap_can_be_skipped
                a_rewound_key_applies_its_events_again
                a_rewound_producer_applies_everything_again
                an_erased_key_keeps_no_copies
                what_an_inbox_holds_is_counted
            ;
            "An event waits for the event that caused it, where the consumer asks for it (contract 5)." =>
                after_cause_waits_for_the_event_that_caused_it
                after_cause_wakes_all_that_wait_for_one_event
                after_cause_waits_over_a_restart
                after_cause_applies_cause_and_effect_of_one_batch_in_their_order
                after_cause_waits_for_a_cause_without_a_key
                after_cause_makes_a_dead_letter_where_the_cause_is_not_seen
                after_cause_waits_no_longer_where_the_clock_is_set_back
                after_cause_applies_a_redriven_event_without_its_cause
                after_cause_does_not_wait_for_producers_it_does_not_subscribe_to
                after_cause_waits_for_a_cause_in_trouble
                after_cause_parks_what_follows_a_waiting_event
                after_cause_wakes_a_chain_of_causes
            ;
            "A claim has one owner at a time, an expiry and an epoch; a late answer is refused." =>
                a_claimed_event_is_handled_once_and_settled
                two_workers_handle_each_claimed_event_once
                a_claim_that_expired_is_taken_over_and_its_late_answer_refused
                a_late_answer_is_refused_while_whoever_took_the_event_over_handles_it
                a_claim_whose_caller_is_gone_is_carried_out
                a_claim_whose_sweeper_is_stopped_is_carried_out
                a_store_that_fails_one_answer_cuts_no_other_handler
                a_claim_that_expired_counts_as_an_attempt
                a_claim_that_ended_before_its_handlers_turn_is_left_to_whoever_has_it
                a_claim_ends_whatever_its_workers_wall_clock_says
                a_clock_that_is_set_back_neither_breaks_nor_prolongs_a_claim
                a_claim_that_waits_for_its_handler_is_renewed
                a_claimed_event_that_fails_is_tried_again_with_the_same_idempotency_key
                a_claim_handler_is_dropped_at_its_timeout
                events_behind_a_claimed_one_follow_in_order
                an_older_state_is_superseded_while_a_newer_one_is_handled
                a_new_history_waits_for_the_handler_of_the_old_one
            ;
        }
    };
    (@calls $fresh:expr, $($rule:literal => $($check:ident)* ;)*) => {
        $($(
            let bench = $fresh();
            $crate::testing::conformance::named(stringify!($check), $rule, Box::pin($check(&bench))).await;
        )*)*
    };
    (@tests $bench:expr, $($rule:literal => $($check:ident)* ;)*) => {
        $($(
            #[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                let bench = $bench;
                let check = $crate::testing::conformance::inbox::$check(&bench);
                $crate::testing::conformance::named(stringify!($check), $rule, check).await;
            }
        )*)*
    };
    ($bench:expr) => {
        $crate::inbox_conformance! { @list @tests $bench }
    };
}
