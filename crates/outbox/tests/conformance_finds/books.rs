//! Bookkeepings with a defect.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use outbox::{
    Bookkeeping, ErrorKind, Key, Operator, PartitionId, Position, RouteName, StoreError,
    bookkeeping::{Checkpoint, HealthState, Keep, Lane, Lease, RouteHealth, Settlement, Trouble},
    memory::{MemoryBookkeeping, SeededEntropy},
    testing::{
        BookkeepingUnderTest, Call, Hook, Hooked, InWords, Io,
        conformance::bookkeeping::{fencing, handles},
    },
};
use tokio::task::yield_now;

#[derive(Clone, Copy, PartialEq)]
enum Defect {
    KeepsEachHandleToItself,
    WritesACheckpointInTwoSteps,
    WritesBeforeItLooksAtTheLease,
    StaysLockedByADroppedCall,
    WritesWhatWasDroppedLater,
    /// Carries out what it refuses.
    WritesWhatItRefuses(Io),
}

struct Books(Arc<MemoryBookkeeping>, Defect);

impl Books {
    fn new(defect: Defect) -> Self {
        Self(Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(7))), defect)
    }
}

#[async_trait]
impl BookkeepingUnderTest for Books {
    async fn open(&self) -> Arc<dyn Operator> {
        if self.1 == Defect::KeepsEachHandleToItself {
            return Arc::new(self.0.copy());
        }
        let inner: Arc<dyn Operator> = self.0.clone();
        Arc::new(Hooked::new(inner, Broken(self.0.clone(), self.1, State::default())))
    }
}

#[derive(Default)]
struct State {
    locked: AtomicBool,
    /// Checkpoints begun and answered.
    begun: AtomicU64,
    answered: AtomicU64,
}

struct Broken(Arc<MemoryBookkeeping>, Defect, State);

impl Broken {
    /// Moves the checkpoint to `number`, past the lease.
    async fn slip(&self, number: u64) {
        let position = Position::new(number.to_string());
        let checkpoint = Checkpoint { partition: PartitionId::new("entries"), position, finished: false };
        self.0.reset_checkpoint(&RouteName::new("a").unwrap(), &checkpoint).await.unwrap();
    }

    /// Writes something as the present owner of the lease.
    async fn write_as_the_owner(&self, io: Io) {
        let (books, route) = (&self.0, RouteName::new("a").unwrap());
        let epoch = books.lease("relay").await.unwrap().epoch;
        let owner = Lease { name: "relay".to_owned(), epoch };
        match io {
            Io::NoteClaims => books.note_claims(&owner, &[]).await.unwrap(),
            Io::NoteReplayed => books.note_replayed(&owner, "one").await.unwrap(),
            Io::NoteHealth => {
                let since = "2027-01-01T00:00:00Z".parse().unwrap();
                let health = RouteHealth { state: HealthState::Flowing, since };
                books.note_health(&owner, &route, &health).await.unwrap();
            }
            // As many are kept as before, in another order.
            Io::Keep => {
                let lane = Lane::Key(Key::new("kept").unwrap());
                let Some(Trouble { generation, front, .. }) = books.trouble(&route, &lane).await.unwrap() else {
                    return;
                };
                let first = books.kept(&route, &lane, 1).await.unwrap().remove(0);
                let (remove, front) = (vec![first.id], Some(front));
                let settlement =
                    Settlement { lane: lane.clone(), generation, remove, apart: None, discarded: false, front };
                books.settle(&owner, &route, &settlement).await.unwrap();
                let again = Keep { lane, front: None, events: vec![(first.content, first.position)] };
                books.keep(&owner, &route, &first.partition, &again).await.unwrap();
            }
            other => panic!("nothing is planted at {other:?}"),
        }
    }
}

#[async_trait]
impl Hook for Broken {
    async fn before(&self, call: &Call<'_>) -> Result<(), StoreError> {
        match (self.1, call.io) {
            (Defect::WritesACheckpointInTwoSteps, Io::Checkpoint) => {
                let number = self.2.begun.fetch_add(1, Ordering::Relaxed);
                // All but the first are asked for twice: dropped, then again.
                self.slip(1 + number.div_ceil(2)).await;
                yield_now().await;
            }
            (Defect::WritesBeforeItLooksAtTheLease, Io::Checkpoint) => {
                let number = self.2.begun.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
                self.slip(number).await;
            }
            (Defect::StaysLockedByADroppedCall, Io::Keep) => {
                if self.2.locked.swap(true, Ordering::Relaxed) {
                    return Err(StoreError::new(ErrorKind::Unavailable, "locked"));
                }
                yield_now().await;
                self.2.locked.store(false, Ordering::Relaxed);
            }
            (Defect::WritesWhatWasDroppedLater, Io::Checkpoint) => {
                self.2.begun.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
            (Defect::WritesWhatItRefuses(planted), io) if planted == io => self.write_as_the_owner(io).await,
            _ => {}
        }
        Ok(())
    }

    async fn after(&self, call: &Call<'_>, _: &dyn InWords) -> Result<(), StoreError> {
        if self.1 == Defect::WritesWhatWasDroppedLater && call.io == Io::Checkpoint {
            let answered = self.2.answered.fetch_add(1, Ordering::Relaxed) + 1;
            if self.2.begun.load(Ordering::Relaxed) > answered {
                self.slip(2).await;
            }
        }
        Ok(())
    }
}

#[tokio::test]
#[should_panic(expected = "what was written is there after a restart")]
async fn a_bookkeeping_that_is_gone_after_a_restart_is_found() {
    handles::what_was_written_is_there_after_a_restart(&Books::new(Defect::KeepsEachHandleToItself)).await;
}

#[tokio::test]
#[should_panic(expected = "what one handle writes another reads")]
async fn a_bookkeeping_that_keeps_each_handle_to_itself_is_found() {
    handles::what_one_handle_writes_another_reads(&Books::new(Defect::KeepsEachHandleToItself)).await;
}

#[tokio::test]
#[should_panic(expected = "a lease taken by one handle fences another: renew")]
async fn a_bookkeeping_that_fences_one_handle_only_is_found() {
    handles::a_lease_taken_by_one_handle_fences_another(&Books::new(Defect::KeepsEachHandleToItself)).await;
}

#[tokio::test]
#[should_panic(expected = "nothing is written behind the back of a new owner")]
async fn a_bookkeeping_that_writes_before_it_looks_at_the_lease_is_found() {
    let books = Books::new(Defect::WritesBeforeItLooksAtTheLease);
    handles::nothing_is_written_behind_the_back_of_a_new_owner(&books).await;
}

#[tokio::test]
#[should_panic(expected = "a checkpoint without its witness")]
async fn a_bookkeeping_that_writes_in_two_steps_is_found() {
    handles::a_dropped_write_is_whole_or_not_there(&Books::new(Defect::WritesACheckpointInTwoSteps)).await;
}

#[tokio::test]
#[should_panic(expected = "keeping can be repeated: locked")]
async fn a_bookkeeping_that_a_dropped_call_locks_is_found() {
    handles::a_dropped_write_is_whole_or_not_there(&Books::new(Defect::StaysLockedByADroppedCall)).await;
}

#[tokio::test]
#[should_panic(expected = "a dropped write does not come after a later one")]
async fn a_bookkeeping_that_writes_what_was_dropped_later_is_found() {
    handles::a_dropped_write_does_not_come_after_a_later_one(&Books::new(Defect::WritesWhatWasDroppedLater)).await;
}

/// Runs the check of a former owner's writes against what carries out this one though it refuses it.
async fn fence(io: Io) {
    let books = Books::new(Defect::WritesWhatItRefuses(io));
    fencing::no_write_of_a_former_owner_takes_effect(books.open().await).await;
}

#[tokio::test]
#[should_panic(expected = "takes effect: note_claims was refused, and yet it changed something")]
async fn a_bookkeeping_that_notes_claims_that_it_refuses_is_found() {
    fence(Io::NoteClaims).await;
}

#[tokio::test]
#[should_panic(expected = "takes effect: note_replayed was refused, and yet it changed something")]
async fn a_bookkeeping_that_notes_a_replay_that_it_refuses_is_found() {
    fence(Io::NoteReplayed).await;
}

#[tokio::test]
#[should_panic(expected = "takes effect: note_health was refused, and yet it changed something")]
async fn a_bookkeeping_that_notes_health_that_it_refuses_is_found() {
    fence(Io::NoteHealth).await;
}

#[tokio::test]
#[should_panic(expected = "takes effect: keep, to park was refused, and yet it changed something")]
async fn a_bookkeeping_that_sorts_what_it_keeps_for_a_call_that_it_refuses_is_found() {
    fence(Io::Keep).await;
}
