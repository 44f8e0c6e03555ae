//! The smallest part of a schedule that still goes wrong.

use std::io;

use super::{attempt::attempt, rule::Breach, schedule::Schedule, world::Played};

/// The fewest incidents of `schedule` with which the same point of the contract is still broken, by number, and what then
/// goes wrong, with its trace. Leaves incidents out in ever smaller groups, until none can be spared, or `goes_on` says no:
/// what was found until then may have some to spare. A sound schedule, and one that comes to no end, stay whole.
///
/// # Errors
/// If no runtime or no thread could be made.
pub fn shrink(schedule: &Schedule, goes_on: impl Fn() -> bool) -> io::Result<(Vec<usize>, Played)> {
    shrink_with(schedule, goes_on, attempt)
}

/// The same, where `attempt` plays.
pub(super) fn shrink_with(
    schedule: &Schedule,
    goes_on: impl Fn() -> bool,
    attempt: impl Fn(&Schedule, bool) -> io::Result<Played>,
) -> io::Result<(Vec<usize>, Played)> {
    let all: Vec<usize> = schedule.numbers().collect();
    let whole = attempt(schedule, true)?;
    let Some(&Breach { rule, .. }) = whole.breaches.first() else { return Ok((all, whole)) };
    // It would be waited for again and again, and each time leaves a thread behind.
    let mut endless = rule.is_endless();
    let kept = smallest(all, |fewer| {
        if endless || !goes_on() {
            return Ok(None);
        }
        let played = attempt(&schedule.only(fewer), false)?;
        endless = played.breaches.iter().any(|breach| breach.rule.is_endless());
        // Another thing that goes wrong would lead astray.
        Ok(Some(played.breaches.iter().any(|breach| breach.rule == rule)))
    })?;
    let played = if kept.len() == schedule.len() { whole } else { attempt(&schedule.only(&kept), true)? };
    Ok((kept, played))
}

/// The fewest of `kept` that still are `enough`, none of which can be spared; what it has until then as soon as `enough`
/// does not say.
pub(super) fn smallest(
    mut kept: Vec<usize>,
    mut enough: impl FnMut(&[usize]) -> io::Result<Option<bool>>,
) -> io::Result<Vec<usize>> {
    let mut group = kept.len().div_ceil(2).max(1);
    loop {
        let mut spared = false;
        let mut from = 0;
        while from < kept.len() {
            let to = (from + group).min(kept.len());
            let fewer: Vec<usize> = kept[..from].iter().chain(&kept[to..]).copied().collect();
            match enough(&fewer)? {
                Some(true) => {
                    kept = fewer;
                    spared = true;
                }
                Some(false) => from = to,
                None => return Ok(kept),
            }
        }
        if group == 1 && !spared {
            return Ok(kept);
        }
        group = group.div_ceil(2).max(1);
    }
}
