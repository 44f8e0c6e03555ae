//! Reading one shard on from one place: an iterator, and what came with it and was not handed out yet.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::Duration,
};

use aws_sdk_dynamodbstreams::{operation::get_records::GetRecordsOutput, types::Record as StreamRecord};
use outbox::{Content, ErrorKind, Moment, Page, Position, Record, StoreError, source::Limit};

use super::{
    SLACK,
    iterator::{Asked, Got},
    pace,
    place::{InShard, SequenceNumber, Skip},
    seconds,
    shards::Known,
};
use crate::dynamodb::entry::Change;

/// A page of so many records, or bytes as the service counts them, was full: the next one may hold more.
///
/// Rule: `GetRecords` of the API reference, 1,000 records or 1 MB.
const FULL_RECORDS: usize = 1000;
const FULL_BYTES: i64 = 900 * 1024;
/// Empty pages in a row that are passed without a pause: behind a new iterator, and in a shard that is closed, records may
/// come after some.
const EMPTY_PAGES: u32 = 4;
/// The pause between those.
const BETWEEN: Duration = Duration::from_millis(20);
/// So many iterators in a row may have expired before they are used.
const EXPIRED: usize = 3;
/// So often is it said that clocks are far apart.
const TELL_SKEW: Duration = Duration::from_mins(10);

/// A place in a shard, and what is known of what comes behind it.
pub(super) struct Line {
    /// Behind what was handed out.
    pub(super) place: InShard,
    /// What was fetched, each with the place behind it.
    pub(super) buffer: VecDeque<(InShard, Arc<Record>)>,
    /// Nothing behind was created before this second.
    proven: i64,
    /// What is still passed over.
    skip: Option<Skip>,
    /// The next page's iterator.
    iterator: Option<String>,
    /// There is no next page.
    closed: bool,
    /// The last page was full.
    full: bool,
    /// Behind the last record that was passed over, if that is further than the last one that was kept.
    passed: Option<InShard>,
    /// When the last request was made, and since when nothing came.
    asked: Option<Moment>,
    quiet_since: Moment,
}

impl Line {
    pub(super) fn at(place: InShard, now: Moment) -> Self {
        Self {
            proven: place.since,
            skip: place.skip,
            place,
            buffer: VecDeque::new(),
            iterator: None,
            closed: false,
            full: false,
            passed: None,
            asked: None,
            quiet_since: now,
        }
    }

    /// Whether the end was reached, with nothing left to hand out.
    pub(super) fn is_at_end(&self) -> bool {
        self.closed && self.buffer.is_empty()
    }

    /// Whether more may come at once.
    pub(super) fn has_more(&self) -> bool {
        !self.buffer.is_empty() || (self.full && !self.closed)
    }

    /// Fetches until there is something to hand out, or nothing more comes for now.
    pub(super) async fn fill(&mut self, asked: &Asked<'_>, known: &mut Known) -> Result<(), StoreError> {
        let mut empty = 0;
        let mut at_once = asked.is_closed || self.iterator.is_none();
        while self.buffer.is_empty() && !self.closed {
            let page = self.page(asked, empty > 0 || at_once).await?;
            let now = asked.inner.calls.clock.moment();
            let found = page.records.as_ref().is_some_and(|records| !records.is_empty());
            self.take_in(asked, page, known)?;
            if found {
                (self.quiet_since, empty) = (now, 0);
                asked.inner.note_activity();
            } else {
                empty += 1;
                at_once &= empty < EMPTY_PAGES;
            }
            if self.buffer.is_empty() && !self.closed && !self.full {
                if !at_once {
                    break;
                }
                tokio::time::sleep(BETWEEN).await;
            }
        }
        Ok(())
    }

    /// The next page. A shard that is quiet is asked no sooner than its pause allows, unless `at_once`.
    async fn page(&mut self, asked: &Asked<'_>, at_once: bool) -> Result<GetRecordsOutput, StoreError> {
        let clock = &asked.inner.calls.clock;
        if let Some(last) = self.asked.filter(|_| !at_once && !self.full) {
            let due = pace::pause(last.since(self.quiet_since));
            tokio::time::sleep(due.saturating_sub(clock.moment().since(last))).await;
        }
        for _ in 0..EXPIRED {
            let iterator = if let Some(iterator) = &self.iterator {
                iterator.clone()
            } else {
                let place = self.passed.as_ref().unwrap_or(&self.place);
                let iterator = asked.iterator(place, self.proven).await?;
                // Whoever lost the store hands out nothing more.
                asked.inner.store.claimed().check().await?;
                self.iterator.insert(iterator).clone()
            };
            self.asked = Some(clock.moment());
            match asked.records(&iterator).await? {
                Got::Page(page) => return Ok(page),
                Got::Expired => self.iterator = None,
            }
        }
        let message = format!("each iterator of `{}` had expired when it was used", asked.partition);
        Err(StoreError::new(ErrorKind::Unavailable, message))
    }

    fn take_in(&mut self, asked: &Asked<'_>, page: GetRecordsOutput, known: &mut Known) -> Result<(), StoreError> {
        let now = asked.inner.now();
        self.iterator = page.next_shard_iterator;
        self.closed = self.iterator.is_none();
        let records = page.records.unwrap_or_default();
        let bytes: i64 = records.iter().filter_map(|record| record.dynamodb.as_ref()?.size_bytes).sum();
        self.full = records.len() >= FULL_RECORDS || bytes >= FULL_BYTES;
        let empty = records.is_empty();
        for record in records {
            self.take(asked, record)?;
        }
        let last = self.passed.as_ref().or(self.buffer.back().map(|(place, _)| place));
        known.since = known.since.max(Some(self.proven)).max(last.map(|place| place.since));
        known.quiet_at = None;
        // Of a closed shard an empty page says nothing: records may come behind it.
        if empty && !self.closed && !asked.is_closed {
            // What comes from now on is created from now on, but for what is on its way.
            known.since = known.since.max(Some(now));
            self.proven = self.proven.max(now);
            known.quiet_at = Some((self.place.clone(), asked.inner.calls.clock.moment()));
        }
        Ok(())
    }

    fn take(&mut self, asked: &Asked<'_>, record: StreamRecord) -> Result<(), StoreError> {
        let change = Change::from(record);
        let number = SequenceNumber::parse(&change.sequence_number).ok_or_else(|| asked.without_number())?;
        let last = self.buffer.back().map_or(&self.place, |(place, _)| place);
        let last = self.passed.as_ref().unwrap_or(last);
        let since = change.created.unwrap_or(last.since);
        // A position never goes back, whatever the service does.
        let number = last.after.clone().filter(|last| *last > number).unwrap_or(number);
        let mut place = InShard { after: Some(number), since, skip: None };
        let entry = asked.inner.reader.change(&change, &place.to_string());
        let says_time = !asked.inner.is_timeless();
        if let Some(entry) = entry.filter(|entry| is_wanted(self.skip, entry, since, says_time)) {
            asked.note_skew(&entry, since);
            (self.skip, self.passed) = (None, None);
            self.buffer.push_back((place, Arc::new(entry)));
        } else {
            place.skip = self.skip;
            self.passed = Some(place);
        }
        Ok(())
    }

    /// What was fetched, as much as `limit` allows; `after` is the position that it was asked for.
    pub(super) fn hand_out(&mut self, after: &Position, limit: Limit) -> Page {
        let mut records = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        while let Some((place, record)) = self.buffer.front() {
            events += record.len();
            bytes += record.weight();
            if !records.is_empty() && (events > limit.events || bytes > limit.bytes) {
                break;
            }
            self.place = place.clone();
            records.push(record.clone());
            self.buffer.pop_front();
        }
        let next = match records.last() {
            Some(last) => last.position.clone(),
            None => self.next_of_nothing(after),
        };
        let end = self.is_at_end();
        Page { next, more: !end && self.has_more(), end, records }
    }

    /// Where to go on though nothing came. Nothing that is no entry is worth a checkpoint, but at the shard's end: what follows
    /// it was created behind its last record, and behind the last time at which it was seen to be open.
    fn next_of_nothing(&mut self, after: &Position) -> Position {
        if !self.closed {
            return after.clone();
        }
        let name = if self.passed.is_some() { "" } else { after.record() };
        self.place = self.passed.take().unwrap_or_else(|| self.place.clone());
        self.place.since = self.place.since.max(self.proven);
        Position::new(format!("{name}@{}", self.place))
    }
}

/// Whether an entry is not passed over. One that does not say when it was recorded goes by when it was created, of which the
/// service tells the second alone.
fn is_wanted(skip: Option<Skip>, entry: &Record, created: i64, says_time: bool) -> bool {
    match skip {
        None => true,
        Some(Skip::Created(from)) => created >= from,
        Some(Skip::Recorded(from)) => match &entry.content {
            Content::Events(_) if says_time => entry.recorded.as_millisecond() >= from,
            Content::Events(_) | Content::Undecodable(_) => created >= from.div_euclid(1000),
        },
    }
}

impl Asked<'_> {
    /// Recoveries go by the time at which an entry was recorded, and by a slack: a writer's clock may not be off by more.
    fn note_skew(&self, entry: &Record, created: i64) {
        // Others write their times as they like, and what is read again of their table does not depend on them alone.
        if self.inner.is_timeless() {
            return;
        }
        let recorded = entry.recorded.as_second();
        let is_far = matches!(entry.content, Content::Events(_))
            && recorded.abs_diff(created) > seconds(SLACK).unsigned_abs() / 2;
        if !is_far {
            return;
        }
        let now = self.inner.calls.clock.moment();
        let mut told = self.inner.told_skew.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| now.since(told) >= TELL_SKEW) {
            *told = Some(now);
            tracing::error!(
                partition = %self.partition, recorded = %entry.recorded, created,
                "an entry says that it was recorded more than half an hour before or after it came to the stream: set the \
                 clock of its writer, for a recovery from the table would miss what is an hour off"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use outbox::{CommitId, Events};

    use super::*;

    /// Created in second 10, as a record without a time of its own says.
    fn created_at_10() -> Record {
        let recorded = Timestamp::from_second(10).unwrap();
        let content = Content::Events(Events::from_iter([]));
        Record { position: Position::new(""), commit: CommitId([0; 16]), recorded, content }
    }

    #[test]
    fn what_does_not_say_its_time_is_wanted_from_the_second_of_a_start_on() {
        let is_wanted = |from, says_time| is_wanted(Some(Skip::Recorded(from)), &created_at_10(), 10, says_time);
        assert!(is_wanted(10_500, false), "it may have been written behind the start");
        assert!(!is_wanted(10_500, true) && is_wanted(10_000, true));
        assert!(!is_wanted(11_000, false));
    }
}
