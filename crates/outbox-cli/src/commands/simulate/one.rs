//! One schedule, or a part of it, before everybody's eyes.

use outbox::testing::simulator::{Played, Schedule, attempt};
use serde_json::json;

use super::{Args, Part, no_runtime, texts};
use crate::{
    exit::{Exit, Failure, Outcome},
    output::Output,
};

/// Plays the schedule of `args.seed`, all of it or what `--only` says.
pub(super) fn run(out: Output, args: &Args) -> Outcome {
    if args.schedules.is_some_and(|schedules| schedules != 1) {
        return Err(Failure::usage("--trace and --only are for one schedule; nothing was done")
            .help("leave --schedules out, and say which with --seed"));
    }
    if args.threads.is_some() {
        return Err(Failure::usage(
            "--threads is for many schedules, and --trace and --only are for one; nothing was done",
        )
        .help("leave --threads out"));
    }
    let schedule = chosen(Schedule::draw(args.seed), args.only.as_ref())?;
    let played = attempt(&schedule, args.trace).map_err(|error| no_runtime(&error))?;
    show(out, &schedule, &played);
    Ok(if played.breaches.is_empty() { Exit::Ok } else { Exit::Failed })
}

fn chosen(whole: Schedule, part: Option<&Part>) -> Result<Schedule, Failure> {
    let Some(Part(kept)) = part else { return Ok(whole) };
    let seed = whole.seed;
    if let Some(unknown) = kept.iter().find(|&&number| !whole.numbers().any(|own| own == number)) {
        let there_are = match (whole.numbers().next(), whole.numbers().next_back()) {
            (Some(first), Some(last)) => format!("its incidents are {first} to {last}"),
            _ => "it has no incidents".to_owned(),
        };
        return Err(Failure::usage(format!("--only: seed {seed} has no incident {unknown}; nothing was done"))
            .help(format!("{there_are}: `outbox simulate --seed {seed} --trace` shows them")));
    }
    Ok(whole.only(kept))
}

fn show(out: Output, schedule: &Schedule, played: &Played) {
    if out.json {
        let [world, incidents] = texts(schedule);
        let breaches: Vec<String> = played.breaches.iter().map(ToString::to_string).collect();
        out.value(&json!({
            "seed": schedule.seed,
            "only": schedule.numbers().collect::<Vec<_>>(),
            "world": world,
            "incidents": incidents,
            "trace": played.trace,
            "breaches": breaches,
        }));
        return;
    }
    out.line(schedule.to_string());
    for line in &played.trace {
        out.line(line);
    }
    for breach in &played.breaches {
        out.line(out.paint.bad(&breach.to_string()));
    }
    if played.breaches.is_empty() {
        out.line(out.paint.good("every point of the contract held"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Paint;

    #[test]
    fn a_part_that_is_not_there_is_refused_with_what_is() {
        let last = Schedule::draw(7).len() - 1;
        let failure = chosen(Schedule::draw(7), Some(&Part(vec![0, 999]))).unwrap_err();
        assert_eq!(failure.code(), Exit::Usage);
        let shown = failure.shown(Paint::plain());
        assert!(shown.contains("no incident 999") && shown.contains(&format!("0 to {last}")), "{shown}");
    }

    #[test]
    fn no_incident_at_all_is_a_part_too() {
        assert!(chosen(Schedule::draw(7), Some(&Part(Vec::new()))).unwrap().is_empty());
        assert!(!chosen(Schedule::draw(7), None).unwrap().is_empty());
    }
}
