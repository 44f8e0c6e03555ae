//! The smallest part of a schedule that still goes wrong.

use std::io;

use super::{play::play, rule::Breach, schedule::Schedule, world::Played};

/// The fewest incidents of `schedule` with which something still goes wrong, by number, and what then goes wrong, with
/// its trace. Leaves incidents out in ever smaller groups, until none can be spared.
///
/// # Errors
/// If no runtime could be made.
pub fn shrink(schedule: &Schedule) -> io::Result<(Vec<usize>, Played)> {
    let Some(Breach { rule, .. }) = play(schedule, false)?.breaches.into_iter().next() else {
        return Ok((Vec::new(), play(schedule, true)?));
    };
    let mut kept: Vec<usize> = (0..schedule.len()).collect();
    let mut group = kept.len().div_ceil(2).max(1);
    loop {
        let mut spared = false;
        let mut from = 0;
        while from < kept.len() {
            let to = (from + group).min(kept.len());
            let fewer: Vec<usize> = kept[..from].iter().chain(&kept[to..]).copied().collect();
            // Another thing that goes wrong would lead astray.
            if play(&schedule.only(&fewer), false)?.breaches.iter().any(|breach| breach.rule == rule) {
                kept = fewer;
                spared = true;
            } else {
                from = to;
            }
        }
        if group == 1 && !spared {
            break;
        }
        group = group.div_ceil(2).max(1);
    }
    let played = play(&schedule.only(&kept), true)?;
    Ok((kept, played))
}
