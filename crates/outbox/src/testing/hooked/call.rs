//! A call as a hook is told of it.

use std::fmt;

use super::InWords;
use crate::{bookkeeping::Lease, testing::Io};

/// A call of a backend, as its [`Hook`](super::Hook) is told of it.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// What it does.
    pub io: Io,
    /// The lease that it is done under, if it is a write to the bookkeeping.
    pub lease: Option<&'a Lease>,
    asked: &'a dyn InWords,
}

/// Its name and what it asks for, in words for people.
impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.asked.in_words();
        write!(f, "{}{}{asked}", self.io, if asked.is_empty() { "" } else { " " })
    }
}

impl<'a> Call<'a> {
    /// A call of `io`, which asks for `asked`.
    pub fn new(io: Io, asked: &'a dyn InWords) -> Self {
        Self { io, lease: None, asked }
    }

    /// The same, done under `lease`.
    #[must_use]
    pub fn under(self, lease: &'a Lease) -> Self {
        Self { lease: Some(lease), ..self }
    }
}
