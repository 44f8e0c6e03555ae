//! Inbox stores with a defect.

use std::sync::Arc;

use outbox::{
    Event,
    inbox::{Answer, Handler},
    testing::conformance::inbox::{self, InboxUnderTest, Script},
};

#[path = "inboxes/database.rs"]
mod database;
#[path = "inboxes/operations.rs"]
mod operations;

use database::{Database, Defect, Store, Tx};

struct Bench(Arc<Database>);

impl Bench {
    fn new(defect: Defect) -> Self {
        Self(Database::new(defect))
    }
}

struct Scripted(Script);

impl Handler<Tx> for Scripted {
    async fn handle(&self, tx: &mut Tx, event: &Event) -> Answer {
        tx.effect(Script::effect(event));
        self.0.answer(event)
    }
}

impl InboxUnderTest for Bench {
    type Store = Store;
    type Handler = Scripted;

    fn open(&self) -> Store {
        if self.0.defect == Defect::KeepsEachHandleToItself {
            return Store(Database::new(Defect::Nothing));
        }
        self.0.reopened();
        Store(self.0.clone())
    }

    fn handler(&self, script: Script) -> Scripted {
        Scripted(script)
    }

    fn effects(&self) -> Vec<String> {
        self.0.committed().effects
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_a_defect_passes() {
    inbox::all(|| Bench::new(Defect::Nothing)).await;
}

macro_rules! found {
    ($($test:ident: $defect:ident, $check:ident, $told:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            #[should_panic(expected = $told)]
            async fn $test() {
                inbox::$check(&Bench::new(Defect::$defect)).await;
            }
        )*
    };
}

found! {
    an_inbox_that_keeps_each_handle_to_itself_is_found:
        KeepsEachHandleToItself, two_consumers_apply_each_event_once_and_in_order,
        "two consumers apply each event once and in order";
    an_inbox_that_a_dropped_call_locks_is_found:
        StaysLockedByADroppedCall, a_batch_whose_caller_is_gone_is_applied_once,
        "a batch whose caller is gone is applied once: it can come again: locked";
    an_inbox_that_folds_the_case_of_keys_is_found:
        FoldsCase, in_order_keeps_keys_apart_that_look_alike, "keys that look alike are apart";
    an_inbox_that_folds_the_case_of_ids_is_found:
        FoldsCase, once_keeps_ids_apart_that_look_alike, "ids that look alike are apart";
    an_inbox_whose_effects_are_on_another_connection_is_found:
        WritesEffectsElsewhere, a_failed_effect_leaves_nothing_but_its_record, "right: []";
    an_inbox_that_records_what_has_no_effect_is_found:
        LosesEffectsOfABatchThatIsRedone, a_failed_batch_is_done_again_one_by_one, "left: []";
    an_inbox_that_moves_marks_on_though_the_effect_is_taken_back_is_found:
        AdvancesMarksElsewhere, a_failed_effect_leaves_nothing_but_its_record, "Duplicate";
    an_inbox_that_answers_before_it_commits_is_found:
        AnswersBeforeItCommits, once_suppresses_a_duplicate, "left: Applied";
    an_inbox_that_locks_no_lane_is_found_by_two_consumers:
        LocksNoLane, two_consumers_apply_each_event_once_and_in_order,
        "two consumers apply each event once and in order";
    an_inbox_that_locks_no_lane_is_found_by_what_it_strands:
        LocksNoLane, in_order_strands_nothing_when_predecessor_and_successor_come_at_once,
        "nothing is stranded when predecessor and successor come at once";
    an_inbox_whose_claims_are_had_by_two_is_found:
        LocksNoLane, two_workers_handle_each_claimed_event_once, "two workers handle each claimed event once";
    an_inbox_that_locks_one_lane_of_several_is_found:
        LocksTheFirstLaneOnly, two_consumers_apply_each_event_once_and_in_order,
        "two consumers apply each event once and in order";
    an_inbox_that_locks_no_cause_without_a_key_is_found:
        LocksNoId, after_cause_strands_nothing_when_cause_and_effect_come_at_once,
        "nothing is stranded when cause and effect come at once";
    an_inbox_that_locks_no_cause_with_a_key_is_found:
        LocksNoLane, after_cause_strands_nothing_when_cause_and_effect_come_at_once,
        "nothing is stranded when cause and effect come at once";
    an_inbox_whose_claims_have_one_epoch_is_found:
        ForgetsEpochs, a_late_answer_is_refused_while_whoever_took_the_event_over_handles_it, "right: (0, 1, 0)";
    an_inbox_that_forgets_attempts_is_found:
        ForgetsAttempts, attempts_are_counted_over_a_restart, "right: 1";
    an_inbox_that_keeps_the_first_since_is_found:
        KeepsTheFirstSince, a_clock_that_is_set_back_neither_breaks_nor_prolongs_a_claim,
        "a claim that holds was taken over";
    an_inbox_that_forgets_ids_when_it_is_opened_is_found:
        ForgetsIdsWhenOpened, once_remembers_ids_over_a_restart, "right: Duplicate";
    an_inbox_that_forgets_what_is_done_when_it_is_opened_is_found:
        ForgetsWhatIsDoneWhenOpened, after_cause_waits_over_a_restart, "its cause was done with before the restart";
    an_inbox_that_forgets_who_waits_when_it_is_opened_is_found:
        ForgetsWaitsWhenOpened, after_cause_waits_over_a_restart, "right: [\"done\", \"b@1.1.0\", \"open\", \"a@1.1.0\"]";
    an_inbox_that_loses_who_waits_is_found:
        LosesWaits, after_cause_waits_for_the_event_that_caused_it, "right: [\"a@1.1.0\", \"a@1.2.0\", \"b@1.1.0\"]";
    an_inbox_that_wakes_one_of_those_that_wait_is_found:
        WakesOne, after_cause_wakes_all_that_wait_for_one_event, "the cause and all that waited";
    an_inbox_that_purges_what_has_not_expired_is_found:
        PurgesWhatHasNotExpired, once_remembers_ids_for_as_long_as_it_says, "right: Duplicate";
    an_inbox_that_purges_what_is_not_done_is_found:
        PurgesWhatIsNotDone, once_keeps_an_id_whose_event_is_a_dead_letter, "which does not know of it";
    an_inbox_that_keeps_an_event_twice_is_found:
        KeepsAPlaceTwice, in_order_suppresses_a_duplicate_of_a_parked_event, "right: Duplicate";
    an_inbox_that_gives_the_last_of_what_it_keeps_is_found:
        GivesTheLastKept, in_order_keeps_parked_events_over_a_restart, "right: [\"a@1.1.0\", \"a@1.2.0\", \"a@1.3.0\"]";
    an_inbox_that_removes_all_of_a_key_is_found:
        RemovesAllOfALane, a_redriven_dead_letter_is_applied_before_what_is_parked_behind_it,
        "right: [\"a@1.1.0\", \"a@1.2.0\", \"a@1.3.0\", \"a@1.4.0\"]";
    an_inbox_of_ids_that_goes_on_with_marks_is_found:
        TakesAnyMode, an_inbox_of_ids_does_not_become_one_of_marks, "refused";
    an_inbox_that_takes_ids_of_two_producers_for_one_is_found:
        TakesAnyProducer, once_takes_the_same_id_of_another_producer_for_another_event, "left: [Applied, Duplicate]";
    an_inbox_that_forgets_every_producer_is_found:
        ForgetsEveryProducer, a_rewound_producer_applies_everything_again, "right: 0";
}
