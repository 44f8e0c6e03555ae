//! The consumer's store, with everything that can go wrong around it.

use std::{
    future::{Future, pending},
    sync::Arc,
};

use super::{
    super::{fault::Fault, process::Life, schedule::PassFault, world::World},
    effects::{self, Effects},
    letters,
};
use crate::{
    error::{ErrorKind, StoreError},
    inbox::memory::{MemoryInbox, MemoryTx},
    inbox_store::{InboxStore, Job},
};

/// The store as one life of the consumer has it.
#[derive(Clone)]
pub(super) struct Store {
    pub(super) world: Arc<World>,
    pub(super) life: Arc<Life>,
}

impl Store {
    fn strike(&self, before: bool) -> Option<PassFault> {
        let mut state = self.world.state();
        if state.healed {
            return None;
        }
        let (skip, fault) = state.armed.passes.first_mut()?;
        if before && *skip > 0 {
            *skip -= 1;
            return None;
        }
        if *skip > 0 || before == matches!(fault, PassFault::KilledAfter | PassFault::AnswerLost) {
            return None;
        }
        let fault = *fault;
        state.armed.passes.remove(0);
        state.consumer.is_disturbed(self.world.now());
        state.strikes(match fault {
            PassFault::KilledBefore => Fault::ConsumerKilledBefore,
            PassFault::KilledAfter => Fault::ConsumerKilledAfter,
            PassFault::Fails => Fault::InboxFails,
            PassFault::AnswerLost => Fault::InboxAnswerLost,
        });
        Some(fault)
    }

    async fn before(&self) -> Result<(), StoreError> {
        let Some(fault) = self.strike(true) else { return Ok(()) };
        self.world.note(|| format!("{}: {fault}", self.life.name));
        match fault {
            PassFault::KilledBefore => self.die().await,
            PassFault::Fails => Err(StoreError::new(ErrorKind::Unavailable, "simulated: not now")),
            PassFault::KilledAfter | PassFault::AnswerLost => Ok(()),
        }
    }

    async fn after(&self) -> Result<(), StoreError> {
        let Some(fault) = self.strike(false) else { return Ok(()) };
        self.world.note(|| format!("{}: {fault}", self.life.name));
        match fault {
            PassFault::KilledAfter => self.die().await,
            PassFault::AnswerLost => {
                Err(StoreError::new(ErrorKind::Unavailable, "simulated: the answer was lost").uncertain())
            }
            PassFault::KilledBefore | PassFault::Fails => Ok(()),
        }
    }

    async fn die(&self) -> ! {
        self.life.kill();
        pending().await
    }
}

impl InboxStore for Store {
    type Tx<'t> = MemoryTx<'t, Effects>;

    fn transact<J, O>(&self, job: J) -> impl Future<Output = Result<O, StoreError>> + Send
    where
        J: for<'t> Job<Self::Tx<'t>, Output = O>,
        O: Send + 'static,
    {
        let store = self.clone();
        async move {
            let inbox: &MemoryInbox<Effects> = &store.world.inbox;
            // Tasks of a life that is over go on in this process, and must do nothing any more.
            store.life.alive().await;
            store.before().await?;
            let done = inbox.transact(job).await;
            effects::look(&store.world);
            letters::look(&store.world, done.is_ok());
            store.after().await?;
            done
        }
    }
}
