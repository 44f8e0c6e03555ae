//! How much of the table's read capacity a recovery may take, and how long it will.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_dynamodb::types::{BillingMode, OnDemandThroughput, ProvisionedThroughputDescription, TableDescription};
use outbox::{Moment, StoreError};

use super::Inner;

/// What a new table that is paid by request gives at once.
///
/// Rule: "Initial throughput for on-demand capacity mode" of the developer guide.
const ON_DEMAND: i64 = 12_000;
/// What one unit reads consistently, in bytes.
const UNIT_BYTES: i64 = 4096;
/// A page takes at most what this long brings, so that a small table's other readers get their turn.
const PAGE_SECONDS: f64 = 2.0;

/// The table's size, and what may be taken of its capacity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    pub(super) items: u64,
    bytes: i64,
    pub(super) units_per_second: f64,
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "all of these are estimates")]
impl Capacity {
    fn of(table: &TableDescription, share: f64) -> Self {
        let on_demand = table.billing_mode_summary().and_then(|billing| billing.billing_mode());
        let provisioned =
            table.provisioned_throughput().and_then(ProvisionedThroughputDescription::read_capacity_units);
        let limit = table
            .on_demand_throughput()
            .and_then(OnDemandThroughput::max_read_request_units)
            .filter(|units| *units > 0);
        let units = match provisioned.filter(|units| *units > 0 && on_demand != Some(&BillingMode::PayPerRequest)) {
            Some(provisioned) => provisioned,
            None => limit.map_or(ON_DEMAND, |limit| limit.min(ON_DEMAND)),
        };
        Self {
            items: table.item_count().and_then(|count| u64::try_from(count).ok()).unwrap_or(0),
            bytes: table.table_size_bytes().unwrap_or(0),
            units_per_second: units as f64 * share,
        }
    }

    /// How long it takes to read the table, going by what DynamoDB says of its size, which is some hours old.
    pub(super) fn scan_seconds(&self) -> f64 {
        self.bytes as f64 / UNIT_BYTES as f64 / self.units_per_second
    }

    /// The same in milliseconds.
    pub(super) fn scan_milliseconds(&self) -> i64 {
        (self.scan_seconds() * 1000.0) as i64
    }

    /// How many items to read at once.
    pub(super) fn page(&self) -> Option<i32> {
        let bytes = self.units_per_second * PAGE_SECONDS * UNIT_BYTES as f64;
        let average = self.bytes as f64 / (self.items.max(1) as f64);
        // A page has 1 MB at most anyway.
        (bytes < 1_048_576.0).then(|| (bytes / average.max(1024.0)).clamp(1.0, 1000.0) as i32)
    }
}

/// When the next page may be read.
#[derive(Default)]
pub(super) struct Budget(Mutex<Option<Moment>>);

impl Budget {
    /// How long to wait for the next page.
    pub(super) fn wait(&self, now: Moment) -> Duration {
        let due = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        due.map_or(Duration::ZERO, |due| due.since(now))
    }

    /// So much was taken.
    pub(super) fn take(&self, now: Moment, units: f64, capacity: &Capacity) {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = due.unwrap_or(now).max(now);
        *due = Some(from + Duration::from_secs_f64((units / capacity.units_per_second).clamp(0.0, 3600.0)));
    }
}

impl Inner {
    /// As the table is now.
    pub(super) async fn capacity(&self) -> Result<Capacity, StoreError> {
        Ok(Capacity::of(&self.table().await?, self.options.recovery_share))
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::BillingModeSummary;

    use super::*;

    fn table(units: i64, bytes: i64) -> TableDescription {
        let provisioned = ProvisionedThroughputDescription::builder().read_capacity_units(units).build();
        let mode = if units > 0 { BillingMode::Provisioned } else { BillingMode::PayPerRequest };
        let billing = BillingModeSummary::builder().billing_mode(mode).build();
        let table = TableDescription::builder().provisioned_throughput(provisioned).billing_mode_summary(billing);
        table.item_count(bytes / 2048).table_size_bytes(bytes).build()
    }

    #[test]
    fn a_share_of_the_capacity_decides_how_long_it_takes() {
        let capacity = Capacity::of(&table(100, 4_096_000), 0.5);
        assert!((capacity.scan_seconds() - 20.0).abs() < 0.01, "{capacity:?}");
        let capacity = Capacity::of(&table(0, 4_096_000), 0.5);
        assert!((capacity.units_per_second - 6000.0).abs() < 0.01, "{capacity:?}");
    }

    #[test]
    fn a_small_table_is_read_in_small_pages() {
        assert_eq!(Capacity::of(&table(5, 2_048_000), 0.25).page(), Some(5));
        assert_eq!(Capacity::of(&table(0, 2_048_000), 0.25).page(), None);
    }

    #[test]
    fn what_was_taken_is_waited_for() {
        let (budget, capacity) = (Budget::default(), Capacity::of(&table(100, 0), 1.0));
        let now = Moment::default();
        assert_eq!(budget.wait(now), Duration::ZERO);
        budget.take(now, 50.0, &capacity);
        budget.take(now, 50.0, &capacity);
        assert_eq!(budget.wait(now), Duration::from_secs(1));
        assert_eq!(budget.wait(now + Duration::from_secs(2)), Duration::ZERO);
    }
}
