//! The sinks that come with this crate: webhooks, a file, standard output, and nothing.
//!
//! Backends with dependencies of their own have their sinks in their own crates.

mod alone;
mod file;
mod lines;
mod null;
mod stdout;
#[cfg(feature = "webhook")]
pub mod webhook;

pub use file::{FileSink, FileSinkError};
pub use lines::LIMITS as LINE_LIMITS;
pub use null::NullSink;
pub use stdout::StdoutSink;
#[cfg(feature = "webhook")]
pub use webhook::{Encoding, SettingsError, WebhookSettings, WebhookSink};
