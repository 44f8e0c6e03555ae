//! Inbox stores with a defect.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use outbox::{
    ErrorKind, Event, InboxStore, StoreError,
    inbox::{
        Answer, Handler,
        memory::{MemoryInbox, MemoryTx},
    },
    inbox_store::Job,
    testing::conformance::inbox::{self, InboxUnderTest, Script},
};
use tokio::task::yield_now;

type Effects = Arc<Mutex<Vec<String>>>;

#[derive(Clone, Copy, PartialEq)]
enum Defect {
    KeepsEachHandleToItself,
    StaysLockedByADroppedCall,
    FoldsCase,
}

struct Bench {
    store: Store,
    defect: Defect,
    effects: Effects,
}

impl Bench {
    fn new(defect: Defect) -> Self {
        Self { store: Store(MemoryInbox::new(), defect, Arc::default()), defect, effects: Effects::default() }
    }
}

#[derive(Clone)]
struct Store(MemoryInbox<()>, Defect, Arc<AtomicBool>);

impl InboxStore for Store {
    type Tx<'t> = MemoryTx<'t, ()>;

    fn transact<J, O>(&self, job: J) -> impl Future<Output = Result<O, StoreError>> + Send
    where
        J: for<'t> Job<Self::Tx<'t>, Output = O>,
        O: Send + 'static,
    {
        let (locked, inner) = (self.2.clone(), self.0.clone());
        let defective = self.1 == Defect::StaysLockedByADroppedCall;
        async move {
            if defective {
                if locked.swap(true, Ordering::Relaxed) {
                    return Err(StoreError::new(ErrorKind::Unavailable, "locked"));
                }
                yield_now().await;
                locked.store(false, Ordering::Relaxed);
            }
            inner.transact(job).await
        }
    }
}

/// Writes its effect beside the transaction, which is no matter here: nothing is rolled back.
struct Beside(Effects, Script, Defect);

impl Handler<MemoryTx<'_, ()>> for Beside {
    async fn handle(&self, _: &mut MemoryTx<'_, ()>, event: &Event) -> Answer {
        let effect = Script::effect(event);
        let mut effects = self.0.lock().unwrap();
        let known = effects.iter().any(|known| known.to_lowercase() == effect.to_lowercase());
        if !(known && self.2 == Defect::FoldsCase) {
            effects.push(effect);
        }
        self.1.answer(event)
    }
}

impl InboxUnderTest for Bench {
    type Store = Store;
    type Handler = Beside;

    fn open(&self) -> Store {
        match self.defect {
            Defect::KeepsEachHandleToItself => Store(MemoryInbox::new(), self.defect, Arc::default()),
            Defect::StaysLockedByADroppedCall | Defect::FoldsCase => self.store.clone(),
        }
    }

    fn handler(&self, script: Script) -> Beside {
        Beside(self.effects.clone(), script, self.defect)
    }

    fn effects(&self) -> Vec<String> {
        self.effects.lock().unwrap().clone()
    }
}

#[tokio::test]
#[should_panic(expected = "two consumers apply each event once and in order")]
async fn an_inbox_that_keeps_each_handle_to_itself_is_found() {
    inbox::two_consumers_apply_each_event_once_and_in_order(&Bench::new(Defect::KeepsEachHandleToItself)).await;
}

#[tokio::test]
#[should_panic(expected = "a batch whose caller is gone is applied once: it can come again: locked")]
async fn an_inbox_that_a_dropped_call_locks_is_found() {
    inbox::a_batch_whose_caller_is_gone_is_applied_once(&Bench::new(Defect::StaysLockedByADroppedCall)).await;
}

#[tokio::test]
#[should_panic(expected = "keys that look alike are apart")]
async fn an_inbox_that_folds_the_case_of_keys_is_found() {
    inbox::in_order_keeps_keys_apart_that_look_alike(&Bench::new(Defect::FoldsCase)).await;
}

#[tokio::test]
#[should_panic(expected = "ids that look alike are apart")]
async fn an_inbox_that_folds_the_case_of_ids_is_found() {
    inbox::once_keeps_ids_apart_that_look_alike(&Bench::new(Defect::FoldsCase)).await;
}

#[tokio::test]
#[should_panic(expected = "left: [\"a@1.1.0\"]\n right: []")]
async fn an_inbox_whose_effects_are_on_another_connection_is_found() {
    inbox::a_failed_effect_leaves_nothing_but_its_record(&Bench::new(Defect::FoldsCase)).await;
}
