//! What nobody waits for the answer of alone: it goes out with the next statement that somebody does.

use outbox::bookkeeping::KeptId;
use tokio_postgres::types::{ToSql, Type};

use super::{
    driver::{Param, Statement},
    lanes::Changes,
};

/// What was not sent yet.
#[derive(Default)]
pub(super) struct Unsent {
    removed: Vec<i64>,
    done: Done,
    later: Vec<Later>,
    /// What was saved, one pass after the other.
    saved: Vec<Changes>,
}

/// Ids that are done with, or not, in the order in which that was said.
#[derive(Default)]
struct Done {
    producers: Vec<i64>,
    ids: Vec<String>,
    are_so: Vec<bool>,
}

/// A statement as it is.
pub(super) struct Later {
    pub(super) attempted: &'static str,
    pub(super) sql: &'static str,
    pub(super) params: Vec<(Box<dyn ToSql + Sync>, Type)>,
}

impl Unsent {
    pub(super) fn is_empty(&self) -> bool {
        let Self { removed, done, later, saved } = self;
        removed.is_empty() && done.ids.is_empty() && later.is_empty() && saved.is_empty()
    }

    pub(super) fn remove(&mut self, id: KeptId) {
        self.removed.push(id.0.cast_signed());
    }

    pub(super) fn set_done(&mut self, producer: i64, id: &str, done: bool) {
        self.done.producers.push(producer);
        self.done.ids.push(id.to_owned());
        self.done.are_so.push(done);
    }

    pub(super) fn later(&mut self, statement: Later) {
        self.later.push(statement);
    }

    pub(super) fn save(&mut self, changes: Option<Changes>) {
        self.saved.extend(changes);
    }

    /// What was saved last, for whoever writes it together with something else.
    pub(super) fn take_last_saved(&mut self) -> Changes {
        self.saved.pop().unwrap_or_default()
    }

    /// All of it. Those that concern the same rows are in the order in which they came.
    pub(super) fn statements(&self) -> Vec<Statement<'_>> {
        let mut statements = Vec::new();
        if !self.removed.is_empty() {
            statements.push(Statement {
                attempted: "removing kept events",
                sql: "DELETE FROM outbox_inbox.kept WHERE id = ANY ($1)",
                params: vec![(&self.removed, Type::INT8_ARRAY)],
            });
        }
        let Done { producers, ids, are_so } = &self.done;
        if !ids.is_empty() {
            statements.push(Statement {
                attempted: "noting which events are done with",
                sql: "SELECT outbox_inbox.set_done($1, $2, $3)",
                params: vec![(producers, Type::INT8_ARRAY), (ids, Type::TEXT_ARRAY), (are_so, Type::BOOL_ARRAY)],
            });
        }
        statements.extend(self.later.iter().map(|Later { attempted, sql, params }| {
            let params = params.iter().map(|(value, kind)| -> Param<'_> { (&**value, kind.clone()) }).collect();
            Statement { attempted, sql, params }
        }));
        statements.extend(self.saved.iter().map(Changes::save));
        statements
    }
}
