//! A webhook's target whose mood the test sets, and that notes every arrival.

pub(crate) use proof::crashes::target::{Answer, Target};
