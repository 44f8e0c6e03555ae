//! The table of a bookkeeping: reading rows, and writing them under a lease, a route's name, and the versions that were
//! seen.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Mutex, atomic::AtomicU64},
    task::Poll,
};

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use futures_util::future::maybe_done;
use outbox::{ErrorKind, RouteName, StoreError, bookkeeping::Lease};

use super::{
    checkpoints::Known,
    remembered::Remembered,
    routes::RouteRow,
    rows::{Actions, Change, Expressions, If, Row},
};
use crate::dynamodb::{
    calls::{Calls, NotCommitted, attempted},
    failure::Failure,
    item::{Item, number, number_of},
};

/// How many rows one transaction changes at most, beside the lease and the route's name: DynamoDB takes 100 actions.
pub(super) const ROWS: usize = 90;

/// A bookkeeping's table. Cheap to clone.
#[derive(Clone)]
pub(super) struct Books {
    pub(super) calls: Calls,
    pub(super) table: Arc<str>,
    /// Two transactions that look at the same lease at once cancel each other, so one handle makes them one by one. It
    /// also keeps what a caller that is gone had asked for before what is asked for later.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Checkpoints as this handle stored them last.
    pub(super) known: Arc<Mutex<HashMap<Row, Known>>>,
    /// Routes whose checkpoints this handle stored, as they were called then.
    pub(super) called: Arc<Mutex<HashMap<RouteName, RouteRow>>>,
    /// What lanes keep, as this handle has read it.
    pub(super) remembered: Arc<Mutex<Remembered>>,
    /// The number of the latest witness.
    pub(super) witnessed: Arc<AtomicU64>,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Done,
    /// A row is no longer as it was read: read again.
    Changed,
}

/// What became of an update of one row.
pub(super) enum Updated {
    /// The row as it is now.
    Done(Item),
    /// The condition failed.
    Refused,
}

impl Books {
    pub(super) fn new(calls: Calls, table: &str) -> Self {
        Self {
            calls,
            table: table.into(),
            turn: Arc::default(),
            known: Arc::default(),
            called: Arc::default(),
            remembered: Arc::default(),
            witnessed: Arc::default(),
        }
    }

    pub(super) fn actions(&self) -> Actions<'_> {
        Actions(&self.table)
    }

    /// Does `work` when it is its turn, to its end: a caller that goes away leaves nothing half done, and nothing that
    /// could come after what is asked for later.
    pub(super) async fn in_turn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        // It queues here, and not in the task: tasks begin in any order.
        let mut turn = Box::pin(maybe_done(self.turn.clone().lock_owned()));
        poll_fn(|context| Poll::Ready(turn.as_mut().poll(context).is_ready())).await;
        let task = tokio::spawn(async move {
            turn.as_mut().await;
            let _turn = turn.as_mut().take_output();
            work.await
        });
        task.await.unwrap_or_else(|error| {
            let message = format!("a write to the bookkeeping did not end: {error}");
            Err(StoreError::new(ErrorKind::Unavailable, message).uncertain())
        })
    }

    /// A row as it is now.
    pub(super) async fn get(&self, row: &Row, what: &'static str) -> Result<Option<Item>, StoreError> {
        self.calls.get(&self.table, row.key()).await.map_err(attempted(what))
    }

    /// Rows of a kind, by name, from `from` on and before `to`, as many as `enough` wants: it is asked after each page.
    pub(super) async fn query(
        &self,
        kind: &str,
        from: &str,
        to: &str,
        what: &'static str,
        mut enough: impl FnMut(&[Item]) -> bool,
    ) -> Result<Vec<Item>, StoreError> {
        let given = HashMap::from([
            (":kind".to_owned(), AttributeValue::S(kind.to_owned())),
            (":from".to_owned(), AttributeValue::S(from.to_owned())),
            (":to".to_owned(), AttributeValue::S(to.to_owned())),
        ]);
        let names = HashMap::from([("#kind".to_owned(), "kind".to_owned()), ("#name".to_owned(), "name".to_owned())]);
        let (mut rows, mut start) = (Vec::new(), None::<Item>);
        loop {
            let attempt = || {
                let query = self.calls.client().query().table_name(&*self.table).consistent_read(true);
                let query = query.key_condition_expression("#kind = :kind AND #name BETWEEN :from AND :to");
                let query = query.set_expression_attribute_names(Some(names.clone()));
                let query = query.set_expression_attribute_values(Some(given.clone()));
                query.set_exclusive_start_key(start.clone()).send()
            };
            let page = self.calls.call(attempt).await.map_err(Failure::of_reading).map_err(attempted(what))?;
            rows.extend(page.items.unwrap_or_default());
            start = page.last_evaluated_key;
            if start.is_none() || enough(&rows) {
                return Ok(rows);
            }
        }
    }

    /// All rows of a kind whose names begin with `prefix`.
    pub(super) async fn all(&self, kind: &str, prefix: &str, what: &'static str) -> Result<Vec<Item>, StoreError> {
        let from = if prefix.is_empty() { " ".to_owned() } else { prefix.to_owned() };
        self.query(kind, &from, &format!("{prefix}{LAST}"), what, |_| false).await
    }

    /// Changes one row.
    pub(super) async fn update(
        &self,
        row: &Row,
        change: Change,
        condition: If,
        what: &'static str,
    ) -> Result<Updated, StoreError> {
        let Expressions { update, condition, names, values } = Expressions::new(change, condition);
        let request = self.calls.client().update_item().table_name(&*self.table).set_key(Some(row.key()));
        let request = request.update_expression(update).set_condition_expression(condition);
        let request = request.set_expression_attribute_names(names).set_expression_attribute_values(values);
        let request = request.return_values(aws_sdk_dynamodb::types::ReturnValue::AllNew);
        match self.calls.call(|| request.clone().send()).await {
            Ok(output) => Ok(Updated::Done(output.attributes.unwrap_or_default())),
            Err(failure) if failure.code.as_deref() == Some("ConditionalCheckFailedException") => Ok(Updated::Refused),
            Err(failure) => Err(failure.store_error(what)),
        }
    }

    /// So many numbers that nobody else has: the first of them. They rise, with gaps where a write was given up.
    pub(super) async fn numbers(&self, count: usize) -> Result<u64, StoreError> {
        const DRAWING: &str = "drawing numbers for kept events";
        let change = Change { add: vec![("last", number(count))], ..Change::default() };
        let row = Row::new("meta", "numbers");
        let Updated::Done(now) = self.update(&row, change, If::Anything, DRAWING).await? else {
            return Err(StoreError::new(ErrorKind::Invalid, format!("{DRAWING}: refused without a condition")));
        };
        let last: u64 = number_of(&now, "last").ok_or_else(|| damaged("meta", "numbers", "last"))?;
        Ok(last + 1 - count as u64)
    }

    /// Writes rows while `lease` is held and `route` is called as it was. Says whether it did, or some row is not as it was
    /// read.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] if the lease is lost.
    pub(super) async fn write(
        &self,
        lease: Option<&Lease>,
        route: Option<TransactWriteItem>,
        rows: Vec<TransactWriteItem>,
        what: &'static str,
    ) -> Result<Sent, StoreError> {
        let mut actions = Vec::with_capacity(rows.len() + 2);
        if let Some(lease) = lease {
            actions.push(self.held(lease)?);
        }
        actions.extend(route);
        actions.extend(rows);
        let token = self.calls.token();
        match self.calls.transact(actions, &token).await {
            Ok(()) => Ok(Sent::Done),
            Err(NotCommitted::Conditions(failed)) => match lease {
                Some(lease) if failed.has(0) => {
                    let view = failed.items.get(&0).cloned().flatten();
                    Err(super::leases::fenced(lease, view.as_ref()))
                }
                Some(_) | None => Ok(Sent::Changed),
            },
            Err(NotCommitted::Refused { failure, .. } | NotCommitted::Failed(failure)) => {
                Err(failure.store_error(what))
            }
        }
    }

    /// The action that tells a running relay to look again.
    pub(super) fn changed(&self) -> Result<TransactWriteItem, StoreError> {
        let change = Change { add: vec![("changes", number(1))], ..Change::default() };
        self.actions().update(&Row::new("meta", "changes"), change, If::Anything)
    }

    /// Deletes rows that nothing leads to any more. Says whether it could; what is left costs a little room, and nothing
    /// else.
    pub(super) async fn sweep(&self, rows: Vec<Row>) -> bool {
        for row in rows {
            if let Err(error) = self.delete(&row, If::Anything, "deleting a row that is done with").await {
                tracing::warn!(kind = row.kind, name = row.name, %error, "it is left in the bookkeeping's table");
                return false;
            }
        }
        true
    }

    /// Deletes a row; does nothing where it is not as the condition says.
    pub(super) async fn delete(&self, row: &Row, condition: If, what: &'static str) -> Result<(), StoreError> {
        let Expressions { condition, names, values, .. } = Expressions::new(Change::default(), condition);
        let request = self.calls.client().delete_item().table_name(&*self.table).set_key(Some(row.key()));
        let request = request.set_condition_expression(condition);
        let request = request.set_expression_attribute_names(names).set_expression_attribute_values(values);
        match self.calls.call(|| request.clone().send()).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.code.as_deref() == Some("ConditionalCheckFailedException") => Ok(()),
            Err(failure) => Err(failure.store_error(what)),
        }
    }

    /// A row that is no longer as it was read is read again until time is up.
    pub(super) fn busy(what: &'static str) -> StoreError {
        let message = format!("{what}: other writers of the bookkeeping were faster each time");
        StoreError::new(ErrorKind::Unavailable, message)
    }

    /// Looks that `route` is called as it was.
    pub(super) fn called(&self, route: &RouteRow) -> Result<TransactWriteItem, StoreError> {
        let condition = If::Has(vec![("id", AttributeValue::S(route.id.clone()))]);
        self.actions().check(&route.row, condition)
    }
}

/// Behind every character of a name: a noncharacter, which no key and no id has.
pub(super) const LAST: char = '\u{10FFFF}';

/// A row that somebody changed by hand.
pub(super) fn damaged(kind: &str, name: &str, what: &str) -> StoreError {
    let name: String = name.chars().filter(|character| !character.is_control()).take(64).collect();
    let message = format!(
        "`{what}` of the row `{kind}`, `{name}` in the bookkeeping's table cannot be read: restore the bookkeeping from a backup, then run `outbox adopt`"
    );
    StoreError::new(ErrorKind::Invalid, message)
}

/// Whether any page is enough.
pub(super) fn one_page(_: &[Item]) -> bool {
    true
}
