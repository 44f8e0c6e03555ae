//! What proves Outbox, besides the tests of each crate: crashes of real processes, and planted bugs that have to be caught.
