//! The points in a relay's life at which it may die.

use std::fmt;

use crate::testing::io::Io;

/// Before an I/O, or after it took effect and before its answer is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Nothing has taken effect yet.
    Before,
    /// It took effect, and nobody knows yet.
    After,
}

impl Side {
    /// One and the other.
    pub const BOTH: [Self; 2] = [Self::Before, Self::After];

    /// `before` or `after`: schedules of crashes are written with it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One point in a relay's life at which it may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step {
    /// Which one, from 1.
    pub number: u64,
    /// Which I/O.
    pub io: Io,
    /// Before or after it.
    pub side: Side,
}
