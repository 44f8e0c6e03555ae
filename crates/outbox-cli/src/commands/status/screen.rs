//! What `status` knows, as text that fits 80 columns.

use jiff::Timestamp;

use crate::{
    config::Config,
    output::{Align, Cell, Paint, Table, age, counted, number, plain, short, since, width, wrapped},
};

use super::report::{LostView, RelayView, Report, RouteView, State};

/// The whole screen.
pub(crate) fn render(report: &Report, config: &Config, paint: Paint) -> String {
    let id: String = report.store.id.chars().take(8).collect();
    let store = format!(
        "{}  {}",
        config.store.database,
        paint.faint(&format!(
            "producer {}, id {id}…, incarnation {}",
            plain(&report.store.producer),
            report.store.incarnation
        ))
    );
    let mut lines = vec![
        format!("{} {store}", paint.faint("store")),
        if config.forwarders.is_empty() {
            format!("{} {}", paint.faint("relay"), relay(&report.relay, paint))
        } else {
            format!("{} {}", paint.faint("keeper"), keeper(&report.relay, paint))
        },
    ];
    if let Some(open) = &report.store.open_transaction {
        let since = age(since(open.since, report.at));
        let text = format!("open for {since}, and what it wrote is not there before it ends: {}", plain(&open.holder));
        lines.extend(wrapped(&text, width()).iter().map(|line| paint.warn(line)));
    }
    for slot in &report.store.unread_slots {
        lines.extend(wrapped(&plain(&slot.text), width()).iter().map(|line| paint.warn(line)));
    }
    lines.push(String::new());
    lines.push(table(&report.routes, report.at, paint));
    for replay in &report.replays {
        let left = counted(replay.left, "entry", "entries");
        let kept = match (replay.dead, replay.waiting) {
            (0, 0) => String::new(),
            (dead, waiting) => format!(", {}, {waiting} waiting", counted(dead, "dead letter", "dead letters")),
        };
        lines.push(format!("\nreplay {} to {}: {left} left{kept}", plain(&replay.id), plain(&replay.route)));
    }
    lines.extend(duplicates(&report.routes).iter().map(|line| paint.faint(line)));
    if report.routes.iter().any(|route| route.dead > 0) {
        lines.push(paint.faint("\noutbox dead-letters list shows what was given up on, and why"));
    }
    lines.join("\n")
}

/// What a crash of the relay would publish again: the bound, not what it would be now.
fn duplicates(routes: &[RouteView]) -> Vec<String> {
    let bound = |route: &RouteView| {
        route.duplicates_after_crash.map(|events| format!("{} {}", plain(&route.name), number(events)))
    };
    let bounds: Vec<_> = routes.iter().filter_map(bound).collect();
    if bounds.is_empty() {
        return Vec::new();
    }
    let mut lines = wrapped(&format!("duplicates after a crash at most: {}", bounds.join(", ")), width());
    lines.insert(0, String::new());
    lines
}

fn relay(relay: &RelayView, paint: Paint) -> String {
    let Some(holder) = &relay.holder else { return paint.warn("none has run yet: start `outbox relay`") };
    let holder = short(holder, 40);
    let detail = paint.faint(&format!("epoch {}, beat {}", relay.epoch, relay.beat));
    if relay.released {
        return format!(
            "{} {}",
            paint.warn("none runs"),
            paint.faint(&format!("(last was {holder}, stopped cleanly)"))
        );
    }
    if relay.killed {
        return format!("{} {}", paint.bad("none runs"), paint.faint(&format!("({holder} ended without draining)")));
    }
    match relay.silent_seconds {
        Some(seconds) if relay.is_silent() => {
            format!("{holder}  {detail}  {}", paint.bad(&format!("silent for {seconds} s")))
        }
        _ => format!("{holder}  {detail}"),
    }
}

/// A keeper beside functions has the lease for as long as an invocation takes.
fn keeper(lease: &RelayView, paint: Paint) -> String {
    match &lease.holder {
        None => paint.warn("none has run yet: its timer calls it once a minute"),
        Some(holder) if lease.released => {
            paint.faint(&format!("last was {}, and its timer calls the next one", short(holder, 40)))
        }
        Some(_) => relay(lease, paint),
    }
}

fn table(routes: &[RouteView], now: Timestamp, paint: Paint) -> String {
    let rates = routes.iter().any(|route| route.rate.is_some());
    let mut columns = vec![("ROUTE", Align::Left), ("BACKLOG", Align::Right), ("OLDEST", Align::Right)];
    if rates {
        columns.push(("RATE/S", Align::Right));
    }
    columns.extend([("RETRY", Align::Right), ("DEAD", Align::Right), ("PARKED", Align::Right), ("STATE", Align::Left)]);
    let mut table = Table::new(columns);
    for route in routes {
        let oldest =
            route.oldest.filter(|_| route.backlog > 0).map_or_else(|| "-".to_owned(), |time| age(since(time, now)));
        let mut cells: Vec<Cell> = vec![short(&route.name, 20).into(), backlog(route).into(), oldest.into()];
        if rates {
            cells.push(route.rate.map_or_else(|| "-".to_owned(), shown_rate).into());
        }
        cells.push(count(route.retrying, Paint::warn));
        cells.push(count(route.dead, Paint::bad));
        cells.push(count(route.parked, Paint::warn));
        cells.push(state(route, now));
        table.row(cells);
        if let Some(reason) = &route.reason {
            for line in wrapped(reason, 74) {
                table.note(paint.faint(&format!("    {line}")));
            }
        }
        for line in handed_in(route).iter().flat_map(|text| wrapped(text, 74)) {
            table.note(paint.faint(&format!("    {line}")));
        }
        if let Some(lost) = &route.lost {
            for line in wrapped(&what_is_lost(&route.name, lost), 74) {
                table.note(paint.bad(&format!("    {line}")));
            }
        }
    }
    table.render(paint)
}

/// A function's is not known.
fn backlog(route: &RouteView) -> String {
    if handed_in(route).is_some() { "-".to_owned() } else { number(route.backlog) }
}

/// How far the route's function is.
#[cfg(feature = "aws")]
fn handed_in(route: &RouteView) -> Option<String> {
    let function = route.function.as_ref()?;
    let name = plain(&function.name);
    Some(match (function.waiting_since, function.handed_in_until) {
        (Some(since), _) => {
            format!("the stream holds what function {name} is not handed, since {since:.0}: `outbox check`")
        }
        (None, Some(until)) => format!("handed to function {name} until {until:.0}; what came since may be on its way"),
        (None, None) => format!("nothing was handed to function {name} yet, as far as is noted"),
    })
}

#[cfg(not(feature = "aws"))]
fn handed_in(_: &RouteView) -> Option<String> {
    None
}

fn what_is_lost(route: &str, lost: &LostView) -> String {
    let LostView { since, reason, replay, .. } = lost;
    let remedy = match replay {
        None => format!("`outbox recover --route {}` shows what the table has of it", plain(route)),
        Some(replay) => format!("replay {} publishes it", plain(replay)),
    };
    format!("what was recorded since {since:.0} may be lost, for {}: {remedy}", plain(reason))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is small and not negative")]
fn shown_rate(rate: f64) -> String {
    number(rate.round() as u64)
}

fn count(count: u64, loud: fn(Paint, &str) -> String) -> Cell {
    if count == 0 { number(count).into() } else { Cell::painted(number(count), loud) }
}

fn state(route: &RouteView, now: Timestamp) -> Cell {
    let (name, paint): (&str, fn(Paint, &str) -> String) = match route.state {
        State::Flowing => return Cell::painted("flowing", Paint::good),
        State::New => return Cell::painted("new", Paint::faint),
        State::Paused => ("paused", Paint::warn),
        State::BackingOff => ("backing off", Paint::warn),
        State::Overloaded => ("overloaded", Paint::bad),
        State::Recovering => ("recovering", Paint::warn),
        State::Stopped => ("stopped", Paint::bad),
        State::NotConfigured => ("not configured", Paint::bad),
    };
    let since = route
        .since
        .map_or_else(String::new, |time| format!(" {}", age(since(time, now)).replace(" min", "m").replace(' ', "")));
    Cell::painted(format!("{name}{since}"), paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(state: State) -> RouteView {
        RouteView {
            name: "notifications".to_owned(),
            sink: None,
            configured: true,
            registered: true,
            gapless: Some(true),
            backlog: 1_234_567,
            backlog_exact: true,
            oldest: Some(Timestamp::UNIX_EPOCH),
            rate: Some(12_345.0),
            retrying: 12,
            dead: 3,
            parked: 1_234,
            duplicates_after_crash: Some(8_200),
            state,
            reason: Some(
                "https://notifications.example.com answered 503, and said nothing else about it at all".to_owned(),
            ),
            since: Some(Timestamp::UNIX_EPOCH),
            #[cfg(feature = "aws")]
            function: None,
            lost: None,
            standings: Vec::new(),
        }
    }

    #[test]
    fn the_table_fits_80_columns_in_every_state() {
        let now = Timestamp::from_second(3_600).unwrap();
        for state in [
            State::Flowing,
            State::Paused,
            State::BackingOff,
            State::Overloaded,
            State::Recovering,
            State::Stopped,
            State::New,
        ] {
            let text = table(&[route(state)], now, Paint::plain());
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= crate::output::WIDTH, "{widest}: {text}");
        }
    }
}
