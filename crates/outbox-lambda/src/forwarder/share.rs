//! The lease that all forwarders of a route share: none of them owns anything, and each proves with every write that nobody
//! has taken the route away from them.

use std::time::Duration;

use outbox::{ErrorKind, Operator, RouteName, StoreError, bookkeeping::Lease};
use tokio::sync::Mutex;

/// How often somebody else may be faster in taking it.
const TRIES: usize = 10;

/// The lease of a route's forwarders, as this process knows it.
pub(crate) struct Share {
    name: String,
    known: Mutex<Option<Lease>>,
}

impl Share {
    pub(crate) fn new(route: &RouteName) -> Self {
        Self { name: format!("forwarder/{route}"), known: Mutex::default() }
    }

    /// The lease: that which the forwarders have, or a new one if there is none.
    pub(crate) async fn lease(&self, bookkeeping: &dyn Operator) -> Result<Lease, StoreError> {
        let mut known = self.known.lock().await;
        if let Some(lease) = &*known {
            return Ok(lease.clone());
        }
        for _ in 0..TRIES {
            let view = bookkeeping.lease(&self.name).await?;
            if view.epoch > 0 && !view.released {
                let lease = Lease { name: self.name.clone(), epoch: view.epoch };
                return Ok(known.insert(lease).clone());
            }
            let taken = bookkeeping.take(&self.name, &view, "the forwarders of the route", Duration::ZERO).await?;
            if let Some(lease) = taken {
                return Ok(known.insert(lease).clone());
            }
        }
        let message = "the forwarders' lease could not be taken: others were faster each time";
        Err(StoreError::new(ErrorKind::Unavailable, message))
    }

    /// The lease was refused: it is looked at again.
    pub(crate) async fn forget(&self) {
        *self.known.lock().await = None;
    }
}
