//! Reading from a position: the next range is looked for, and a range is read by its ids.

use std::{sync::Arc, time::Duration};

use outbox::{Page, Position, Record, StoreError, source::Limit};

use super::{
    check::{self, Checked, Known},
    extent::{self, Extent},
    flush, inside,
    page::{self, Most},
    session::Using,
    unseen::{LISTED, Seen as Unseen, look_sql},
    values::{Eight, values},
};
use crate::postgres::{
    failure::store_error,
    history::Seen,
    position::{LogPlace, Reading, Snapshot, Standing, row_of},
    store::Inner,
};

const LOOKING: &str = "looking for new entries";
const READING: &str = "reading entries";
/// As many rows as one statement gives.
const MOST_ROWS: usize = 8_192;
/// As many ids as one statement walks, where most of them were read before.
const LONGEST_WALK: i64 = 1 << 17;

/// What a look found.
pub(in crate::postgres) struct Look {
    pub(in crate::postgres) checked: Checked,
    /// What it sees.
    pub(in crate::postgres) to: Snapshot,
    /// Unseen rows that were listed, the lowest and the highest id of these, and the latest transaction.
    rows: i64,
    first: i64,
    last: i64,
    newest: u64,
    flushed: u64,
    delay: Duration,
}

impl Look {
    /// Looks what `passed` has not seen, in a transaction that stays open.
    pub(in crate::postgres) async fn at(
        store: &Inner,
        using: &mut Using<'_>,
        standing: &Standing,
    ) -> Result<Self, StoreError> {
        let known = Known::new(store, standing);
        let (rows, unseen) = (known.rows(), Unseen::by(&standing.passed, None, i64::MIN));
        let params: Vec<_> = rows.params().into_iter().chain(unseen.params()).collect();
        let sql = using.sql(look_sql(&unseen));
        let found = using.open(LOOKING, async |client| client.query_typed_opt(&sql, &params).await).await?;
        let checked = Checked::read(store, found.as_ref())?;
        checked.confirm(store, using, &known, standing).await?;
        let row = found.ok_or_else(|| super::malformed(LOOKING))?;
        let number = |column: usize| row.try_get::<_, Option<i64>>(check::WIDTH + column).map_err(store_error(LOOKING));
        let eight = |column: usize| {
            let found = row.try_get::<_, Option<Eight>>(check::WIDTH + column).map_err(store_error(LOOKING))?;
            Ok::<_, StoreError>(found.map_or(0, |eight| eight.0.cast_unsigned()))
        };
        let snapshot: &str = row.try_get(check::WIDTH + 4).map_err(store_error(LOOKING))?;
        let delay: i32 = row.try_get(check::WIDTH + 6).map_err(store_error(LOOKING))?;
        Ok(Self {
            to: Snapshot::from_sql(snapshot).map_err(|_| super::malformed(LOOKING))?,
            rows: number(0)?.unwrap_or(0),
            first: number(1)?.unwrap_or(0),
            last: number(2)?.unwrap_or(0),
            newest: eight(3)?,
            flushed: eight(5)?,
            delay: Duration::from_millis(u64::from(delay.unsigned_abs())),
            checked,
        })
    }

    /// Waits until all that it saw is flushed, and commits.
    pub(in crate::postgres) async fn settle(&self, using: &mut Using<'_>) -> Result<(), StoreError> {
        let written = self.checked.log().lsn;
        if self.flushed >= written {
            using.close(LOOKING).await
        } else {
            flush::until(using, written, self.delay).await
        }
    }
}

/// A part of the entries, to be read by id.
struct Range<'a> {
    passed: &'a Snapshot,
    to: &'a Snapshot,
    then: Option<&'a Snapshot>,
    log: LogPlace,
    extent: Extent,
    /// Rows up to this id were read.
    above: i64,
}

/// Reads behind `after`.
pub(super) async fn read(
    store: &Inner,
    using: &mut Using<'_>,
    after: &Position,
    limit: Limit,
) -> Result<Page, StoreError> {
    let standing = inside::by_id(using, Standing::parse(after)?).await?;
    match &standing.reading {
        Reading::Rest | Reading::Log { .. } => {
            let beyond = store.ranges().beyond(&standing.passed);
            match beyond {
                Some((to, log)) => {
                    let reading = Reading::Range { to, last: None, then: None };
                    let range = Standing { passed: standing.passed.clone(), reading, log };
                    go_on(store, using, (&standing, &range), limit).await
                }
                None => begin(store, using, &standing, after, limit).await,
            }
        }
        Reading::Range { .. } => go_on(store, using, (&standing, &standing), limit).await,
    }
}

/// Looks for the next range, and reads its first page.
async fn begin(
    store: &Inner,
    using: &mut Using<'_>,
    standing: &Standing,
    after: &Position,
    limit: Limit,
) -> Result<Page, StoreError> {
    let look = Look::at(store, using, standing).await?;
    if look.rows == 0 {
        using.close(LOOKING).await?;
        return Ok(Page { records: Vec::new(), next: after.clone(), more: false, end: false });
    }
    let (to, extent) = if look.rows < LISTED {
        (end_of(&look, look.newest, &standing.passed), Extent::listed(look.rows, look.first, look.last))
    } else {
        let newest = super::newest(using, &look.to).await?.unwrap_or(look.newest);
        let to = end_of(&look, newest, &standing.passed);
        let extent = extent::of_backlog(using, (&standing.passed, &to), look.first).await?;
        (to, extent)
    };
    let log = look.checked.log();
    let range = Range { passed: &standing.passed, to: &to, then: None, log, extent, above: i64::MIN };
    let page = range.page(using, &look.checked.producer, limit).await?;
    look.settle(using).await?;
    store.ranges().begun(&standing.passed, &to, log, extent);
    handed_out(store, &page);
    Ok(page)
}

/// The end of a range: what was seen, up to the latest transaction that has a row in it. What has none beyond may be numbered
/// anew after a crash, or on a standby that takes over.
fn end_of(look: &Look, newest: u64, passed: &Snapshot) -> Snapshot {
    look.to.below(passed.xmax().max(newest.saturating_add(1)))
}

/// Reads on in a range that was begun, by whoever came `from` there: what was read before is told by that, not by the range.
async fn go_on(
    store: &Inner,
    using: &mut Using<'_>,
    (from, standing): (&Standing, &Standing),
    limit: Limit,
) -> Result<Page, StoreError> {
    let Reading::Range { to, last, then } = &standing.reading else { return Err(super::malformed(READING)) };
    let checked = check::check(store, using, from).await?;
    let (passed, above) = (&standing.passed, last.map(|last| last.id));
    let known = store.ranges().extent((passed, to), above);
    let extent = if known.is_some() { known } else { extent::of_rest(using, (passed, to), above).await? };
    if let (None, Some(extent)) = (known, extent) {
        store.ranges().measured((passed, to), above, extent);
    }
    let nothing = Extent { first: 0, last: i64::MIN, is_sparse: false };
    let extent = extent.unwrap_or(nothing);
    let above = above.unwrap_or(i64::MIN);
    let range = Range { passed, to, then: then.as_ref(), log: standing.log, extent, above };
    let mut page = range.page(using, &checked.producer, limit).await?;
    using.close(READING).await?;
    handed_out(store, &page);
    if !page.more {
        // The range was begun some time ago.
        page.more = Look::at(store, using, &Standing::parse(&page.next)?).await?.rows > 0;
        using.close(LOOKING).await?;
    }
    Ok(page)
}

/// What a page that is handed out proves, and that it is time to look again soon.
fn handed_out(store: &Inner, page: &Page) {
    let mut history = store.history();
    for record in &page.records {
        if let Some(row) = row_of(&record.position) {
            history.remember(Seen { row, commit: record.commit });
        }
    }
    drop(history);
    if !page.records.is_empty() {
        store.pace().found();
    }
}

impl Range<'_> {
    /// The next records, one at least if there is any.
    async fn page(&self, using: &mut Using<'_>, producer: &str, limit: Limit) -> Result<Page, StoreError> {
        let most = Most {
            // One more than is wanted tells whether there are more.
            rows: i64::try_from(limit.events.clamp(1, MOST_ROWS)).unwrap_or(1) + 1,
            bytes: i64::try_from(limit.bytes.max(1)).unwrap_or(i64::MAX),
        };
        let through = self.extent.last;
        let mut above = self.above.max(self.extent.first.saturating_sub(1));
        let mut step = most.rows;
        let mut rows = Vec::new();
        while rows.is_empty() && above < through {
            if self.extent.is_sparse {
                rows = page::pick(using, above, (self.passed, self.to), most).await?;
                above = through;
            } else {
                let end = above.saturating_add(step).min(through);
                rows = page::walk(using, (above, end), (self.passed, self.to), most).await?;
                above = end;
                if rows.is_empty() && step == LONGEST_WALK {
                    above = page::end_of_gap(using, (above, through)).await?;
                }
                step = (step * 2).min(LONGEST_WALK);
            }
        }
        if using.decoder.producer() != producer {
            *using.decoder = using.entries.decoder(producer);
        }
        let (records, is_whole) = self.records(using, &rows, limit)?;
        let is_done = is_whole && above >= through && !page::is_cut(&rows, most)?;
        Ok(self.end_page(records, is_done))
    }

    /// Decodes rows up to `limit`, one at least. Tells whether all of them were taken.
    fn records(
        &self,
        using: &mut Using<'_>,
        rows: &[tokio_postgres::Row],
        limit: Limit,
    ) -> Result<(Vec<Arc<Record>>, bool), StoreError> {
        let reading = Reading::Range { to: self.to.clone(), last: None, then: self.then.cloned() };
        let place = Standing { passed: self.passed.clone(), reading, log: self.log }.in_range();
        let (mut records, mut events, mut bytes) = (Vec::with_capacity(rows.len()), 0_usize, 0_usize);
        for row in rows {
            let values = values(row).map_err(store_error(READING))?;
            let record = using.decoder.record(&values, place.behind(values.row));
            events = events.saturating_add(record.len());
            bytes = bytes.saturating_add(record.weight());
            if !records.is_empty() && (events > limit.events || bytes > limit.bytes) {
                return Ok((records, false));
            }
            records.push(Arc::new(record));
        }
        Ok((records, true))
    }

    fn end_page(&self, records: Vec<Arc<Record>>, is_done: bool) -> Page {
        let (next, more) = match (is_done, self.then, records.last()) {
            (false, _, Some(last)) => (last.position.clone(), true),
            (true, Some(then), _) => {
                let reading = Reading::Range { to: then.clone(), last: None, then: None };
                (Standing { passed: self.to.clone(), reading, log: self.log }.position(), true)
            }
            (true, None, _) | (false, _, None) => (Standing::at_rest(self.to.clone(), self.log).position(), false),
        };
        Page { records, next, more, end: false }
    }
}
