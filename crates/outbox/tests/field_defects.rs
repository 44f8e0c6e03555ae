//! How others lost, doubled or reordered events, one test each: `docs/field-defects.md` says who, and which tests elsewhere
//! guard the rest.

#![allow(clippy::unwrap_used, reason = "what supports a test fails it")]

#[path = "field_defects/answers.rs"]
mod answers;
#[path = "field_defects/failures.rs"]
mod failures;
#[path = "field_defects/ownership.rs"]
mod ownership;
#[path = "field_defects/restarts.rs"]
mod restarts;
#[path = "field_defects/rig.rs"]
mod rig;
