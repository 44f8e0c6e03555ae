//! Compiles the Rust examples of the README and the guide, so that they cannot go stale.

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide.md")]
mod guide {}
