//! Who the store is, and which bookkeeping reads it.

use outbox::{
    ErrorKind, StoreError,
    store::{Claim, StoreIdentity},
};
use tokio_postgres::types::Type;

use super::{Inner, locked};
use crate::postgres::{connection::Leased, failure::store_error, history::changed, schema, source::Param};

impl Inner {
    pub(super) async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        let client = self.keeper.client().await?;
        let meta = client.limit().all_within("reading `outbox.meta`", schema::check(&*client)).await?;
        let nonce = meta.claim_nonce.unwrap_or_default();
        let claim = meta.bookkeeping.map(|bookkeeping| Claim { bookkeeping, epoch: meta.claim_epoch, nonce });
        Ok(StoreIdentity { id: meta.store_id, incarnation: meta.incarnation, producer: meta.producer, claim })
    }

    /// Compares and sets, in one statement.
    pub(super) async fn claim(&self, claim: &Claim, seen: Option<&Claim>) -> Result<bool, StoreError> {
        const CLAIMING: &str = "claiming the database";
        const SQL: &str = "UPDATE outbox.meta SET bookkeeping = $1, claim_epoch = $2, claim_nonce = $3 \
            WHERE store_id = $7 AND (bookkeeping IS NOT DISTINCT FROM $4 \
                AND (bookkeeping IS NULL OR claim_epoch = $5 AND claim_nonce IS NOT DISTINCT FROM $6) \
                OR bookkeeping = $1 AND claim_epoch = $2 AND claim_nonce = $3)";
        let number = |epoch: u64| i64::try_from(epoch).unwrap_or(i64::MAX);
        let epoch = number(claim.epoch);
        let (former, former_epoch, former_nonce) = match seen {
            Some(seen) => (Some(&seen.bookkeeping), Some(number(seen.epoch)), Some(&seen.nonce)),
            None => (None, None, None),
        };
        let params: [Param<'_>; 7] = [
            (&claim.bookkeeping, Type::TEXT),
            (&epoch, Type::INT8),
            (&claim.nonce, Type::TEXT),
            (&former, Type::TEXT),
            (&former_epoch, Type::INT8),
            (&former_nonce, Type::TEXT),
            (&self.store_id, Type::TEXT),
        ];
        let client = self.keeper.client().await?;
        if !self.entries.is_mapped() {
            self.check_numbers(&client).await?;
        }
        let claimed = client.limit().within(CLAIMING, client.execute_typed(SQL, &params)).await?;
        if claimed == 0 {
            self.check_store(&schema::check(&*client).await?.store_id)?;
            return Ok(false);
        }
        *locked(&self.claimed) = Some(claim.clone());
        Ok(true)
    }

    /// Whether all entries were written here. A dump carries numbers of transactions that this server has yet to give: until then
    /// nobody would see these entries. Of a mapped table that was looked at when it was opened.
    async fn check_numbers(&self, client: &Leased<'_>) -> Result<(), StoreError> {
        const LOOKING: &str = "looking for entries of another server";
        // The highest stands at one end of each leaf's index.
        const SQL: &str =
            "SELECT coalesce(max(e.xid) >= pg_snapshot_xmax(pg_current_snapshot()), false) FROM outbox.entries AS e";
        let row = client.limit().within(LOOKING, client.query_typed_one(SQL, &[])).await?;
        if !row.try_get::<_, bool>(0).map_err(store_error(LOOKING))? {
            return Ok(());
        }
        let message = format!(
            "the database {} holds entries with numbers of transactions that this server has not given yet, as a dump brings \
             them: they would not be published. Stop its writers and run `outbox adopt --restored` before they start",
            self.database()
        );
        Err(StoreError::new(ErrorKind::HistoryChanged, message))
    }

    pub(super) async fn disown(&self) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE outbox.meta SET bookkeeping = NULL, claim_epoch = 0, claim_nonce = NULL";
        let client = self.keeper.client().await?;
        let disowning = "giving the database to another bookkeeping";
        client.limit().within(disowning, client.execute_typed(SQL, &[])).await?;
        *locked(&self.claimed) = None;
        Ok(())
    }

    /// The latest claim, as the database has it.
    pub(in crate::postgres) async fn check_latest_claim(&self) -> Result<(), StoreError> {
        let identity = self.identity().await?;
        self.check_store(&identity.id)?;
        self.check_claim(identity.claim.as_ref())
    }
}

/// Whether `claim` is still what the database says, which is `now`.
pub(super) fn still_ours(database: &str, claim: &Claim, now: Option<&Claim>) -> Result<(), StoreError> {
    let same_books = now.filter(|now| now.bookkeeping == claim.bookkeeping);
    match same_books {
        Some(now) if now.nonce == claim.nonce => Ok(()),
        // A claim is never taken back to a lower epoch but by `adopt`, by another id: an older copy it is.
        Some(now) if now.epoch < claim.epoch => {
            let found =
                format!("was claimed under epoch {}, but says {} now: it is an older copy", claim.epoch, now.epoch);
            Err(changed(database, &found))
        }
        // The next owner of the lease: this one stands by. If it is a copy of the bookkeeping instead, the next claim says
        // so.
        Some(now) if now.epoch > claim.epoch => {
            let message = format!("another relay took over the database {database}, under epoch {}", now.epoch);
            Err(StoreError::new(ErrorKind::Fenced, message))
        }
        Some(_) | None => {
            let who = now.map_or_else(|| "nobody".to_owned(), |now| format!("bookkeeping {}", now.bookkeeping));
            let epoch = now.map_or(0, |now| now.epoch);
            let message = format!(
                "another relay took over the database {database}: it is read by {who} now, under epoch {epoch}. This one stops; run one bookkeeping a database"
            );
            Err(StoreError::new(ErrorKind::Ownership, message))
        }
    }
}
