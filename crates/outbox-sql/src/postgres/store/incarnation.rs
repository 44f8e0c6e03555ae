//! Raising the incarnation, after history went backwards.
//!
//! An entry that was published and then lost left its place with the consumers; the entry that a restored database writes
//! under the same number has to have another place, or inboxes take it for a duplicate and swallow it. So everything written
//! after the raise is of a higher incarnation. What was written between the loss and the raise carries the old one;
//! `restamp` says that all behind the last agreement was, and moves it: see `schema/adoption.sql`.

use std::time::Duration;

use outbox::{ErrorKind, Position, StoreError};
use tokio_postgres::{Row, error::SqlState, types::Type};

use super::{Inner, agreement::Unread};
use crate::postgres::{
    connection::query_read_committed,
    failure::store_error,
    position::{Standing, row_of},
    source::Param,
};

const RAISING: &str = "raising the incarnation";
const RAISE: &str = "SELECT outbox.raise_incarnation($1::text::int8multirange, $2::text::int8multirange, $3, $4)";
/// How often the locks are asked for: each time for a moment only, as writers queue behind.
const TRIES: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(250);

impl Inner {
    pub(super) async fn raise_incarnation(&self, agreed: Option<&Position>, restamp: bool) -> Result<u32, StoreError> {
        let standing = match agreed {
            Some(agreed) => {
                let standing = Standing::parse(agreed)?;
                row_of(agreed).map_or_else(|| standing.clone(), |row| standing.after_loss(row))
            }
            None => Standing::BEGINNING,
        };
        let Unread { passed, to, through } = Unread::of(&standing);
        let (passed, to) = (passed.unseen_sql(), to.unseen_sql());
        let params: [Param<'_>; 4] =
            [(&passed, Type::TEXT), (&to, Type::TEXT), (&through, Type::INT8), (&restamp, Type::BOOL)];
        let row = self.raise(&params).await?;
        let raised: i32 = row.try_get(0).map_err(store_error(RAISING))?;
        // What was read of the former history is not to be looked for any more.
        *self.history() = crate::postgres::history::History::default();
        self.ranges().forget();
        Ok(raised.unsigned_abs())
    }

    /// Calls the function until it gets its locks, though not for ever: who has written may stay open.
    async fn raise(&self, params: &[Param<'_>]) -> Result<Row, StoreError> {
        for tried in 1..=TRIES {
            let client = self.keeper.client().await?;
            let call = async {
                match query_read_committed(&client, RAISE, params).await {
                    Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(None),
                    other => other.map(Some),
                }
            };
            if let Some(row) = client.limit().for_many_rows().within(RAISING, call).await? {
                return Ok(row);
            }
            drop(client);
            if tried < TRIES {
                tokio::time::sleep(BETWEEN).await;
            }
        }
        let oldest = self.oldest_transaction().await?;
        let holder = oldest.map_or_else(|| "many that write".to_owned(), |oldest| oldest.holder);
        let message = format!(
            "{RAISING}: transactions that write are open, and nothing was changed: stop the writers, and end what is left of \
             them, the oldest being {holder}; then try again"
        );
        Err(StoreError::new(ErrorKind::Unavailable, message))
    }
}
