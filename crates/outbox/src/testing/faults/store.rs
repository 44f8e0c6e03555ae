//! Faults of stores: bookkeeping, source, business store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::super::{
    hold::Hold,
    hooked::{Call, Hook, Hooked, InWords},
    io::Io,
};
use crate::{
    bookkeeping::Operator,
    error::{ErrorKind, StoreError},
    source::Source,
    store::BusinessStore,
};

/// A bookkeeping that fails as its script says.
pub type FaultyBookkeeping = Hooked<dyn Operator, StoreFaults>;
/// A source that fails as its script says.
pub type FaultySource = Hooked<dyn Source, StoreFaults>;
/// A business store that fails as its script says.
pub type FaultyStore = Hooked<dyn BusinessStore, StoreFaults>;

/// What goes wrong with one call of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// It fails with an error of this kind, and nothing takes effect.
    Fail(ErrorKind),
    /// It takes effect, and its answer is lost: an uncertain error.
    LoseAnswer,
    /// It hangs before it takes effect, until [`StoreFaults::release`].
    Hang,
}

/// Which faults happen at which I/O of a store. A handle: clones share the script.
#[derive(Clone, Debug, Default)]
pub struct StoreFaults(Arc<Script>);

#[derive(Debug, Default)]
struct Script {
    scripted: Mutex<Vec<Scripted>>,
    hold: Hold,
}

#[derive(Clone, Copy, Debug)]
struct Scripted {
    io: Io,
    fault: StoreFault,
    once: bool,
}

impl StoreFaults {
    /// The next call of `io` that has no earlier fault suffers this one.
    pub fn once(&self, io: Io, fault: StoreFault) {
        self.scripted().push(Scripted { io, fault, once: true });
    }

    /// Every call of `io` suffers this fault, until [`mend`](Self::mend).
    pub fn always(&self, io: Io, fault: StoreFault) {
        self.scripted().push(Scripted { io, fault, once: false });
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

    fn scripted(&self) -> MutexGuard<'_, Vec<Scripted>> {
        self.0.scripted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next fault of `io`, if it is one that strikes at this point of the call.
    fn strike(&self, io: Io, strikes_now: impl Fn(StoreFault) -> bool) -> Option<StoreFault> {
        let mut scripted = self.scripted();
        let index = scripted.iter().position(|scripted| scripted.io == io)?;
        let found = scripted[index];
        if !strikes_now(found.fault) {
            return None;
        }
        if found.once {
            scripted.remove(index);
        }
        Some(found.fault)
    }
}

#[async_trait]
impl Hook for StoreFaults {
    async fn before(&self, call: &Call<'_>) -> Result<(), StoreError> {
        let io = call.io;
        let fault = self.strike(io, |fault| fault != StoreFault::LoseAnswer);
        match fault {
            Some(StoreFault::Fail(kind)) => Err(StoreError::new(kind, format!("scripted failure of {io:?}"))),
            Some(StoreFault::Hang) => {
                self.0.hold.hang().await;
                Ok(())
            }
            Some(StoreFault::LoseAnswer) | None => Ok(()),
        }
    }

    async fn after(&self, call: &Call<'_>, _: &dyn InWords) -> Result<(), StoreError> {
        let io = call.io;
        match self.strike(io, |fault| fault == StoreFault::LoseAnswer) {
            Some(_) => {
                let message = format!("scripted loss of the answer of {io:?}");
                Err(StoreError::new(ErrorKind::Unavailable, message).uncertain())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bookkeeping::Bookkeeping,
        memory::{MemoryBookkeeping, SeededEntropy},
        route::RouteName,
    };

    fn faulty() -> (Arc<MemoryBookkeeping>, FaultyBookkeeping, StoreFaults) {
        let inner = Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(1)));
        let faults = StoreFaults::default();
        (inner.clone(), FaultyBookkeeping::new(inner, faults.clone()), faults)
    }

    #[tokio::test]
    async fn a_scripted_failure_takes_no_effect_and_a_lost_answer_does() {
        let (inner, bookkeeping, faults) = faulty();
        let route = RouteName::new("a").unwrap();
        faults.once(Io::Pause, StoreFault::Fail(ErrorKind::Full));
        faults.once(Io::Pause, StoreFault::LoseAnswer);
        let failed = bookkeeping.pause(&route, true).await.unwrap_err();
        assert_eq!((failed.kind(), failed.is_uncertain()), (ErrorKind::Full, false));
        assert_eq!(inner.paused().await.unwrap(), []);
        assert!(bookkeeping.pause(&route, true).await.unwrap_err().is_uncertain());
        assert_eq!(inner.paused().await.unwrap(), [route]);
        assert_eq!(faults.pending(), 0);
    }

    #[tokio::test]
    async fn a_hanging_call_goes_on_when_it_is_released() {
        let (_, bookkeeping, faults) = faulty();
        faults.once(Io::Id, StoreFault::Hang);
        let call = tokio::spawn(async move { bookkeeping.id().await });
        faults.hanging_at_least(1).await;
        assert!(!call.is_finished());
        faults.release();
        call.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_standing_fault_lasts_until_it_is_mended() {
        let (_, bookkeeping, faults) = faulty();
        faults.always(Io::Id, StoreFault::Fail(ErrorKind::Unavailable));
        bookkeeping.id().await.unwrap_err();
        bookkeeping.id().await.unwrap_err();
        faults.mend();
        bookkeeping.id().await.unwrap();
    }
}
