//! Numbers of transactions, of which the log gives the lower half.

/// The number nearest to `near` whose lower half is `xid`.
pub(super) fn whole(xid: u32, near: u64) -> u64 {
    const HALF: u64 = 1 << 31;
    let low = near.wrapping_sub(HALF);
    // From 2^31 below to as many above there is exactly one.
    low.wrapping_add(u64::from(xid).wrapping_sub(low) & u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_numbers_go_on_where_their_lower_half_begins_again() {
        let high = 5_u64 << 32;
        assert_eq!(whole(11, high + 10), high + 11);
        assert_eq!(whole(u32::MAX, high + 10), high - 1);
        assert_eq!(whole(3, high - 10), high + 3);
        assert_eq!(whole(11, 10), 11);
    }
}
