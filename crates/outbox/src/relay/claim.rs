//! Claiming the business store: one bookkeeping reads it, and only one copy of that.

use super::{builder::Parts, lease::Guard};
use crate::{
    entry::CommitId,
    error::{ErrorKind, StoreError},
    store::Claim,
};

/// Claims the store for the owner of the lease.
///
/// The bookkeeping notes each claim before it is made. Of two copies of a bookkeeping, both of which follow the same
/// claim, only one is let in: the other finds a claim in the store that it never noted.
pub(super) async fn claim(parts: &Parts, guard: &Guard) -> Result<(), StoreError> {
    let (lease, nonce) = (guard.lease(), CommitId(parts.entropy.sixteen()).to_string());
    let claim = Claim { bookkeeping: parts.bookkeeping.id().await?, epoch: lease.epoch, nonce };
    loop {
        let mut noted = parts.bookkeeping.claims(&lease.name).await?;
        noted.retain(|noted| *noted != claim);
        // Asked before anything is noted: while the store does not answer, the tries of hours would pile up.
        let held = parts.store.identity().await?.claim;
        if let Err(refusal) = may_follow(held.as_ref(), &claim, &noted) {
            // Says that the lease is lost, if it is: then the claim in the store is the next owner's.
            parts.bookkeeping.note_claims(lease, &noted).await?;
            return Err(refusal);
        }
        let noting: Vec<Claim> = noted.iter().chain([&claim]).cloned().collect();
        parts.bookkeeping.note_claims(lease, &noting).await?;
        match parts.store.claim(&claim, held.as_ref()).await {
            // None of the earlier ones can come to the store any more.
            Ok(true) => return parts.bookkeeping.note_claims(lease, std::slice::from_ref(&claim)).await,
            // Whoever came in between has its claim judged in the next round.
            Ok(false) => {}
            Err(error) => {
                if !error.is_uncertain() {
                    // It was not made, so nobody will follow it.
                    parts.bookkeeping.note_claims(lease, &noted).await?;
                }
                return Err(error);
            }
        }
    }
}

fn may_follow(held: Option<&Claim>, claim: &Claim, noted: &[Claim]) -> Result<(), StoreError> {
    let Some(held) = held.filter(|held| *held != claim && !held.is_followed_by(&claim.bookkeeping, noted)) else {
        return Ok(());
    };
    let message = if held.bookkeeping == claim.bookkeeping {
        format!(
            "the business store was claimed under epoch {} by another copy of bookkeeping {}: that copy is in use, or \
             this one is an old backup. Keep one of them; for this one, run `outbox adopt`",
            held.epoch, held.bookkeeping
        )
    } else {
        format!(
            "the business store is read by bookkeeping {}, not by {}: name that bookkeeping; if it is lost, run `outbox \
             adopt`",
            held.bookkeeping, claim.bookkeeping
        )
    };
    Err(StoreError::new(ErrorKind::Ownership, message))
}

#[cfg(test)]
mod tests {
    use super::{Claim, may_follow};
    use crate::error::ErrorKind;

    fn claim(epoch: u64, nonce: &str) -> Claim {
        Claim { bookkeeping: "books".to_owned(), epoch, nonce: nonce.to_owned() }
    }

    fn refusal(held: &Claim, claim: &Claim, noted: &[Claim]) -> String {
        let refusal = may_follow(Some(held), claim, noted).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Ownership);
        refusal.to_string()
    }

    #[test]
    fn a_claim_that_was_noted_may_be_followed_though_others_were_noted_since() {
        let noted = [claim(4, "crashed"), claim(5, "held"), claim(6, "crashed")];
        assert!(may_follow(Some(&claim(5, "held")), &claim(7, "own"), &noted).is_ok());
        assert!(may_follow(None, &claim(1, "own"), &[]).is_ok());
    }

    #[test]
    fn a_claim_whose_answer_was_lost_may_be_made_again() {
        assert!(may_follow(Some(&claim(5, "own")), &claim(5, "own"), &[claim(4, "before")]).is_ok());
    }

    #[test]
    fn of_two_copies_of_a_bookkeeping_the_second_is_refused_whatever_its_epoch() {
        for epoch in [5, 6, 7, 100] {
            let refused = refusal(&claim(6, "the copy's"), &claim(epoch, "own"), &[claim(5, "before the copy")]);
            assert!(refused.contains("another copy") && refused.contains("outbox adopt"), "{refused}");
        }
        refusal(&claim(1, "the copy's"), &claim(2, "own"), &[]);
    }

    #[test]
    fn an_older_copy_of_the_store_is_let_in_for_its_history_to_be_checked() {
        assert!(may_follow(Some(&claim(3, "old")), &claim(6, "own"), &[claim(5, "before")]).is_ok());
    }

    #[test]
    fn another_bookkeeping_is_refused_even_over_an_older_claim() {
        let held = Claim { bookkeeping: "others".to_owned(), ..claim(3, "theirs") };
        let refused = refusal(&held, &claim(6, "own"), &[claim(5, "before")]);
        assert!(refused.contains("read by bookkeeping others, not by books"), "{refused}");
    }
}
