//! Raising the incarnation, after history went backwards.
//!
//! An entry that was published and then lost left its place with the consumers; the entry that a restored database writes
//! under the same number has to have another place, or inboxes take it for a duplicate and swallow it. So everything written
//! after the raise is of a higher incarnation. What was written between the loss and the raise carries the old one;
//! `restamp` says that all behind the last agreement was, and moves it: see `schema/adoption.sql`.

use outbox::{Position, StoreError};
use tokio_postgres::types::Type;

use super::{Inner, agreement::Unread};
use crate::postgres::{
    connection::query_read_committed,
    failure::store_error,
    position::{Standing, row_of},
    source::Param,
};

impl Inner {
    pub(super) async fn raise_incarnation(&self, agreed: Option<&Position>, restamp: bool) -> Result<u32, StoreError> {
        const RAISING: &str = "raising the incarnation";
        let standing = match agreed {
            Some(agreed) => {
                let standing = Standing::parse(agreed)?;
                row_of(agreed).map_or_else(|| standing.clone(), |row| standing.after_loss(row))
            }
            None => Standing::BEGINNING,
        };
        let Unread { passed, to, through } = Unread::of(&standing);
        let sql = "SELECT outbox.raise_incarnation($1::text::pg_snapshot, $2::text::pg_snapshot, $3, $4)";
        let params: [Param<'_>; 4] =
            [(&passed, Type::TEXT), (&to, Type::TEXT), (&through, Type::INT8), (&restamp, Type::BOOL)];
        let client = self.keeper.client().await?;
        let limit = client.limit().for_many_rows();
        let row = limit.within(RAISING, query_read_committed(&client, sql, &params)).await?;
        let raised: i32 = row.try_get(0).map_err(store_error(RAISING))?;
        // What was read of the former history is not to be looked for any more.
        *self.history() = crate::postgres::history::History::default();
        self.ranges().forget();
        Ok(raised.unsigned_abs())
    }
}
