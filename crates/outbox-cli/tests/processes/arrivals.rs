//! What arrived at a target, and whether it is what the contract promises.

pub(crate) use proof::crashes::arrivals::{Arrival, assert_whole_and_in_order, duplicates};
