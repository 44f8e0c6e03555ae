//! Delays between attempts: exponential with full jitter, from a seeded generator so that equal runs are equal.

use std::time::Duration;

use fastrand::Rng;

use crate::route::RetryPolicy;

/// Draws the delay before the attempt that follows `failures` failures: between nothing and twice as much as the time
/// before, up to the policy's longest.
pub(crate) fn delay(policy: &RetryPolicy, failures: u32, rng: &mut Rng) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let ceiling = policy.base_delay.saturating_mul(1 << doublings).min(policy.max_delay);
    let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(rng.u64(0..=nanos)).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_with_failures_and_stay_below_the_longest() {
        let policy = RetryPolicy::default();
        let mut rng = Rng::with_seed(7);
        let mut longest =
            |failures| (0..500).map(|_| delay(&policy, failures, &mut rng)).max().unwrap_or(Duration::ZERO);
        let (first, fourth, hundredth) = (longest(1), longest(4), longest(100));
        assert!(first <= policy.base_delay && fourth > policy.base_delay * 4);
        assert!(hundredth <= policy.max_delay && hundredth > policy.max_delay / 2);
    }
}
