//! Shared reading: one leading reader that never waits for a route, and at most one trailing reader.
//!
//! A route asks for records behind its own position. Routes that stand at the furthest position are served together by
//! the leading reader; a route whose window was full falls behind and is served by the trailing one, one such position
//! at a time, until it stands where the leader stands.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt, OptionFuture};
use tokio::sync::mpsc;

use super::wake::Wake;
use crate::{
    entry::{Position, Record},
    error::{ErrorKind, StoreError},
    route::RouteName,
    source::{Limit, Page, PartitionId, Source},
};

/// The most that is read at once: small enough that a page is on its way while the next is read.
const PAGE: Limit = Limit { events: 2048, bytes: 2 << 20 };
/// Pages that are kept for routes that are a little behind.
const PAGES: usize = 3;

/// A route's wish for records.
pub(super) struct Request {
    pub(super) route: RouteName,
    /// Which of the route's pipelines asks.
    pub(super) pipeline: usize,
    pub(super) after: Position,
    pub(super) credit: Limit,
    pub(super) reply: mpsc::UnboundedSender<Delivery>,
}

/// What a route gets for a request.
pub(super) struct Delivery {
    /// Which of the route's pipelines asked.
    pub(super) pipeline: usize,
    pub(super) records: Vec<Arc<Record>>,
    pub(super) next: Position,
    pub(super) end: bool,
    /// Nothing was read, for the source does not remember what comes next: what it said.
    pub(super) trimmed: Option<String>,
}

type Reading = BoxFuture<'static, (Position, Result<Page, StoreError>)>;

struct Reader {
    source: Arc<dyn Source>,
    wake: Arc<Wake>,
    partition: PartitionId,
    requests: BTreeMap<RouteName, Request>,
    /// The furthest position that was read to, whether anybody was given it or not.
    front: Option<Position>,
    leading: Option<Reading>,
    trailing: Option<Reading>,
    /// The last leading pages, each with the position that it begins at: routes that are a little behind need no
    /// reading of their own.
    pages: VecDeque<(Position, Arc<Page>)>,
    /// Whether nobody was given the last of them yet.
    ahead: bool,
    /// Whether there was more behind it.
    more: bool,
    /// The leading read found nothing: wait until there may be something.
    idle: bool,
    /// Where looks in a row found nothing, trailing and leading: routes that start at different times stand at different
    /// positions though none of these is behind the other.
    vain: [Vec<Position>; 2],
    /// How often the source had woken anybody when the leading read began.
    seen: u64,
    failures: u32,
}

/// Reads `partition` for all routes that ask, until none can ask any more or the source fails for good.
pub(super) async fn run(
    source: Arc<dyn Source>,
    wake: Arc<Wake>,
    partition: PartitionId,
    mut requests: mpsc::UnboundedReceiver<Request>,
) -> Result<(), StoreError> {
    let mut reader = Reader {
        source,
        wake,
        partition,
        requests: BTreeMap::new(),
        front: None,
        leading: None,
        trailing: None,
        pages: VecDeque::new(),
        ahead: false,
        more: false,
        idle: false,
        vain: [Vec::new(), Vec::new()],
        seen: 0,
        failures: 0,
    };
    loop {
        reader.start_reading();
        let waits = reader.idle && reader.leading.is_none();
        let (wake, seen) = (reader.wake.clone(), reader.seen);
        tokio::select! {
            biased;
            request = requests.recv() => match request {
                Some(request) => reader.take(request),
                None => return Ok(()),
            },
            Some((after, page)) = OptionFuture::from(reader.leading.as_mut()) => {
                reader.leading = None;
                reader.read(&after, page, true).await?;
            }
            Some((after, page)) = OptionFuture::from(reader.trailing.as_mut()) => {
                reader.trailing = None;
                reader.read(&after, page, false).await?;
            }
            () = wake.since(seen), if waits => reader.idle = false,
        }
    }
}

impl Reader {
    fn take(&mut self, request: Request) {
        let asked = request.after.clone();
        self.requests.insert(request.route.clone(), request);
        if let Some(index) = self.pages.iter().position(|(after, _)| *after == asked) {
            self.ahead &= index + 1 < self.pages.len();
            let page = self.pages[index].1.clone();
            self.deliver(&asked, &page);
        }
    }

    fn is_front(&self, position: &Position) -> bool {
        self.front.as_ref().is_none_or(|front| self.source.order(position, front).is_ge())
    }

    fn start_reading(&mut self) {
        if self.leading.is_none() && !self.idle {
            let ahead = self.front.as_ref().filter(|_| self.more && !self.ahead).cloned();
            let after = self.due(true).or(ahead);
            self.seen = self.wake.count();
            self.leading = after.map(|after| self.reading(&after));
        }
        if self.trailing.is_none() {
            self.trailing = self.due(false).map(|after| self.reading(&after));
        }
    }

    /// Where to read next: of leading routes the one furthest ahead is first, of trailing ones the furthest behind. Where the
    /// last look found nothing, all others have their turn before.
    fn due(&mut self, leads: bool) -> Option<Position> {
        let of_kind = |position: &&Position| self.is_front(position) == leads;
        let standing: Vec<&Position> = self.requests.values().map(|request| &request.after).filter(of_kind).collect();
        let is_fresh = |position: &&&Position| !self.vain[usize::from(leads)].contains(position);
        let fresh: Vec<&Position> = standing.iter().filter(is_fresh).copied().collect();
        let is_new_round = fresh.is_empty();
        let first = if leads { Ordering::Greater } else { Ordering::Less };
        let better = |best, other| if self.source.order(other, best) == first { other } else { best };
        let due = if is_new_round { standing } else { fresh }.into_iter().reduce(better).cloned();
        if is_new_round {
            self.vain[usize::from(leads)].clear();
        }
        due
    }

    fn reading(&self, after: &Position) -> Reading {
        let at = self.requests.values().filter(|request| request.after == *after);
        let credit = at
            .map(|request| request.credit)
            .reduce(|left, right| Limit { events: left.events.max(right.events), bytes: left.bytes.max(right.bytes) });
        let credit = credit.unwrap_or(PAGE);
        let limit = Limit { events: credit.events.min(PAGE.events), bytes: credit.bytes.min(PAGE.bytes) };
        let (source, partition, after) = (self.source.clone(), self.partition.clone(), after.clone());
        async move {
            let page = source.read(&partition, &after, limit).await;
            (after, page)
        }
        .boxed()
    }

    async fn read(&mut self, after: &Position, page: Result<Page, StoreError>, leads: bool) -> Result<(), StoreError> {
        let page = match page {
            Ok(page) => page,
            Err(error) if error.kind().retry() => {
                self.failures += 1;
                let pause = Duration::from_millis(50) * (1 << self.failures.min(6));
                tracing::warn!(%error, "the source cannot be read; trying again");
                tokio::time::sleep(pause).await;
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Trimmed => {
                self.more &= !leads;
                self.refuse(after, &error.to_string());
                return Ok(());
            }
            Err(error) => return Err(error.context("reading the source")),
        };
        self.failures = 0;
        if leads {
            self.idle = page.records.is_empty() && !page.more && !page.end;
            self.more = page.more;
            // Also where nothing was found: a replay that begins behind it is trailing, and must not wait for a change.
            self.front = Some(page.next.clone());
        }
        let moved = page.next != *after || page.end;
        let vain = &mut self.vain[usize::from(leads)];
        if moved {
            vain.clear();
        } else {
            vain.push(after.clone());
        }
        if moved {
            let page = Arc::new(page);
            let asked = self.deliver(after, &page);
            if leads {
                self.ahead = !asked;
                self.pages.push_back((after.clone(), page));
                if self.pages.len() > PAGES {
                    self.pages.pop_front();
                }
            }
        } else if !leads || page.more {
            // Nothing where something was read before, or where there shall be more: don't ask in a circle.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Gives the page to every route that stands at its beginning, each as much as it can take. Tells whether any does.
    fn deliver(&mut self, after: &Position, page: &Page) -> bool {
        let names: Vec<RouteName> =
            self.requests.values().filter(|request| request.after == *after).map(|r| r.route.clone()).collect();
        let any = !names.is_empty();
        for name in names {
            let Some(request) = self.requests.remove(&name) else { continue };
            let records = within(&page.records, request.credit);
            let whole = records.len() == page.records.len();
            let next = match records.last() {
                Some(last) if !whole => last.position.clone(),
                _ => page.next.clone(),
            };
            let (pipeline, records, end) = (request.pipeline, records.to_vec(), page.end && whole);
            // A route that is gone needs no records.
            let _ = request.reply.send(Delivery { pipeline, records, next, end, trimmed: None });
        }
        any
    }

    /// Tells every route that stands at `after` that the source does not remember what comes next.
    fn refuse(&mut self, after: &Position, reason: &str) {
        let names: Vec<RouteName> =
            self.requests.values().filter(|request| request.after == *after).map(|r| r.route.clone()).collect();
        for request in names.iter().filter_map(|name| self.requests.remove(name)).collect::<Vec<_>>() {
            let (pipeline, next, trimmed) = (request.pipeline, request.after, Some(reason.to_owned()));
            let _ = request.reply.send(Delivery { pipeline, records: Vec::new(), next, end: false, trimmed });
        }
    }
}

/// The first records that `credit` allows; at least one.
fn within(records: &[Arc<Record>], credit: Limit) -> &[Arc<Record>] {
    let (mut events, mut bytes) = (0, 0);
    let fitting = records
        .iter()
        .take_while(|record| {
            events += record.len();
            bytes += record.weight();
            events <= credit.events && bytes <= credit.bytes
        })
        .count();
    &records[..fitting.max(1).min(records.len())]
}

#[cfg(test)]
mod tests;
