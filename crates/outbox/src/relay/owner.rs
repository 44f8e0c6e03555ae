//! What the owner of a source does: claim the store, register the routes, run them, and stop them in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::JoinSet,
    time::{interval, timeout},
};

use super::{
    builder::Parts,
    claim,
    lease::{Guard, Renewal},
    listing::{self, Listed},
    metric, reader,
    readers::{Readers, Wanted},
    retention,
    route::{self, Plan},
    wake::Wake,
    watch,
};
use crate::{
    bookkeeping::{HealthState, RouteHealth},
    error::{ErrorKind, StoreError},
    route::{AfterDeadLetter, RouteName, RouteSettings},
    source::PartitionId,
    store::{Agreement, Registration},
};

mod operator;

/// How often the owner looks whether an operator changed something.
const OPERATOR_POLL: Duration = Duration::from_secs(1);

/// Why an owner stopped.
pub(super) enum Ended {
    /// It was asked to, and everything under way is settled.
    Drained,
    /// Another relay has taken over.
    LeaseLost,
}

/// What route tasks are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) drain: bool,
    pub(super) paused: BTreeSet<RouteName>,
    /// Rises when an operator changed something.
    pub(super) operator: u64,
}

struct Owner<'a> {
    parts: &'a Arc<Parts>,
    guard: &'a Guard,
    control: watch::Sender<Control>,
    routes: JoinSet<Result<(), StoreError>>,
    readers: Readers,
    listed: Listed,
    registrations: BTreeMap<RouteName, Registration>,
    /// The calls that each route's sink takes at the same time.
    calls: BTreeMap<RouteName, Arc<Semaphore>>,
    /// Which of an operator's changes were taken over last.
    operator: Option<u64>,
    /// Replays that have a task.
    replaying: BTreeSet<String>,
    /// Replays that are finished and keep nothing: nobody gives them anything to do any more.
    replayed: BTreeSet<String>,
}

pub(super) async fn run(
    parts: &Arc<Parts>,
    guard: &Guard,
    renewal: Renewal,
    shutdown: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> Result<Ended, StoreError> {
    let work = work(parts, guard, shutdown);
    let ended = tokio::select! {
        biased;
        () = guard.lost() => Ok(Ended::LeaseLost),
        ended = work => match ended {
            Err(error) if error.kind() == ErrorKind::Fenced => Ok(Ended::LeaseLost),
            other => other,
        },
    };
    drop(renewal);
    ended
}

async fn work(
    parts: &Arc<Parts>,
    guard: &Guard,
    mut shutdown: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> Result<Ended, StoreError> {
    let started = tokio::select! {
        biased;
        () = &mut shutdown => return Ok(Ended::Drained),
        started = start(parts, guard) => started?,
    };
    let Started { mut owner, mut reading, mut wanted, mut looking } = started;
    let wake = Arc::new(Wake::new(parts.source.clone()));
    let mut purging = JoinSet::new();
    purging.spawn(retention::run(parts.clone(), guard.clone()));
    let mut poll = interval(OPERATOR_POLL);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return owner.drain().await,
            Some(ended) = owner.routes.join_next() => finished(ended)?,
            Some(ended) = reading.join_next() => finished(ended)?,
            Some(ended) = purging.join_next() => finished(ended)?,
            Some(ended) = looking.join_next() => finished(ended)?,
            Some(Wanted { partition, requests }) = wanted.recv() => {
                reading.spawn(reader::run(parts.source.clone(), wake.clone(), partition, requests));
            }
            _ = poll.tick() => tokio::select! {
                biased;
                () = &mut shutdown => return owner.drain().await,
                looked = owner.look_at_operator() => looked?,
            },
        }
    }
}

/// An owner at work, and the tasks that read for it.
struct Started<'a> {
    owner: Owner<'a>,
    reading: JoinSet<Result<(), StoreError>>,
    /// Readers that are to be run.
    wanted: mpsc::UnboundedReceiver<Wanted>,
    /// What looks which partitions there are.
    looking: JoinSet<Result<(), StoreError>>,
}

async fn start<'a>(parts: &'a Arc<Parts>, guard: &'a Guard) -> Result<Started<'a>, StoreError> {
    claim::claim(parts, guard).await?;
    let listing = listing::look(parts).await?;
    let mut partitions: BTreeSet<PartitionId> = listing.iter().map(|partition| partition.id.clone()).collect();
    // What was read is told by those that are not listed any more, too: a stream that was made anew may have but one.
    for (settings, _) in &parts.routes {
        let checkpoints = parts.bookkeeping.checkpoints(&settings.name).await?;
        partitions.extend(checkpoints.into_iter().map(|checkpoint| checkpoint.partition));
    }
    for partition in &partitions {
        check_history(parts, partition).await?;
    }
    let registrations = register(parts).await?;
    let (readers, wanted) = Readers::new();
    let (listed, ended) = (watch::Sender::new(listing), Arc::new(Notify::new()));
    let listing = Listed { listing: listed.subscribe(), ended: ended.clone() };
    let mut looking = JoinSet::new();
    looking.spawn(listing::run(parts.clone(), listed, ended));
    let mut owner = Owner {
        parts,
        guard,
        control: watch::Sender::new(Control::default()),
        routes: JoinSet::new(),
        readers,
        listed: listing,
        registrations,
        calls: parts
            .routes
            .iter()
            .map(|(route, sink)| (route.name.clone(), Arc::new(Semaphore::new(sink.limits().max_calls.max(1)))))
            .collect(),
        operator: None,
        replaying: BTreeSet::new(),
        replayed: BTreeSet::new(),
    };
    // Not before it is known what is paused does anything go out.
    owner.take_over_changes().await?;
    owner.start_routes();
    check_sinks(parts);
    Ok(Started { owner, reading: JoinSet::new(), wanted, looking })
}

/// Notes for those who ask later why nothing goes out.
pub(super) async fn note_stop(parts: &Parts, guard: &Guard, error: &StoreError) {
    let state = HealthState::Stopped { reason: error.to_string() };
    let health = RouteHealth { state, since: parts.clock.wall() };
    for (settings, _) in &parts.routes {
        if let Err(error) = parts.bookkeeping.note_health(guard.lease(), &settings.name, &health).await {
            tracing::debug!(%error, "why the relay stopped could not be noted");
        }
    }
}

/// A task that panicked is a defect of ours: the relay stops rather than going on without it.
fn finished(ended: Result<Result<(), StoreError>, tokio::task::JoinError>) -> Result<(), StoreError> {
    ended.unwrap_or_else(|error| {
        Err(StoreError::new(ErrorKind::Invalid, "a task of the relay failed; please report it").because(error))
    })
}

/// Stops if the store holds another history than was read before.
async fn check_history(parts: &Parts, partition: &PartitionId) -> Result<(), StoreError> {
    let witnesses = parts.bookkeeping.witnesses(partition).await?;
    match parts.store.agreement(&witnesses).await? {
        Agreement::Whole => Ok(()),
        Agreement::Lost { agreed, lost, .. } => {
            let agreed = agreed.map_or_else(|| "nothing".to_owned(), |position| format!("position {position}"));
            let message = format!(
                "the business store is not the one that was read before: it agrees up to {agreed}, but what was read at \
                 position {lost} is not there any more. It was probably restored from a backup. Stop its writers and \
                 run `outbox adopt`"
            );
            Err(StoreError::new(ErrorKind::HistoryChanged, message))
        }
    }
}

/// Registers the configured routes, and names those that are registered and not configured.
async fn register(parts: &Parts) -> Result<BTreeMap<RouteName, Registration>, StoreError> {
    let known = parts.store.routes().await?;
    let mut registered = BTreeMap::new();
    for (settings, sink) in &parts.routes {
        let before = known.iter().find(|registration| registration.route == settings.name);
        let registration = Registration {
            route: settings.name.clone(),
            filter: settings.filter.clone(),
            start: settings.start,
            start_position: None,
            max_event_bytes: sink.limits().max_counted_bytes(),
            gapless: is_gapless(settings, before),
            registered: parts.clock.wall(),
        };
        registered.insert(settings.name.clone(), parts.store.register(registration).await?);
    }
    let unconfigured: Vec<_> = known.iter().filter(|known| !registered.contains_key(&known.route)).collect();
    for registration in &unconfigured {
        tracing::warn!(
            route = %registration.route,
            "registered in the store but not configured: its events wait and retention waits for it; configure it, or \
             run `outbox route rename` or `outbox route retire`"
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "there are few routes")]
    metrics::gauge!(metric::UNCONFIGURED_ROUTES).set(unconfigured.len() as f64);
    Ok(registered)
}

/// Whether the route takes every event of each key it takes. A changed filter ends that for good: the consumer has
/// gaps where the old filter had them.
fn is_gapless(settings: &RouteSettings, before: Option<&Registration>) -> bool {
    settings.filter.keeps_keys_whole()
        && settings.retry.after_dead_letter == AfterDeadLetter::Park
        && before.is_none_or(|before| before.gapless && before.filter == settings.filter)
}

/// Asks each sink whether its target is there, without waiting for it: a dead sink must not hold up the other routes.
fn check_sinks(parts: &Arc<Parts>) {
    for (settings, sink) in &parts.routes {
        let (route, sink) = (settings.name.clone(), sink.clone());
        tokio::spawn(async move {
            if let Err(error) = sink.check().await {
                tracing::warn!(%route, %error, "the sink does not take events now; its events wait");
            }
        });
    }
}

impl Owner<'_> {
    fn start_routes(&mut self) {
        for (settings, sink) in &self.parts.routes {
            let Some(registration) = self.registrations.get(&settings.name) else { continue };
            let Some(calls) = self.calls.get(&settings.name) else { continue };
            let plan = Plan::new(settings.clone(), sink.clone(), calls.clone(), registration.clone());
            self.start(plan);
        }
    }

    fn start(&mut self, plan: Plan) {
        let source = (self.readers.clone(), self.listed.clone());
        let task = route::run(self.parts.clone(), self.guard.clone(), plan, source, self.control.subscribe());
        self.routes.spawn(task);
    }

    /// Asks the routes to finish what is under way, and waits for them up to the limit.
    async fn drain(mut self) -> Result<Ended, StoreError> {
        self.control.send_modify(|control| control.drain = true);
        let all = async {
            while let Some(ended) = self.routes.join_next().await {
                finished(ended)?;
            }
            Ok(())
        };
        if let Ok(drained) = timeout(self.parts.drain_limit, all).await {
            drained?;
        } else {
            tracing::warn!("calls were still under way at the drain limit; their events may be published again");
        }
        Ok(Ended::Drained)
    }
}
