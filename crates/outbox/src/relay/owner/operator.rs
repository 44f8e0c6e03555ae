//! What an operator changed, as the owner takes it over: pauses, redrives, replays.

use super::{Control, Owner, Plan};
use crate::{bookkeeping::Replay, error::StoreError};

impl Owner<'_> {
    /// Takes over what an operator changed. What cannot be read now is looked at again at the next poll, and until then
    /// nothing of it is taken over.
    pub(super) async fn look_at_operator(&mut self) -> Result<(), StoreError> {
        match self.take_over_changes().await {
            Err(error) if error.kind().retry() => {
                tracing::warn!(%error, "what an operator changed cannot be read now; looking again soon");
                Ok(())
            }
            looked => looked,
        }
    }

    /// The same where nothing may begin before it is known.
    pub(super) async fn take_over_changes(&mut self) -> Result<(), StoreError> {
        let version = self.parts.bookkeeping.operator_changes().await?;
        if self.operator == Some(version) {
            return Ok(());
        }
        let paused = self.parts.bookkeeping.paused().await?.into_iter().collect();
        let replays = self.replays_to_start().await?;
        self.operator = Some(version);
        self.control.send_if_modified(|control| {
            let changed = Control { operator: version, paused, drain: control.drain };
            let differs = *control != changed;
            *control = changed;
            differs
        });
        for replay in replays {
            self.start_replay(replay);
        }
        Ok(())
    }

    /// Replays without a task that have something to do. Once finished, one lives on only for what it keeps.
    async fn replays_to_start(&mut self) -> Result<Vec<Replay>, StoreError> {
        let mut replays = self.parts.bookkeeping.replays().await?;
        replays.retain(|replay| {
            !(self.replaying.contains(&replay.id) || replay.finished && self.replayed.contains(&replay.id))
        });
        let mut to_start = Vec::new();
        for replay in replays {
            let name = replay.route.replay(&replay.id);
            if replay.finished && self.parts.bookkeeping.kept_counts(&name).await?.lanes == 0 {
                self.replayed.insert(replay.id);
            } else {
                to_start.push(replay);
            }
        }
        Ok(to_start)
    }

    /// A replay is a temporary route with a bounded range.
    fn start_replay(&mut self, replay: Replay) {
        let Some((settings, sink)) = self.parts.routes.iter().find(|(settings, _)| settings.name == replay.route)
        else {
            tracing::warn!(route = %replay.route, replay = %replay.id, "a replay waits for a route that is not configured");
            return;
        };
        let Some(registration) = self.registrations.get(&replay.route) else { return };
        let Some(calls) = self.calls.get(&replay.route) else { return };
        self.replaying.insert(replay.id.clone());
        let plan = Plan::replay(settings.clone(), sink.clone(), calls.clone(), registration.clone(), replay);
        self.start(plan);
    }
}
