//! Log lines: JSON on standard error, which Lambda takes to the function's log group.

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Starts logging: warnings, and what Outbox has to say. Libraries below it never log below warnings, lest a payload or a
/// credential of theirs gets into the log.
pub fn start() {
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
    let targets = Targets::new().with_default(LevelFilter::WARN).with_target("outbox", LevelFilter::INFO);
    // Only a second start can fail, and then the first one stays.
    let _ = tracing_subscriber::registry().with(lines).with(targets).try_init();
}
