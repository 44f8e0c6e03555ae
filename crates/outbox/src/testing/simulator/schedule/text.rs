//! A schedule as people read it.

use std::{fmt, iter};

use super::{ConsumerScene, Incident, RouteScene, Scene, Schedule, SourceScene};

impl Schedule {
    /// The world, a line for each part of it.
    pub fn world(&self) -> Vec<String> {
        let Scene { source, keys, relays, routes, consumer, latency, retained } = &self.scene;
        let retained = retained.map_or_else(|| "all entries".to_owned(), |entries| format!("{entries} entries"));
        let mut lines = part("source", source.lines());
        lines.push(format!("          {keys} keys; {retained} are retained; an I/O takes up to {latency} µs"));
        lines.extend(part("relays", [relays.to_string()]));
        for (number, route) in routes.iter().enumerate() {
            lines.extend(part(&format!("route {number}"), route.lines()));
        }
        lines.extend(part("consumer", [consumer.to_string()]));
        lines
    }

    /// The incidents, a line each: number, time, what happens.
    pub fn incidents(&self) -> Vec<String> {
        let line = |Incident { number, at, what }: &Incident| format!("{number:>4}  {:>6} ms  {what}", at.as_millis());
        self.incidents.iter().map(line).collect()
    }
}

/// The lines of a part of the world, the first behind its name.
fn part(name: &str, lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let names = iter::once(name).chain(iter::repeat(""));
    names.zip(lines).map(|(name, line)| format!("{name:<10}{line}")).collect()
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.world().iter().chain(&self.incidents()).try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl SourceScene {
    /// What it is, and the habits that it has.
    fn lines(&self) -> Vec<String> {
        let (shards, page, habits) = match self {
            Self::Table => return vec!["a table in the order of commits".to_owned()],
            Self::Late => return vec!["a table whose rows become visible late".to_owned()],
            Self::Shards { shards, page, doubling, swapping, empty_pages, reordering } => {
                let habits = [
                    (doubling, "doubling"),
                    (swapping, "swapping"),
                    (empty_pages, "empty pages"),
                    (reordering, "reordering"),
                ];
                (shards, page, habits)
            }
        };
        let habits: Vec<_> = habits.iter().filter(|(has, _)| **has).map(|(_, habit)| *habit).collect();
        let stream = format!("a stream of {shards} shards, {page} records a page");
        if habits.is_empty() { vec![stream] } else { vec![stream, habits.join(", ")] }
    }
}

impl RouteScene {
    fn lines(&self) -> [String; 4] {
        let Self { ordered_calls, max_events, max_calls, window, window_bytes, key_share, troubled_keys, .. } = self;
        let Self { attempts, quick_attempts, goes_on, rate_limit, filter, .. } = self;
        let order = if *ordered_calls { "ordered" } else { "unordered" };
        let letters = if *goes_on { "goes on after" } else { "parks behind" };
        let rate = rate_limit.map_or_else(|| "no rate limit".to_owned(), |rate| format!("{rate} events a second"));
        [
            format!("{order} calls of {max_events} events, {max_calls} at a time; {rate}"),
            format!(
                "window of {window} events and {window_bytes} bytes, {key_share} of a key; {troubled_keys} keys in trouble"
            ),
            format!("{attempts} attempts, {quick_attempts} of them quick; {letters} dead letters"),
            format!("filter {filter:?}"),
        ]
    }
}

impl fmt::Display for ConsumerScene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{}", self.mode, if self.claims { ", with claims" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_the_world_has_a_line_that_fits_a_terminal() {
        for seed in 0..200 {
            let schedule = Schedule::draw(seed);
            let (world, text) = (schedule.world(), schedule.to_string());
            assert!(world.iter().all(|line| line.chars().count() <= 80), "{world:#?}");
            let parts: Vec<_> = world.iter().filter_map(|line| line.split_whitespace().next()).collect();
            assert!(["source", "relays", "route", "consumer"].iter().all(|part| parts.contains(part)), "{world:#?}");
            assert_eq!(text.lines().count(), world.len() + schedule.len());
        }
    }
}
