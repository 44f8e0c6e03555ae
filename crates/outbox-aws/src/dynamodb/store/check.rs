//! Whether a relay can work with the tables: their shape, and its rights. Rights are tried by reads, and by a change whose
//! condition never holds.

use outbox::StoreError;

use super::Inner;
use crate::dynamodb::{
    calls::{attempted, names, values},
    failure::Failure,
    item::{number, text},
    position::EntryName,
    schema,
};

impl Inner {
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        schema::check(&self.client, &self.tables).await?;
        self.check_reading().await?;
        self.check_claiming().await
    }

    /// `Scan`, `Query` and `GetItem` on the entries: what a recovery and a gap in the stream need.
    async fn check_reading(&self) -> Result<(), StoreError> {
        let entries = self.tables.entries();
        let scan = || self.calls.client().scan().table_name(entries).limit(1).send();
        let scanned = self.calls.call(scan).await.map(drop);
        scanned.map_err(Failure::of_reading).map_err(attempted("trying dynamodb:Scan on the entries"))?;
        let query = || {
            let query = self.calls.client().query().table_name(entries).limit(1);
            let query = query.key_condition_expression("#key = :key");
            let partition = self.tables.mapping().map_or("key", |mapping| mapping.keys().0);
            let query = query.expression_attribute_names("#key", partition);
            query.set_expression_attribute_values(Some(values([(":key", text("outbox check"))]))).send()
        };
        let queried = self.calls.call(query).await.map(drop);
        queried.map_err(Failure::of_reading).map_err(attempted("trying dynamodb:Query on the entries"))?;
        let none = EntryName { key: "outbox check".to_owned(), sequence: "0".to_owned(), expires: None };
        if self.tables.mapping().is_some_and(|mapping| mapping.keys().1.is_some()) {
            // Whether a name that nobody has is to hold a text or a number, only an item tells.
            return Ok(());
        }
        self.found(&[none], "trying dynamodb:BatchGetItem on the entries").await.map(drop)
    }

    /// `UpdateItem` on the heads: what a claim needs.
    async fn check_claiming(&self) -> Result<(), StoreError> {
        let update = || {
            let update = self.calls.client().update_item().table_name(self.tables.heads());
            let update = update.set_key(Some(schema::store_key())).update_expression("SET #layout = :never");
            let update = update.condition_expression("#layout = :never");
            let update = update.set_expression_attribute_names(Some(names(["layout"])));
            update.set_expression_attribute_values(Some(values([(":never", number(-1))]))).send()
        };
        match self.calls.call(update).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.code.as_deref() == Some("ConditionalCheckFailedException") => Ok(()),
            Err(failure) => Err(failure.store_error("trying dynamodb:UpdateItem on the heads")),
        }
    }
}
