//! A schedule that broke the contract, made small and readable.

use outbox::testing::simulator::{Failure as Failed, Schedule, shrink};

use super::no_runtime;
use crate::{
    exit::Failure,
    output::{Output, counted},
};

/// Lines of the trace before its end.
const LAST: usize = 60;

/// Shows the smallest part of the schedule that still goes wrong, what happens in it, and how to see it again.
///
/// # Errors
/// [`Failure`] if no runtime could be made.
pub(super) fn explain(out: Output, failed: &Failed) -> Result<(), Failure> {
    let whole = Schedule::draw(failed.seed);
    let waiting = out.waiting("looking for the smallest schedule that still goes wrong");
    let shrunk = shrink(&whole);
    waiting.finish_and_clear();
    let (kept, played) = shrunk.map_err(|error| no_runtime(&error))?;
    out.line(out.paint.strong(&format!(
        "\nseed {}, with {} of its {}",
        failed.seed,
        kept.len(),
        counted(whole.len() as u64, "incident", "incidents"),
    )));
    out.line(whole.only(&kept).to_string());
    let hidden = played.trace.len().saturating_sub(LAST);
    if hidden > 0 {
        out.line(out.paint.faint(&format!("{} before", counted(hidden as u64, "line", "lines"))));
    }
    for line in &played.trace[hidden..] {
        out.line(line);
    }
    for breach in &played.breaches {
        out.line(out.paint.bad(&breach.to_string()));
    }
    let only: Vec<String> = kept.iter().map(ToString::to_string).collect();
    let part = if only.is_empty() { String::new() } else { format!(" --only {}", only.join(",")) };
    out.line(format!("\nall of it: outbox simulate --seed {} --schedules 1 --trace", failed.seed));
    out.line(format!("this part: outbox simulate --seed {} --schedules 1 --trace{part}", failed.seed));
    Ok(())
}
