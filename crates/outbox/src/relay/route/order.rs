//! What a source does that was only ever seen to keep the order of a key: fetching what it left out, and saying so.

use std::sync::Arc;

use super::{StoreError, Task, jobs::Done};
use crate::{
    entry::Record,
    event::Key,
    pipeline::{self, Disorder, FetchId},
    place::Place,
    relay::metric,
};

impl Task {
    pub(super) fn fetch(&mut self, index: usize, fetch: FetchId, key: Key, sequences: Vec<u64>) {
        let source = self.parts.source.clone();
        self.jobs.spawn(async move {
            let result = source.fetch(&key, &sequences).await;
            Done::Fetched { index, fetch, result }
        });
    }

    pub(super) fn fetched(
        &mut self,
        index: usize,
        fetch: FetchId,
        result: Result<Vec<Option<Arc<Record>>>, StoreError>,
    ) -> Result<(), StoreError> {
        let input = match result {
            Ok(records) => {
                self.count_of_source(metric::SOURCE_FETCHED, records.iter().flatten().count() as u64);
                pipeline::Input::Fetched { fetch, records }
            }
            Err(error) if error.kind().retry() => {
                let route = &self.name;
                tracing::warn!(%route, %error, "an entry that the source left out cannot be read now; trying again");
                pipeline::Input::FetchFailed { fetch }
            }
            Err(error) => return Err(error.context("reading an entry that the source left out")),
        };
        self.pipeline_input(index, input)
    }

    pub(super) fn out_of_turn(&self, key: &Key, place: Place, disorder: Disorder) {
        match disorder {
            Disorder::Duplicate => self.count_of_source(metric::SOURCE_DUPLICATES, 1),
            Disorder::Inversion => {
                self.count_of_source(metric::SOURCE_INVERSIONS, 1);
                let route = &self.name;
                tracing::warn!(
                    %route, %key, %place,
                    "an entry came after later ones of its key; it may be out of order, and is published"
                );
            }
            Disorder::Leap => {
                self.count_of_source(metric::SOURCE_GAPS, 1);
                let route = &self.name;
                tracing::error!(
                    %route, %key, %place,
                    "an entry's number is far beyond that of the one before; it is published, and nothing between is \
                     waited for; look for who writes numbers of their own"
                );
            }
        }
    }

    pub(super) fn gap(&self, key: &Key, sequences: &[u64]) {
        self.count_of_source(metric::SOURCE_GAPS, sequences.len() as u64);
        let route = &self.name;
        tracing::error!(
            %route, %key, ?sequences,
            "entries are missing: neither the source nor its table has them, and later ones of the key go on; \
             look for what removed them"
        );
    }

    fn count_of_source(&self, name: &'static str, count: u64) {
        metrics::counter!(name, "route" => self.name.to_string()).increment(count);
    }
}
