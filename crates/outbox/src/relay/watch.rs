//! A value that several tasks watch.
//!
//! As [`tokio::sync::watch`], of which it has what a relay needs, but that those who wait are woken in the order in which
//! they came: there, chance decides, and the same relay in the same simulated world would not do the same twice.

use std::{
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

struct Shared<T> {
    value: Mutex<Versioned<T>>,
    changed: Notify,
    closed: AtomicBool,
}

struct Versioned<T> {
    value: T,
    version: u64,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Versioned<T>> {
        // Each change is whole before the lock is released.
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes the value. Dropped, it tells those who wait that no change will come.
pub(super) struct Sender<T>(Arc<Shared<T>>);

/// Watches the value.
pub(super) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version that was seen last.
    seen: u64,
}

/// The value, which nobody changes meanwhile.
pub(super) struct Ref<'a, T>(MutexGuard<'a, Versioned<T>>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

/// No change will come.
#[derive(Debug)]
pub(super) struct Closed;

impl<T> Sender<T> {
    pub(super) fn new(value: T) -> Self {
        let value = Mutex::new(Versioned { value, version: 1 });
        Self(Arc::new(Shared { value, changed: Notify::new(), closed: AtomicBool::new(false) }))
    }

    /// Somebody who has seen the value as it is now.
    pub(super) fn subscribe(&self) -> Receiver<T> {
        Receiver { shared: self.0.clone(), seen: self.0.lock().version }
    }

    pub(super) fn borrow(&self) -> Ref<'_, T> {
        Ref(self.0.lock())
    }

    pub(super) fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            change(value);
            true
        });
    }

    /// Changes the value, and tells those who watch if `change` says so.
    pub(super) fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) {
        let mut value = self.0.lock();
        if change(&mut value.value) {
            value.version += 1;
            drop(value);
            self.0.changed.notify_waiters();
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), seen: self.seen }
    }
}

impl<T> Receiver<T> {
    pub(super) fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.lock())
    }

    /// The value, which counts as seen.
    pub(super) fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.lock();
        self.seen = value.version;
        Ref(value)
    }

    /// The value counts as not seen.
    pub(super) fn mark_changed(&mut self) {
        self.seen = 0;
    }

    /// Waits until the value is another than the one seen last, which counts as seen then. *Cancellation*: safe.
    ///
    /// # Errors
    /// [`Closed`] if there is nobody any more who could change it.
    pub(super) async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            // Listened for before it is looked, so that no change falls between the two.
            let changed = self.shared.changed.notified();
            let version = self.shared.lock().version;
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if self.shared.closed.load(Ordering::Acquire) {
                return Err(Closed);
            }
            changed.await;
        }
    }

    /// Waits until the value is as `is_met` wants it.
    ///
    /// # Errors
    /// [`Closed`] if it is not, and there is nobody any more who could change it.
    pub(super) async fn wait_for(&mut self, mut is_met: impl FnMut(&T) -> bool) -> Result<(), Closed> {
        loop {
            if is_met(&self.borrow_and_update()) {
                return Ok(());
            }
            self.changed().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::Sender;

    #[tokio::test]
    async fn a_change_is_seen_once_by_each_who_watches() {
        let sender = Sender::new(1);
        let (mut one, mut other) = (sender.subscribe(), sender.subscribe());
        assert!(one.changed().now_or_never().is_none());
        sender.send_modify(|value| *value = 2);
        assert!(one.changed().await.is_ok() && other.changed().await.is_ok());
        assert_eq!(*one.borrow(), 2);
        assert!(one.changed().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_change_that_is_none_wakes_nobody() {
        let sender = Sender::new(1);
        let mut watching = sender.subscribe();
        sender.send_if_modified(|_| false);
        assert!(watching.changed().now_or_never().is_none());
    }

    #[tokio::test]
    async fn who_waits_is_told_when_no_change_can_come() {
        let sender = Sender::new(1);
        let mut watching = sender.subscribe();
        let waiting = tokio::spawn(async move { watching.wait_for(|value| *value == 9).await });
        tokio::task::yield_now().await;
        drop(sender);
        assert!(waiting.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn those_who_wait_are_woken_in_the_order_in_which_they_came() {
        let sender = Sender::new(0);
        let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..20 {
            let (mut watching, told) = (sender.subscribe(), told.clone());
            tokio::spawn(async move {
                let _ = watching.changed().await;
                let _ = told.send(number);
            });
        }
        tokio::task::yield_now().await;
        sender.send_modify(|value| *value += 1);
        for number in 0..20 {
            assert_eq!(order.recv().await, Some(number));
        }
    }
}
