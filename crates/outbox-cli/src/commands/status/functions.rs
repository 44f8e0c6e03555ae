//! What functions of Lambda note of the routes that they publish: they are handed the stream, and no backlog of theirs can be
//! counted.

use jiff::Timestamp;
use outbox_aws::dynamodb::Watermark;
use serde::Serialize;

use super::report::{LostView, RouteView};
use crate::{config::Config, exit::Failure, wiring};

/// The function that publishes a route.
#[derive(Debug, Serialize)]
pub(crate) struct FunctionView {
    pub name: String,
    /// What was inserted until then was handed in, as far as is noted; what came since may be on its way.
    pub handed_in_until: Option<Timestamp>,
    /// When the first of those was inserted that the stream holds and nobody is handed, if the keeper found any.
    pub waiting_since: Option<Timestamp>,
}

/// Notes of each route how far its function is, and what its stream may have forgotten before that got it.
pub(super) async fn note(config: &Config, routes: &mut [RouteView]) -> Result<(), Failure> {
    let Some(watermarks) = wiring::watermarks(config).await? else { return Ok(()) };
    for view in routes {
        let (Some(route), Some(function)) = (config.route(&view.name), config.forwarders.get(&view.name)) else {
            continue;
        };
        let mark = watermarks.watermark(&route.settings.name).await?;
        let (handed_in_until, waiting_since) = (until(&mark), mark.waiting());
        view.function = Some(FunctionView { name: function.clone(), handed_in_until, waiting_since });
        // Where the keeper stands in the table says nothing about the stream.
        (view.backlog, view.backlog_exact, view.oldest) = (0, false, None);
        view.lost = mark.loss.map(|loss| LostView {
            since: loss.since,
            found: loss.found,
            reason: loss.reason,
            replay: loss.replay,
        });
    }
    Ok(())
}

/// As forwarders said, or as the keeper saw when it compared the stream with that.
fn until(mark: &Watermark) -> Option<Timestamp> {
    let seen = mark.seen.as_ref().map(|seen| seen.until);
    mark.handed_in().max(seen)
}

#[cfg(test)]
mod tests {
    use outbox_aws::dynamodb::Seen;

    use super::*;

    #[test]
    fn how_far_a_function_is_is_the_later_of_what_was_said_and_what_was_seen() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let seen = |until| Some(Seen { at: at(9), until: at(until), stream: "s".to_owned(), waiting: None });
        let mark = |current: Option<i64>, seen| Watermark { current: current.map(at), seen, ..Watermark::default() };
        assert_eq!(until(&mark(None, None)), None);
        assert_eq!(until(&mark(Some(5), None)), Some(at(5)));
        assert_eq!(until(&mark(Some(5), seen(7))), Some(at(7)));
        assert_eq!(until(&mark(Some(8), seen(7))), Some(at(8)));
    }
}
