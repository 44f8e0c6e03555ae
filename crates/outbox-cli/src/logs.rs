//! Log lines: on standard error, structured, and quiet unless asked.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{config::LogFormat, output::Paint};

/// Starts logging: warnings only, or more with each `verbose`. Libraries below Outbox never log below warnings, lest a
/// payload or a credential of theirs gets into the log.
pub(crate) fn start(format: LogFormat, verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let targets = Targets::new().with_default(LevelFilter::WARN).with_target("outbox", level);
    let registry = tracing_subscriber::registry();
    // Only a second start can fail, and then the first one stays.
    let _ = match format {
        LogFormat::Text => {
            let colours = Paint::for_terminal(std::io::stderr().is_terminal()).is_on();
            let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
            registry.with(lines).with(targets).try_init()
        }
        LogFormat::Json => {
            let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
            registry.with(lines).with(targets).try_init()
        }
    };
}
