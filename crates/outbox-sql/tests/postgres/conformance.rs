//! The suite that every writer passes, over both drivers.

use std::sync::Arc;

use async_trait::async_trait;
use outbox::{
    Receipt, Source, WriteError,
    testing::{End, Transaction, Write, WriterUnderTest, conformance},
    writer::Settled,
};
use outbox_sql::postgres::settle;

use crate::{
    fixture::{Fixture, expecting},
    reader::Reader,
};

/// A service that writes by `tokio-postgres`.
struct Service(Fixture);

#[async_trait]
impl WriterUnderTest for Service {
    async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
        let mut client = self.0.database.session().await;
        let transaction = client.transaction().await.unwrap();
        let mut receipts = Vec::new();
        for call in asked.writes {
            // Dropping the transaction rolls back.
            receipts.extend(expecting(&call).write_all(&transaction, call.events).await?);
        }
        if let Some(before_end) = asked.before_end {
            before_end.await;
        }
        match asked.end {
            End::Commit => transaction.commit().await.unwrap(),
            End::RollBack => transaction.rollback().await.unwrap(),
        }
        Ok(receipts)
    }

    async fn transact_regardless(&self, writes: Vec<Write>) -> Option<Vec<Result<Vec<Receipt>, WriteError>>> {
        let mut client = self.0.database.session().await;
        let transaction = client.transaction().await.unwrap();
        let mut answers = Vec::new();
        for call in writes {
            answers.push(expecting(&call).write_all(&transaction, call.events).await);
        }
        transaction.commit().await.unwrap();
        Some(answers)
    }

    async fn settled(&self, receipt: &Receipt) -> Settled {
        settle(&self.0.client, receipt).await.unwrap()
    }

    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(Reader(self.0.database.session().await))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tokio_postgres_writer_conforms() {
    conformance::writer::all(async || Service(Fixture::new().await)).await;
}

#[cfg(feature = "sqlx-postgres")]
mod by_sqlx {
    use outbox_sql::postgres::settle_sqlx;
    use sqlx::{Connection, PgConnection};

    use super::*;

    /// A service that writes by `sqlx`.
    struct SqlxService(Fixture);

    impl SqlxService {
        async fn connect(&self) -> PgConnection {
            PgConnection::connect(self.0.database.url()).await.unwrap()
        }
    }

    #[async_trait]
    impl WriterUnderTest for SqlxService {
        async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
            let mut connection = self.connect().await;
            let mut transaction = connection.begin().await.unwrap();
            let mut receipts = Vec::new();
            for call in asked.writes {
                receipts.extend(expecting(&call).write_all_sqlx(&mut transaction, call.events).await?);
            }
            if let Some(before_end) = asked.before_end {
                before_end.await;
            }
            match asked.end {
                End::Commit => transaction.commit().await.unwrap(),
                End::RollBack => transaction.rollback().await.unwrap(),
            }
            Ok(receipts)
        }

        async fn transact_regardless(&self, writes: Vec<Write>) -> Option<Vec<Result<Vec<Receipt>, WriteError>>> {
            let mut connection = self.connect().await;
            let mut transaction = connection.begin().await.unwrap();
            let mut answers = Vec::new();
            for call in writes {
                answers.push(expecting(&call).write_all_sqlx(&mut transaction, call.events).await);
            }
            transaction.commit().await.unwrap();
            Some(answers)
        }

        async fn settled(&self, receipt: &Receipt) -> Settled {
            settle_sqlx(&mut self.connect().await, receipt).await.unwrap()
        }

        async fn source(&self) -> Arc<dyn Source> {
            Arc::new(Reader(self.0.database.session().await))
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_sqlx_writer_conforms() {
        conformance::writer::all(async || SqlxService(Fixture::new().await)).await;
    }
}
