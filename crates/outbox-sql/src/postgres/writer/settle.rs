//! What became of a commit whose answer was lost.

use outbox::{Receipt, StoreError, writer::Settled};
use tokio_postgres::{Client, types::Type};

use crate::postgres::failure::store_error;

pub(super) const SETTLE: &str = "SELECT outbox.committed($1, $2, $3::text::uuid)";

/// Whether the entry of `receipt` was committed. Ask on a connection that is in no transaction; a transaction that still
/// writes to the key is waited for, unless it writes the key's first entry: before you ask about that one, make sure that
/// the session that wrote it has ended.
///
/// A key's entry is found however many came after it, unless it has been purged; an event without a key only among the
/// newest 10,000 entries. What is not found for that reason is [`Settled::Unknown`].
///
/// # Errors
/// As the server says.
pub async fn settle(client: &Client, receipt: &Receipt) -> Result<Settled, StoreError> {
    const ASKING: &str = "asking what became of a commit";
    let (key, sequence, commit) = question(receipt);
    let row = client
        .query_typed_one(SETTLE, &[(&key, Type::TEXT), (&sequence, Type::INT8), (&commit, Type::TEXT)])
        .await
        .map_err(store_error(ASKING))?;
    Ok(settled(row.try_get(0).map_err(store_error(ASKING))?))
}

/// The parameters of [`SETTLE`].
pub(super) fn question(receipt: &Receipt) -> (Option<&str>, Option<i64>, String) {
    let sequence = receipt.first.map(|place| i64::try_from(place.sequence).unwrap_or(i64::MAX));
    (receipt.key.as_ref().map(outbox::Key::as_str), sequence, receipt.commit.to_string())
}

/// What [`SETTLE`] said.
pub(super) fn settled(committed: Option<bool>) -> Settled {
    match committed {
        Some(true) => Settled::Committed,
        Some(false) => Settled::NotCommitted,
        None => Settled::Unknown,
    }
}
