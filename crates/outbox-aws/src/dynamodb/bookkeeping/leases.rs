//! Leases and the claims noted under them; and the fence that every write of their holders passes.

use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use outbox::{
    ErrorKind, StoreError,
    bookkeeping::{Lease, LeaseView},
    store::Claim,
};

use tokio::time::timeout;

use super::{
    books::{Books, Updated, damaged},
    rows::{Change, If, Row},
};
use crate::dynamodb::item::{Item, flag_of, number, number_of, text, text_of};

/// Of the time that a lease lasts, a new owner spends no more than this part on what former ones left. Where it lasts for no
/// time, as with owners that share it, none.
const SWEEPING: u32 = 4;

fn row(name: &str) -> Row {
    Row::new("lease", name)
}

/// What a holder's write asks of the lease.
fn is_held(lease: &Lease) -> If {
    If::Has(vec![("epoch", number(lease.epoch)), ("released", AttributeValue::Bool(false))])
}

/// Why a write of a former holder is refused.
pub(super) fn fenced(lease: &Lease, now: Option<&Item>) -> StoreError {
    let epoch: u64 = now.and_then(|now| number_of(now, "epoch")).unwrap_or(0);
    let message = if epoch == lease.epoch {
        format!("lease `{}` was given up under epoch {}: this relay stops writing", lease.name, lease.epoch)
    } else {
        let holder = now.and_then(|now| text_of(now, "holder")).unwrap_or("nobody");
        format!(
            "lease `{}` was taken over by {holder} under epoch {epoch}; this relay had epoch {} and stops writing",
            lease.name, lease.epoch
        )
    };
    StoreError::new(ErrorKind::Fenced, message)
}

fn view(name: &str, found: Option<&Item>) -> Result<LeaseView, StoreError> {
    let Some(found) = found else {
        let (holder, duration) = (String::new(), Duration::ZERO);
        return Ok(LeaseView { epoch: 0, beat: 0, released: false, holder, duration });
    };
    let number = |what| number_of::<u64>(found, what).ok_or_else(|| damaged("lease", name, what));
    Ok(LeaseView {
        epoch: number("epoch")?,
        beat: number("beat")?,
        released: flag_of(found, "released"),
        holder: text_of(found, "holder").unwrap_or_default().to_owned(),
        duration: Duration::from_millis(number("duration_ms")?),
    })
}

impl Books {
    /// The action that looks that `lease` is held.
    pub(super) fn held(&self, lease: &Lease) -> Result<TransactWriteItem, StoreError> {
        self.actions().check(&row(&lease.name), is_held(lease))
    }

    /// Refuses what writes nothing, as it would be refused if it wrote.
    pub(super) async fn expect_held(&self, lease: &Lease) -> Result<(), StoreError> {
        let found = self.get(&row(&lease.name), "reading a lease").await?;
        let view = view(&lease.name, found.as_ref())?;
        if view.epoch == lease.epoch && !view.released && lease.epoch > 0 {
            return Ok(());
        }
        Err(fenced(lease, found.as_ref()))
    }

    pub(super) async fn lease(&self, name: &str) -> Result<LeaseView, StoreError> {
        let found = self.get(&row(name), "reading a lease").await?;
        view(name, found.as_ref())
    }

    pub(super) async fn take(
        &self,
        name: &str,
        seen: &LeaseView,
        holder: &str,
        duration: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        const TAKING: &str = "taking a lease";
        let condition = if seen.epoch == 0 {
            If::Absent
        } else {
            If::Has(vec![
                ("epoch", number(seen.epoch)),
                ("beat", number(seen.beat)),
                ("released", AttributeValue::Bool(seen.released)),
            ])
        };
        let (nonce, lease) = (self.calls.token(), Lease { name: name.to_owned(), epoch: seen.epoch + 1 });
        let change = Change {
            set: vec![
                ("epoch", number(lease.epoch)),
                ("beat", number(seen.beat + 1)),
                ("released", AttributeValue::Bool(false)),
                ("holder", text(holder)),
                ("duration_ms", number(duration.as_millis())),
                ("taken_by", text(&nonce)),
            ],
            ..Change::default()
        };
        if let Updated::Done(_) = self.update(&row(name), change, condition, TAKING).await? {
            self.sweep_leftovers(&lease, duration / SWEEPING).await;
            return Ok(Some(lease));
        }
        // The answer to an attempt may have been lost that did take it.
        let now = self.get(&row(name), TAKING).await?;
        let taken = now.is_some_and(|now| text_of(&now, "taken_by") == Some(&nonce));
        Ok(taken.then_some(lease))
    }

    /// Deletes what former owners left. The lease is taken, whatever becomes of this, and nobody renews it before it returns.
    async fn sweep_leftovers(&self, lease: &Lease, time: Duration) {
        if time.is_zero() {
            return;
        }
        let sweeping = async { [self.sweep_staged(lease).await, self.sweep_all_passed().await] };
        let Ok(swept) = timeout(time, sweeping).await else {
            tracing::warn!("there was no time to sweep all that a former owner left: the next one goes on");
            return;
        };
        for error in swept.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "what a former owner left is swept by the next one");
        }
    }

    pub(super) async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        const RENEWING: &str = "renewing a lease";
        let change = Change { add: vec![("beat", number(1))], ..Change::default() };
        match self.update(&row(&lease.name), change, is_held(lease), RENEWING).await? {
            Updated::Done(_) => Ok(()),
            Updated::Refused => Err(fenced(lease, self.get(&row(&lease.name), RENEWING).await?.as_ref())),
        }
    }

    pub(super) async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let change = Change { set: vec![("released", AttributeValue::Bool(true))], ..Change::default() };
        self.update(&row(&lease.name), change, is_held(lease), "giving up a lease").await.map(drop)
    }

    /// Those noted under the id that the bookkeeping has now.
    pub(super) async fn claims(&self, name: &str) -> Result<Vec<Claim>, StoreError> {
        const READING: &str = "reading the claims";
        let (identity, found) = (self.identity().await?, self.get(&row(name), READING).await?);
        let Some(found) = found else { return Ok(Vec::new()) };
        if number_of::<u64>(&found, "claims_of") != Some(identity.version) {
            return Ok(Vec::new());
        }
        let noted: Vec<(u64, String)> = text_of(&found, "claims")
            .and_then(|claims| serde_json::from_str(claims).ok())
            .ok_or_else(|| damaged("lease", name, "claims"))?;
        let claim = |(epoch, nonce)| Claim { bookkeeping: identity.id.clone(), epoch, nonce };
        Ok(noted.into_iter().map(claim).collect())
    }

    pub(super) async fn note_claims(&self, lease: &Lease, claims: &[Claim]) -> Result<(), StoreError> {
        const NOTING: &str = "noting a claim";
        let identity = self.identity().await?;
        let mut noted: Vec<_> = claims.iter().map(|claim| (claim.epoch, claim.nonce.as_str())).collect();
        noted.sort_unstable();
        noted.dedup();
        let noted = serde_json::to_string(&noted)
            .map_err(|error| StoreError::new(ErrorKind::Invalid, format!("{NOTING}: {error}")))?;
        let set = vec![("claims", text(noted)), ("claims_of", number(identity.version))];
        match self.update(&row(&lease.name), Change { set, ..Change::default() }, is_held(lease), NOTING).await? {
            Updated::Done(_) => Ok(()),
            Updated::Refused => Err(fenced(lease, self.get(&row(&lease.name), NOTING).await?.as_ref())),
        }
    }
}
