//! Failures that may pass, and failures that do not: told apart by name.

use std::sync::Arc;

use outbox::{
    ErrorKind, Operator,
    memory::MemorySink,
    testing::{
        Io,
        faults::{FaultyBookkeeping, StoreFault, StoreFaults},
    },
};

use crate::rig::{Rig, run, settings};

const KINDS: [ErrorKind; 9] = [
    ErrorKind::Unavailable,
    ErrorKind::Full,
    ErrorKind::Fenced,
    ErrorKind::HistoryChanged,
    ErrorKind::Trimmed,
    ErrorKind::Ownership,
    ErrorKind::Incompatible,
    ErrorKind::NotPermitted,
    ErrorKind::Invalid,
];

/// Whether a relay goes on by itself after a failure of this kind. Names every kind, so that a new one is thought about.
fn goes_on(kind: ErrorKind) -> bool {
    match kind {
        // The last one stands by, and takes over again if nobody else has.
        ErrorKind::Unavailable | ErrorKind::Full | ErrorKind::Fenced => true,
        ErrorKind::HistoryChanged
        | ErrorKind::Trimmed
        | ErrorKind::Ownership
        | ErrorKind::Incompatible
        | ErrorKind::NotPermitted
        | ErrorKind::Invalid => false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_may_pass_is_never_taken_for_one_that_does_not_nor_the_other_way_round() {
    for (io, kind) in [Io::Read, Io::Checkpoint].into_iter().flat_map(|io| KINDS.map(|kind| (io, kind))) {
        let rig = Rig::new();
        rig.write(3, 3);
        let (sink, faults) = (Arc::<MemorySink>::default(), StoreFaults::default());
        faults.once(io, StoreFault::Fail(kind));
        let store = Arc::new(rig.store.reopen());
        let bookkeeping: Arc<dyn Operator> = rig.bookkeeping.clone();
        let relay = rig
            .relay()
            .source(Arc::new(outbox::testing::faults::FaultySource::new(store.clone(), faults.clone())))
            .store(store)
            .bookkeeping(Arc::new(FaultyBookkeeping::new(bookkeeping, faults.clone())))
            .route(settings("main"), sink.clone());
        let relay = run(relay);
        if goes_on(kind) {
            rig.caught_up().await;
            relay.stop().await;
            assert!(sink.ids().len() >= 9, "{io:?} {kind:?}");
        } else {
            let error = relay.end().await.expect_err("it stops");
            assert!(error.to_string().contains("scripted failure"), "{io:?} {kind:?}: {error}");
        }
        assert_eq!(faults.pending(), 0, "{io:?} {kind:?}: it took place");
        assert_eq!(sink.breaches(), Vec::<String>::new(), "{io:?} {kind:?}");
    }
}
