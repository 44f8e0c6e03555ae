//! Telling the pipelines what was discarded, so that what they read again of it does not go out.

use std::time::Duration;

use super::Task;
use crate::{
    bookkeeping::{Bookkeeping, Tombstone},
    error::StoreError,
    pipeline,
    relay::lease::Guard,
    route::RouteName,
};

/// The pause before another try to read tombstones.
const AGAIN: Duration = Duration::from_millis(200);

/// The route's tombstones, however long the store takes to answer; none once the lease is lost.
pub(super) async fn tombstones(
    bookkeeping: &dyn Bookkeeping,
    guard: &Guard,
    route: &RouteName,
) -> Result<Vec<Tombstone>, StoreError> {
    while guard.holds() {
        match bookkeeping.tombstones(route).await {
            Err(error) if error.kind().retry() => tokio::time::sleep(AGAIN).await,
            result => return result,
        }
    }
    Ok(Vec::new())
}

impl Task {
    /// Before their lanes are released, every pipeline knows what was discarded: one may have begun before it.
    pub(super) fn tell_of_discarded(&mut self, buried: Vec<Tombstone>) -> Result<(), StoreError> {
        if buried.is_empty() {
            return Ok(());
        }
        for index in self.partitions.numbers() {
            let Some(progress) = self.partitions.get(index) else { continue };
            let here = buried.iter().filter(|(_, partition, _)| *partition == progress.partition);
            let tombstones = here.map(|(id, _, position)| (id.clone(), position.clone())).collect();
            self.pipeline_input(index, pipeline::Input::Discarded { tombstones })?;
        }
        self.buried = buried;
        Ok(())
    }
}
