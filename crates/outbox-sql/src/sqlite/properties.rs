//! What has to hold of every row that others wrote: each property once, as a function that panics where it does not
//! hold. The fuzz targets in `fuzz/` call these with bytes that the fuzzer makes up, the tests beside them with what
//! proptest does.

mod cell;
mod entries;
mod routes;
#[cfg(test)]
mod tests;

pub use cell::{Cell, cells};
pub use entries::{COLUMNS, entry_row};
pub use routes::{ROUTE_COLUMNS, route_row};

pub use super::bookkeeping::properties::{
    KEPT_COLUMNS, REPLAY_COLUMNS, TROUBLE_COLUMNS, kept_row, replay_row, trouble_row,
};

/// A row of one of the tables: the first byte says which, the others what stands in it.
///
/// # Panics
/// If a property does not hold.
pub fn stored_row(bytes: &[u8]) {
    let Some((table, bytes)) = bytes.split_first() else { return };
    match table % 4 {
        0 => kept_row(&cells(bytes)),
        1 => trouble_row(&cells(bytes)),
        2 => replay_row(&cells(bytes)),
        _ => route_row(&cells(bytes)),
    }
}
