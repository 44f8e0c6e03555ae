//! Who owns the source: taking the lease, renewing it, and knowing when it is gone.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::poll_immediate;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::builder::Parts;
use crate::{
    bookkeeping::{Lease, LeaseView},
    clock::{Clock, Moment},
    error::{ErrorKind, StoreError},
};

/// How often a standby says that the bookkeeping does not answer.
const COMPLAIN_AFTER: Duration = Duration::from_secs(30);

/// Tells whether this relay still owns the source. Asked before every effect.
#[derive(Clone)]
pub(super) struct Guard {
    lease: Lease,
    clock: Arc<dyn Clock>,
    /// Until when the last renewal holds, by our own clock, which counts suspended time.
    until: Arc<Mutex<Moment>>,
    lost: Arc<AtomicBool>,
    /// Told when the lease is lost, for those who wait.
    changed: Arc<watch::Sender<bool>>,
}

impl Guard {
    fn new(lease: Lease, clock: Arc<dyn Clock>, until: Moment) -> Self {
        Self {
            lease,
            clock,
            until: Arc::new(Mutex::new(until)),
            lost: Arc::default(),
            changed: Arc::new(watch::Sender::new(false)),
        }
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whether the lease is surely ours at this moment.
    pub(super) fn holds(&self) -> bool {
        !self.lost.load(Ordering::Acquire) && self.clock.moment() < *self.until()
    }

    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.changed.send_replace(true);
    }

    /// Ready once the lease is lost.
    pub(super) async fn lost(&self) {
        let mut changed = self.changed.subscribe();
        // The sender lives in this guard, so waiting cannot fail.
        let _ = changed.wait_for(|lost| *lost).await;
    }

    fn until(&self) -> std::sync::MutexGuard<'_, Moment> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lease just taken, and the task that renews it.
pub(super) struct Acquired {
    pub(super) guard: Guard,
    pub(super) renewal: Renewal,
}

/// Renews the lease until dropped.
pub(super) struct Renewal(tokio::task::JoinHandle<()>);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits until the lease can be taken, and takes it. A lease that its owner gave up is taken at once; one that is not
/// renewed, once it stood still for the failover time by our own clock. No wall clocks are compared. None once `shutdown` is
/// ready.
pub(super) async fn acquire(
    parts: &Arc<Parts>,
    mut shutdown: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> Result<Option<Acquired>, StoreError> {
    let pause = (parts.failover / 20).min(Duration::from_millis(250));
    let mut watched: Option<(LeaseView, Moment)> = None;
    let mut complained: Option<Moment> = None;
    loop {
        if poll_immediate(shutdown.as_mut()).await.is_some() {
            return Ok(None);
        }
        let mut taking = pin!(try_take(parts, &mut watched));
        let taken = tokio::select! {
            biased;
            taken = &mut taking => taken,
            () = shutdown.as_mut() => {
                give_back(parts, taking).await;
                return Ok(None);
            }
        };
        match taken {
            Ok(Some(guard)) => {
                let renewal = Renewal(tokio::spawn(renew(parts.clone(), guard.clone())));
                return Ok(Some(Acquired { guard, renewal }));
            }
            Ok(None) => {}
            Err(error) if error.kind().retry() => {
                let now = parts.clock.moment();
                if complained.is_none_or(|last| now.since(last) >= COMPLAIN_AFTER) {
                    complained = Some(now);
                    tracing::warn!(%error, "the lease cannot be taken now; trying again");
                }
            }
            Err(error) => return Err(error.context("taking the lease")),
        }
        tokio::select! {
            biased;
            () = shutdown.as_mut() => return Ok(None),
            () = sleep(pause) => {}
        }
    }
}

/// What was asked for when the relay is to stop may be granted all the same: a standby would wait for it.
async fn give_back(parts: &Parts, taking: impl Future<Output = Result<Option<Guard>, StoreError>>) {
    if let Ok(Ok(Some(guard))) = timeout(parts.failover, taking).await {
        release(parts, &guard).await;
    }
}

async fn try_take(parts: &Parts, watched: &mut Option<(LeaseView, Moment)>) -> Result<Option<Guard>, StoreError> {
    let view = parts.bookkeeping.lease(&parts.name).await?;
    // Taken behind the look, whose answer may have been long on its way, and its owner alive since: it stands still from here
    // on. And before it is taken: the lease holds from when it was asked for, at the latest.
    let now = parts.clock.moment();
    let free = view.epoch == 0 || view.released;
    let still_since = match watched {
        Some((seen, since)) if seen.epoch == view.epoch && seen.beat == view.beat => *since,
        _ => {
            *watched = Some((view.clone(), now));
            now
        }
    };
    if !free && now.since(still_since) < parts.failover.max(view.duration) {
        return Ok(None);
    }
    let taken = parts.bookkeeping.take(&parts.name, &view, &parts.holder, parts.failover).await?;
    Ok(taken.map(|lease| Guard::new(lease, parts.clock.clone(), now + parts.failover)))
}

async fn renew(parts: Arc<Parts>, guard: Guard) {
    loop {
        sleep(parts.failover / 3).await;
        let asked = parts.clock.moment();
        let left = guard.until().since(asked);
        match timeout(left, parts.bookkeeping.renew(guard.lease())).await {
            Ok(Ok(())) => *guard.until() = asked + parts.failover,
            Ok(Err(error)) if error.kind() == ErrorKind::Fenced => guard.lose(),
            Ok(Err(error)) => tracing::warn!(%error, "the lease could not be renewed"),
            Err(_) => tracing::warn!("the bookkeeping did not answer a renewal of the lease until it ended"),
        }
        if !guard.holds() {
            guard.lose();
            return;
        }
    }
}

/// Gives the lease up, so that a standby takes over at once.
pub(super) async fn release(parts: &Parts, guard: &Guard) {
    match timeout(parts.failover, parts.bookkeeping.release(guard.lease())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "the lease could not be released; a standby waits for the failover time");
        }
        Err(_) => tracing::warn!("the bookkeeping does not answer; a standby waits for the failover time"),
    }
}
