//! Defining a relay.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Relay, RetentionPolicy, status::Status};
use crate::{
    bookkeeping::Operator,
    clock::{Clock, Entropy, System},
    error::StoreError,
    pipeline::Observed,
    route::RouteSettings,
    sink::Sink,
    source::{KeyOrder, Source},
    store::BusinessStore,
};

/// Why a relay cannot be built or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// A part that a relay needs was not given.
    #[error("a relay needs {0}: give it one")]
    Missing(&'static str),
    /// A part that does not fit.
    #[error("{0}")]
    Invalid(String),
    /// A store cannot be worked with.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// Everything a running relay works with.
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) holder: String,
    pub(super) source: Arc<dyn Source>,
    pub(super) store: Arc<dyn BusinessStore>,
    pub(super) bookkeeping: Arc<dyn Operator>,
    pub(super) routes: Vec<(RouteSettings, Arc<dyn Sink>)>,
    pub(super) failover: Duration,
    pub(super) drain_limit: Duration,
    pub(super) call_timeout: Duration,
    pub(super) checkpoint_after: Duration,
    pub(super) partitions_every: Duration,
    pub(super) stalled_after: Duration,
    /// How the source's order is watched; `None` if it promises it.
    pub(super) observed: Option<Observed>,
    pub(super) retention: RetentionPolicy,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) status: Arc<Status>,
}

/// Builds a [`Relay`].
pub struct RelayBuilder {
    name: String,
    holder: Option<String>,
    source: Option<Arc<dyn Source>>,
    store: Option<Arc<dyn BusinessStore>>,
    bookkeeping: Option<Arc<dyn Operator>>,
    routes: Vec<(RouteSettings, Arc<dyn Sink>)>,
    failover: Duration,
    drain_limit: Duration,
    call_timeout: Duration,
    checkpoint_after: Duration,
    partitions_every: Duration,
    stalled_after: Duration,
    missing_patience: Duration,
    retention: RetentionPolicy,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Default for RelayBuilder {
    fn default() -> Self {
        Self {
            name: "relay".to_owned(),
            holder: None,
            source: None,
            store: None,
            bookkeeping: None,
            routes: Vec::new(),
            failover: Duration::from_secs(10),
            drain_limit: Duration::from_secs(30),
            call_timeout: Duration::from_secs(60),
            checkpoint_after: Duration::from_millis(200),
            partitions_every: Duration::from_secs(60),
            stalled_after: Duration::from_secs(15 * 60),
            missing_patience: Observed::default().patience,
            retention: RetentionPolicy::Off,
            clock: Arc::new(System),
            entropy: Arc::new(System),
        }
    }
}

impl RelayBuilder {
    /// The lease's name: relays of one name stand in for each other. Default: `relay`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Who this relay says it is, for people. Default: the process id.
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.holder = Some(holder.into());
        self
    }

    /// Where entries are read.
    pub fn source(mut self, source: Arc<dyn Source>) -> Self {
        self.source = Some(source);
        self
    }

    /// The business store that the source reads.
    pub fn store(mut self, store: Arc<dyn BusinessStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Where the relay keeps its own state.
    pub fn bookkeeping(mut self, bookkeeping: Arc<dyn Operator>) -> Self {
        self.bookkeeping = Some(bookkeeping);
        self
    }

    /// A route and its sink; one or more.
    pub fn route(mut self, settings: RouteSettings, sink: Arc<dyn Sink>) -> Self {
        self.routes.push((settings, sink));
        self
    }

    /// How long a lease stands still before another relay takes over. Default: 10 s.
    pub fn failover(mut self, failover: Duration) -> Self {
        self.failover = failover;
        self
    }

    /// How long a shutdown waits for answers. Default: 30 s.
    pub fn drain_limit(mut self, limit: Duration) -> Self {
        self.drain_limit = limit;
        self
    }

    /// How long a call to a sink may take, whatever the sink's own limits. Default: 60 s.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// The longest time that progress goes without a checkpoint. Default: 200 ms.
    pub fn checkpoint_after(mut self, interval: Duration) -> Self {
        self.checkpoint_after = interval;
        self
    }

    /// How long a key waits for an entry that later ones follow and that is not in the table either, before it goes on
    /// without and an error says so. Only for a source whose key order is [`KeyOrder::Observed`]. Default: 60 s.
    pub fn missing_patience(mut self, patience: Duration) -> Self {
        self.missing_patience = patience;
        self
    }

    /// How often the source's partitions are listed again; besides, they are when one of them was read to its end.
    /// Default: 60 s.
    pub fn partitions_every(mut self, interval: Duration) -> Self {
        self.partitions_every = interval;
        self
    }

    /// After how long a partition that is closed and does not get on, or one that waits for those before it, is told of
    /// as stalled. Default: 15 minutes.
    pub fn stalled_after(mut self, limit: Duration) -> Self {
        self.stalled_after = limit;
        self
    }

    /// How long published entries are kept. Default: for ever.
    pub fn retention(mut self, retention: RetentionPolicy) -> Self {
        self.retention = retention;
        self
    }

    /// The clock. Default: the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The source of randomness. Default: the machine's.
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// # Errors
    /// [`RelayError`] names what is missing or does not fit.
    pub fn build(self) -> Result<Relay, RelayError> {
        let source = self.source.ok_or(RelayError::Missing("a source"))?;
        let observed = match source.key_order() {
            KeyOrder::Promised => None,
            KeyOrder::Observed => Some(Observed { patience: self.missing_patience, ..Observed::default() }),
            KeyOrder::None => {
                let message = "the source gives a key's entries in any order, and a relay needs one that keeps it or was \
                               never seen to break it: read the table's own stream";
                return Err(RelayError::Invalid(message.to_owned()));
            }
        };
        if self.routes.is_empty() {
            return Err(RelayError::Missing("at least one route"));
        }
        let mut names = BTreeSet::new();
        if let Some((twice, _)) = self.routes.iter().find(|(route, _)| !names.insert(route.name.clone())) {
            return Err(RelayError::Invalid(format!("two routes are named `{}`: rename one", twice.name)));
        }
        if self.failover < Duration::from_millis(100) {
            return Err(RelayError::Invalid("a failover time below 100 ms cannot be kept: raise it".to_owned()));
        }
        let status =
            Status::new(self.routes.iter().map(|(route, sink)| (route, route.duplicates_after_crash(&sink.limits()))));
        let parts = Parts {
            holder: self.holder.unwrap_or_else(|| format!("process {}", std::process::id())),
            name: self.name,
            source,
            observed,
            store: self.store.ok_or(RelayError::Missing("a business store"))?,
            bookkeeping: self.bookkeeping.ok_or(RelayError::Missing("a bookkeeping"))?,
            routes: self.routes,
            failover: self.failover,
            drain_limit: self.drain_limit,
            call_timeout: self.call_timeout,
            checkpoint_after: self.checkpoint_after,
            partitions_every: self.partitions_every,
            stalled_after: self.stalled_after,
            retention: self.retention,
            clock: self.clock,
            entropy: self.entropy,
            status: Arc::new(status),
        };
        Ok(Relay { parts: Arc::new(parts) })
    }
}
