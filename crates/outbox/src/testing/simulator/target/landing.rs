//! A call that a relay had sent when it was made to stand still: it lands when the relay comes back, though nobody waits for
//! it any more.

use super::Target;
use crate::{clock::Moment, sink::Batch};

/// A call that is on its way.
pub(super) struct Landing {
    target: Target,
    batch: Option<Batch>,
    began: Moment,
}

impl Landing {
    pub(super) fn new(target: &Target, batch: &Batch, began: Moment) -> Self {
        Self { target: target.clone(), batch: Some(batch.clone()), began }
    }

    /// It got there, or came back.
    pub(super) fn arrived(mut self) {
        self.batch = None;
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        let (target, began) = (self.target.clone(), self.began);
        self.target.around.lands_later(move || target.land(&batch, began));
    }
}

impl Target {
    /// Takes a call that nobody waits for.
    fn land(&self, batch: &Batch, began: Moment) {
        self.world().note(|| format!("{}: a call lands that it no longer waits for", self.around.life.name));
        if self.outage().is_none() && self.bomb(batch).is_none() {
            self.world().excuse(self.route, &self.numbers(batch));
            self.take(batch, began, batch.events.len());
        }
    }
}
