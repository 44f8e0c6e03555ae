//! A relay whose stores and sink fail as a test says.

use std::sync::Arc;

use outbox::{
    Operator,
    memory::MemorySink,
    testing::{
        Hooked,
        faults::{FaultyBookkeeping, FaultySink, SinkFaults, StoreFaults},
    },
};

use crate::{
    logged::Logged,
    rig::{Rig, Running, run, settings},
};

/// A relay whose bookkeeping and sink fail as their scripts say, and the log of what it did to the bookkeeping.
pub(crate) struct Frail {
    pub(crate) relay: Running,
    pub(crate) store: StoreFaults,
    pub(crate) sink: SinkFaults,
    pub(crate) done: Logged,
}

/// The same relay, running.
pub(crate) fn frail(rig: &Rig, sink: &Arc<MemorySink>) -> Frail {
    let (store, sink_faults, done) = (StoreFaults::default(), SinkFaults::default(), Logged::default());
    let logged = Hooked::new(rig.bookkeeping.clone() as Arc<dyn Operator>, done.clone());
    let bookkeeping = Arc::new(FaultyBookkeeping::new(Arc::new(logged), store.clone()));
    let faulty = Arc::new(FaultySink::new(sink.clone(), sink_faults.clone()));
    let relay = run(rig.relay().bookkeeping(bookkeeping).route(settings("all"), faulty));
    Frail { relay, store, sink: sink_faults, done }
}
