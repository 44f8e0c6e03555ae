//! Outbox as functions of AWS Lambda.
//!
//! - The **forwarder** is invoked by the event source mapping of a table's stream, one function for each route. It publishes
//!   what it is handed, in order of keys, keeps what fails by name, and asks for the rest again when the sink as a whole is
//!   down ([`Forwarder`]).
//! - The **keeper** is invoked on a timer. It holds the lease for as long as there is something to do: it retries and
//!   redrives what is kept, and carries out replays ([`Keeper`]).
//!
//! Both are shells around the same machines as the relay's. `docs/lambda.md` tells it for users.

pub mod batch;
pub mod forwarder;
pub mod keeper;
mod logs;

pub use forwarder::Forwarder;
pub use keeper::Keeper;
pub use logs::start as start_logs;

use std::time::Duration;

use outbox::{Clock, Moment, RouteName};

/// The moment of an invocation's deadline, which the service gives in milliseconds since 1970.
pub fn deadline(clock: &dyn Clock, milliseconds: u64) -> Moment {
    let now = u64::try_from(clock.wall().as_millisecond()).unwrap_or(0);
    clock.moment() + Duration::from_millis(milliseconds.saturating_sub(now))
}

/// What an operator does about entries that the stream may have forgotten.
fn recover(route: &RouteName) -> String {
    format!("see what the table has of them by `outbox recover --route {route}`, and publish it with `--yes`")
}
