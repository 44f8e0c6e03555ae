//! Business stores with a defect.

use std::sync::Arc;

use async_trait::async_trait;
use outbox::{
    BusinessStore, Position, RouteName, Source, StoreError, WriteError,
    memory::{ManualClock, MemoryStore, SeededEntropy},
    store::{Agreement, Claim, Purged, Registration, Retention, StoreIdentity, Witness},
    testing::{
        Opened, StoreUnderTest, Transaction, WriterUnderTest,
        conformance::business_store::{claims, retention, routes},
    },
    writer::{Receipt, Settled},
};
use tokio::task::yield_now;

#[derive(Clone, Copy, PartialEq)]
enum Defect {
    LooksThenClaims,
    DisownsThenClaims,
    AnswersWhatWasAsked,
    RetiresThenRegisters,
    PurgesToTheEnd,
    TakesPurgedForNeverCommitted,
}

struct Store(MemoryStore, Defect);

#[async_trait]
impl BusinessStore for Store {
    async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        self.0.identity().await
    }

    async fn claim(&self, claim: &Claim, seen: Option<&Claim>) -> Result<bool, StoreError> {
        let now = self.0.identity().await?.claim;
        if now.as_ref() != seen && now.as_ref() != Some(claim) {
            return Ok(false);
        }
        match self.1 {
            Defect::LooksThenClaims => {
                yield_now().await;
                let now = self.0.identity().await?.claim;
                self.0.claim(claim, now.as_ref()).await
            }
            Defect::DisownsThenClaims => {
                self.0.disown().await?;
                yield_now().await;
                self.0.claim(claim, None).await
            }
            _ => self.0.claim(claim, seen).await,
        }
    }

    async fn disown(&self) -> Result<(), StoreError> {
        self.0.disown().await
    }

    async fn routes(&self) -> Result<Vec<Registration>, StoreError> {
        self.0.routes().await
    }

    async fn register(&self, registration: Registration) -> Result<Registration, StoreError> {
        let known = self.0.routes().await?.into_iter().any(|route| route.route == registration.route);
        match self.1 {
            Defect::AnswersWhatWasAsked if !known => {
                yield_now().await;
                self.0.register(registration.clone()).await?;
                Ok(registration)
            }
            Defect::RetiresThenRegisters if known => {
                self.0.retire_route(&registration.route).await?;
                yield_now().await;
                self.0.register(registration).await
            }
            _ => self.0.register(registration).await,
        }
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        self.0.rename_route(from, to).await
    }

    async fn retire_route(&self, route: &RouteName) -> Result<(), StoreError> {
        self.0.retire_route(route).await
    }

    async fn purge(&self, passed: &Position, retention: Retention) -> Result<Purged, StoreError> {
        if self.1 != Defect::PurgesToTheEnd {
            return self.0.purge(passed, retention).await;
        }
        let partition = self.0.partitions().await?.remove(0).id;
        let plenty = outbox::source::Limit { events: usize::MAX, bytes: usize::MAX };
        let end = self.0.read(&partition, passed, plenty).await?.next;
        self.0.purge(&end, retention).await
    }

    async fn agreement(&self, witnesses: &[Witness]) -> Result<Agreement, StoreError> {
        self.0.agreement(witnesses).await
    }

    async fn raise_incarnation(&self, agreed: Option<&Position>, restamp: bool) -> Result<u32, StoreError> {
        self.0.raise_incarnation(agreed, restamp).await
    }
}

struct Service(MemoryStore, Defect);

impl Service {
    fn new(defect: Defect) -> Self {
        let (clock, entropy) = (Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(7)));
        Self(MemoryStore::new("/tests", clock, entropy).unwrap(), defect)
    }
}

#[async_trait]
impl WriterUnderTest for Service {
    async fn transact(&self, asked: Transaction) -> Result<Vec<Receipt>, WriteError> {
        let mut transaction = self.0.transaction();
        let mut receipts = Vec::new();
        for write in asked.writes {
            receipts.extend(transaction.write_expecting(write.expected, write.events)?);
        }
        if asked.end == outbox::testing::End::Commit {
            transaction.commit()?;
        }
        Ok(receipts)
    }

    async fn settled(&self, receipt: &Receipt) -> Settled {
        match self.0.settle(receipt) {
            Settled::Unknown if self.1 == Defect::TakesPurgedForNeverCommitted => Settled::NotCommitted,
            settled => settled,
        }
    }

    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.0.reopen())
    }
}

#[async_trait]
impl StoreUnderTest for Service {
    async fn open(&self) -> Opened {
        let store = self.0.reopen();
        Opened { source: Arc::new(store.clone()), store: Arc::new(Store(store, self.1)) }
    }

    async fn back_up(&self) {}

    async fn restore(&self) {}
}

#[tokio::test]
#[should_panic(expected = "of claimants one wins")]
async fn a_store_that_looks_then_claims_is_found() {
    claims::of_claimants_one_wins(&Service::new(Defect::LooksThenClaims)).await;
}

#[tokio::test]
#[should_panic(expected = "a dropped claim is made or not: None")]
async fn a_store_that_disowns_then_claims_is_found() {
    claims::a_dropped_claim_is_made_or_not(&Service::new(Defect::DisownsThenClaims)).await;
}

#[tokio::test]
#[should_panic(expected = "routes registered at once are one")]
async fn a_store_that_answers_what_was_asked_is_found() {
    routes::routes_registered_at_once_are_one(&Service::new(Defect::AnswersWhatWasAsked)).await;
}

#[tokio::test]
#[should_panic(expected = "a dropped registration is made or not: []")]
async fn a_store_that_retires_then_registers_is_found() {
    routes::a_dropped_registration_is_made_or_not(&Service::new(Defect::RetiresThenRegisters)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "a purge beside writers harms nobody")]
async fn a_store_that_purges_to_the_end_is_found() {
    retention::a_purge_beside_writers_harms_nobody(Arc::new(Service::new(Defect::PurgesToTheEnd))).await;
}

#[tokio::test]
#[should_panic(expected = "it was made, not NotCommitted")]
async fn a_store_that_takes_purged_for_never_committed_is_found() {
    let service = Service::new(Defect::TakesPurgedForNeverCommitted);
    retention::what_became_of_a_purged_commit_is_not_guessed(&service).await;
}
