//! The suite that every inbox store passes.

use crate::fixture::Bench;

outbox::inbox_conformance!(Bench::new());
