//! A business store that deletes its entries by itself, as DynamoDB does; or says so, for it never comes to that here.

use std::time::Duration;

use async_trait::async_trait;
use outbox::{
    Position, RouteName, StoreError,
    memory::MemoryStore,
    store::{Agreement, BusinessStore, Claim, Purged, Registration, Retention, StoreIdentity, Witness},
};

pub(crate) struct Expiring {
    pub(crate) inner: MemoryStore,
    pub(crate) after: Duration,
}

#[async_trait]
impl BusinessStore for Expiring {
    fn expires_after(&self) -> Option<Duration> {
        Some(self.after)
    }

    async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        self.inner.identity().await
    }

    async fn claim(&self, claim: &Claim, seen: Option<&Claim>) -> Result<bool, StoreError> {
        self.inner.claim(claim, seen).await
    }

    async fn disown(&self) -> Result<(), StoreError> {
        self.inner.disown().await
    }

    async fn routes(&self) -> Result<Vec<Registration>, StoreError> {
        self.inner.routes().await
    }

    async fn register(&self, registration: Registration) -> Result<Registration, StoreError> {
        self.inner.register(registration).await
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        self.inner.rename_route(from, to).await
    }

    async fn retire_route(&self, route: &RouteName) -> Result<(), StoreError> {
        self.inner.retire_route(route).await
    }

    async fn purge(&self, passed: &Position, retention: Retention) -> Result<Purged, StoreError> {
        self.inner.purge(passed, retention).await
    }

    async fn agreement(&self, witnesses: &[Witness]) -> Result<Agreement, StoreError> {
        self.inner.agreement(witnesses).await
    }

    async fn raise_incarnation(&self, agreed: Option<&Position>, restamp: bool) -> Result<u32, StoreError> {
        self.inner.raise_incarnation(agreed, restamp).await
    }
}
