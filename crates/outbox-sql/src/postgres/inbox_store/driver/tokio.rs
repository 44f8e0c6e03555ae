//! The inbox over `tokio-postgres`, which sends statements without waiting for the answers before.

use std::{
    future::{Future, poll_fn},
    mem::ManuallyDrop,
    pin::Pin,
    task::Poll,
};

use outbox::StoreError;
use tokio_postgres::{IsolationLevel, Transaction};

use super::{BEGINNING, COMMITTING, Driver, Ended, Failed, MARK, Open, Row, Statement};
use crate::postgres::connection::{ConnectOptions, Connection, StatementLimit};

/// The driver `tokio-postgres`.
pub struct TokioPostgres {
    connection: Connection,
}

/// A transaction that has begun.
pub struct OpenTokio<'t> {
    transaction: Transaction<'t>,
    limit: StatementLimit,
    /// Whether the mark was sent: it goes with the first statement.
    marked: bool,
}

/// A statement that is sent when it is first polled.
type Sent<'a> = Pin<Box<dyn Future<Output = Result<Vec<Row>, Failed>> + Send + 'a>>;

impl TokioPostgres {
    pub(in crate::postgres::inbox_store) fn new(options: ConnectOptions) -> Self {
        Self { connection: Connection::new(options) }
    }
}

impl Driver for TokioPostgres {
    type Open<'t> = OpenTokio<'t>;

    async fn begin(&mut self) -> Result<OpenTokio<'_>, StoreError> {
        let (client, limit) = self.connection.own().await?;
        let beginning = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start();
        let transaction = limit.within(BEGINNING, beginning).await?;
        Ok(OpenTokio { transaction, limit, marked: false })
    }
}

impl<'t> OpenTokio<'t> {
    /// The driver's own transaction.
    pub(in crate::postgres::inbox_store) fn transaction(&self) -> &Transaction<'t> {
        &self.transaction
    }
}

impl Open for OpenTokio<'_> {
    async fn send(&mut self, statements: &[Statement<'_>]) -> Result<Vec<Row>, Failed> {
        let mut rows = Vec::new();
        let mark = !std::mem::replace(&mut self.marked, true);
        for answer in in_a_row(sending(&self.transaction, &self.limit, mark, statements)).await {
            rows = answer?;
        }
        Ok(rows)
    }

    async fn commit(self, statements: &[Statement<'_>]) -> Result<Vec<Row>, Ended> {
        let Self { transaction, limit, marked } = self;
        // The commit goes behind the statements without waiting, not by the transaction itself, which then has nothing to
        // take back when it is dropped.
        let transaction = ManuallyDrop::new(transaction);
        let mut all = sending(&transaction, &limit, !marked, statements);
        let before = all.len();
        let committing = async { transaction.batch_execute("COMMIT").await.map(|()| Vec::new()) };
        all.push(answered(&limit, COMMITTING, committing));
        let mut answers = in_a_row(all).await;
        if answers.len() <= before {
            // A statement could not even be sent, so the commit was not either.
            rollback(ManuallyDrop::into_inner(transaction), &limit).await;
            let failed = answers.into_iter().find_map(Result::err);
            return failed.map_or_else(|| Ok(Vec::new()), |failed| Err(Ended::Statement(failed.certain())));
        }
        let committed = answers.pop();
        let mut rows = Vec::new();
        for answer in answers {
            rows = answer.map_err(Ended::Statement)?;
        }
        match committed {
            Some(Err(failed)) => Err(Ended::Commit(failed)),
            Some(Ok(_)) | None => Ok(rows),
        }
    }

    async fn rollback(self) {
        rollback(self.transaction, &self.limit).await;
    }
}

async fn rollback(transaction: Transaction<'_>, limit: &StatementLimit) {
    let _ = limit.within("rolling back the inbox", transaction.rollback()).await;
}

/// The statements, behind the mark if it was not sent yet.
fn sending<'a>(
    transaction: &'a Transaction<'_>,
    limit: &'a StatementLimit,
    mark: bool,
    statements: &'a [Statement<'_>],
) -> Vec<Sent<'a>> {
    let mark = mark.then(|| {
        let marking = async { transaction.batch_execute(MARK).await.map(|()| Vec::new()) };
        answered(limit, BEGINNING, marking)
    });
    let statements = statements.iter().map(|Statement { attempted, sql, params }| {
        answered(limit, attempted, async { transaction.query_typed(sql, params).await })
    });
    mark.into_iter().chain(statements).collect()
}

/// Awaits a statement and keeps what the server called its failure.
fn answered<'a>(
    limit: &'a StatementLimit,
    attempted: &'static str,
    statement: impl Future<Output = Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>> + Send + 'a,
) -> Sent<'a> {
    Box::pin(async move {
        let mut state = None;
        let noting = async {
            let answer = statement.await;
            state = answer.as_ref().err().and_then(tokio_postgres::Error::code).map(|state| state.code().to_owned());
            answer
        };
        let answer = limit.within(attempted, noting).await;
        answer.map(|rows| rows.into_iter().map(Row::TokioPostgres).collect()).map_err(|error| Failed { error, state })
    })
}

/// Sends all of `statements`, then awaits their answers, which come in the same order. One that cannot be sent is the last:
/// there are fewer answers than statements then.
async fn in_a_row(mut statements: Vec<Sent<'_>>) -> Vec<Result<Vec<Row>, Failed>> {
    let mut early = Vec::with_capacity(statements.len());
    poll_fn(|context| {
        for statement in &mut statements {
            let answer = match statement.as_mut().poll(context) {
                Poll::Ready(answer) => Some(answer),
                Poll::Pending => None,
            };
            let failed = matches!(answer, Some(Err(_)));
            early.push(answer);
            if failed {
                break;
            }
        }
        Poll::Ready(())
    })
    .await;
    let mut answers = Vec::with_capacity(early.len());
    for (statement, answer) in statements.into_iter().zip(early) {
        answers.push(match answer {
            Some(answer) => answer,
            None => statement.await,
        });
    }
    answers
}
