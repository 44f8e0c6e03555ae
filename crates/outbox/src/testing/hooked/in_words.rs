//! What calls ask for and what they answer, in words that fit a line.

use std::{fmt::Display, sync::Arc};

use crate::{
    bookkeeping::{
        Checkpoint, DeadLetter, Front, FrontState, HealthState, Keep, KeepOutcome, Kept, KeptCounts, KeptId, Lane,
        Lease, LeaseView, Replay, RouteHealth, Selector, SettleOutcome, Settlement, Trouble,
    },
    entry::{Content, Position, Record},
    event::Key,
    route::RouteName,
    sink::{Batch, Outcome},
    source::{Backlog, Page, Partition, PartitionId, Recovery},
    store::{Agreement, Claim, Purged, Registration, Retention, StoreIdentity, Witness},
};

/// Something that a call asks for or answers, as a trace shows it to people: never a payload.
pub trait InWords: Send + Sync {
    /// On one line; empty if there is nothing to say.
    fn in_words(&self) -> String;
}

/// Of a longer list, so many are shown.
const SHOWN: usize = 12;

/// What is there, separated by a space each.
fn joined(words: impl IntoIterator<Item = String>) -> String {
    let words: Vec<String> = words.into_iter().filter(|words| !words.is_empty()).collect();
    words.join(" ")
}

/// Of an identity no more than tells it from the others.
fn brief(id: &str) -> String {
    id.chars().take(8).collect()
}

/// `words` if `is_so`, otherwise nothing.
fn noted(is_so: bool, words: &str) -> String {
    if is_so { words.to_owned() } else { String::new() }
}

/// Those that are shown as they are.
macro_rules! as_displayed {
    ($($displayed:ty),*) => {
        $(impl InWords for $displayed {
            fn in_words(&self) -> String {
                self.to_string()
            }
        })*
    };
}

as_displayed!(str, String, Arc<str>, u32, u64, bool, PartitionId, RouteName, Key);

/// With what identifies a commit in it cut short.
impl InWords for Position {
    fn in_words(&self) -> String {
        let mut words = String::new();
        let mut hex = 0;
        for character in self.to_string().chars() {
            hex = if character.is_ascii_hexdigit() { hex + 1 } else { 0 };
            match hex {
                // A time in milliseconds has 13 digits.
                14 => {
                    words.truncate(words.len() - 7);
                    words.push('…');
                }
                15.. => {}
                _ => words.push(character),
            }
        }
        words
    }
}

/// A position that something is asked for behind.
pub(super) struct After<'a>(pub(super) &'a Position);

impl InWords for After<'_> {
    fn in_words(&self) -> String {
        format!("after {}", self.0.in_words())
    }
}

impl InWords for () {
    fn in_words(&self) -> String {
        String::new()
    }
}

impl<T: InWords + ?Sized> InWords for &T {
    fn in_words(&self) -> String {
        (**self).in_words()
    }
}

impl<T: InWords> InWords for Arc<T> {
    fn in_words(&self) -> String {
        (**self).in_words()
    }
}

impl<T: InWords> InWords for Option<T> {
    fn in_words(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), InWords::in_words)
    }
}

impl<T: InWords> InWords for [T] {
    fn in_words(&self) -> String {
        if self.is_empty() {
            return "nothing".to_owned();
        }
        let mut shown: Vec<String> = self.iter().take(SHOWN).map(InWords::in_words).collect();
        if self.len() > SHOWN {
            shown.push(format!("… {} in all", self.len()));
        }
        shown.join(", ")
    }
}

impl<T: InWords> InWords for Vec<T> {
    fn in_words(&self) -> String {
        self.as_slice().in_words()
    }
}

impl<T: InWords, E: Display + Send + Sync> InWords for Result<T, E> {
    fn in_words(&self) -> String {
        self.as_ref().map_or_else(|error| format!("failed: {error}"), InWords::in_words)
    }
}

impl<A: InWords, B: InWords> InWords for (A, B) {
    fn in_words(&self) -> String {
        joined([self.0.in_words(), self.1.in_words()])
    }
}

impl<A: InWords, B: InWords, C: InWords> InWords for (A, B, C) {
    fn in_words(&self) -> String {
        joined([self.0.in_words(), self.1.in_words(), self.2.in_words()])
    }
}

impl InWords for Partition {
    fn in_words(&self) -> String {
        let parents =
            if self.parents.is_empty() { String::new() } else { format!("behind {}", self.parents.in_words()) };
        joined([self.id.to_string(), parents])
    }
}

impl InWords for Record {
    fn in_words(&self) -> String {
        match &self.content {
            Content::Events(events) => joined(events.iter().map(|event| event.id().to_owned())),
            Content::Undecodable(row) => format!("{} (cannot be read)", row.id),
        }
    }
}

impl InWords for Page {
    fn in_words(&self) -> String {
        let further = if self.end { noted(true, "and the end") } else { noted(self.more, "and more") };
        joined([self.records.in_words(), format!("up to {}", self.next.in_words()), further])
    }
}

impl InWords for Backlog {
    fn in_words(&self) -> String {
        let Self { entries, exact, .. } = self;
        joined([noted(!exact, "about"), format!("{entries} behind")])
    }
}

impl InWords for Recovery {
    fn in_words(&self) -> String {
        format!("{} from {}", self.partition, self.position.in_words())
    }
}

impl InWords for StoreIdentity {
    fn in_words(&self) -> String {
        let claim = self.claim.as_ref().map_or_else(|| "not claimed".to_owned(), InWords::in_words);
        format!("{} incarnation {}, {claim}", brief(&self.id), self.incarnation)
    }
}

impl InWords for Claim {
    fn in_words(&self) -> String {
        format!("claimed by {} in epoch {}", brief(&self.bookkeeping), self.epoch)
    }
}

impl InWords for Registration {
    fn in_words(&self) -> String {
        joined([self.route.to_string(), noted(self.gapless, "gapless")])
    }
}

impl InWords for Retention {
    fn in_words(&self) -> String {
        match self {
            Self::Off => "off".to_owned(),
            Self::Before(time) => format!("before {time}"),
            Self::Newest(entries) => format!("all but the newest {entries}"),
        }
    }
}

impl InWords for Purged {
    fn in_words(&self) -> String {
        joined([format!("{} entries", self.entries), noted(self.more, "and more")])
    }
}

impl InWords for Witness {
    fn in_words(&self) -> String {
        self.position.in_words()
    }
}

impl InWords for Agreement {
    fn in_words(&self) -> String {
        match self {
            Self::Whole => "whole".to_owned(),
            Self::Lost { agreed, lost, behind } => {
                format!("lost: agreed {}, lost {}, {behind} behind", agreed.in_words(), lost.in_words())
            }
        }
    }
}

impl InWords for Lease {
    fn in_words(&self) -> String {
        format!("epoch {}", self.epoch)
    }
}

impl InWords for LeaseView {
    fn in_words(&self) -> String {
        let Self { epoch, beat, released, holder, .. } = self;
        joined([format!("{holder:?} epoch {epoch} beat {beat}"), noted(*released, "released")])
    }
}

impl InWords for Checkpoint {
    fn in_words(&self) -> String {
        joined([format!("{} at {}", self.partition, self.position.in_words()), noted(self.finished, "finished")])
    }
}

impl InWords for Lane {
    fn in_words(&self) -> String {
        self.to_text()
    }
}

impl InWords for KeptId {
    fn in_words(&self) -> String {
        format!("#{}", self.0)
    }
}

impl InWords for Front {
    fn in_words(&self) -> String {
        let state = match &self.state {
            FrontState::Retrying { due } => format!("again at {due}"),
            FrontState::Dead => "dead".to_owned(),
            FrontState::Discarded { .. } => "discarded".to_owned(),
        };
        format!("{state} after {} attempts", self.attempts)
    }
}

impl InWords for Trouble {
    fn in_words(&self) -> String {
        let Self { lane, generation, front, kept } = self;
        format!("{} ({}, {kept} kept, generation {generation})", lane.to_text(), front.in_words())
    }
}

impl InWords for Kept {
    fn in_words(&self) -> String {
        format!("{} {}", self.id.in_words(), self.content.id())
    }
}

impl InWords for Keep {
    fn in_words(&self) -> String {
        let events: Vec<&str> = self.events.iter().map(|(content, _)| content.id()).collect();
        let front = self.front.as_ref().map_or_else(|| "behind its front".to_owned(), InWords::in_words);
        format!("{}: {}, {front}", self.lane.to_text(), events.in_words())
    }
}

impl InWords for KeepOutcome {
    fn in_words(&self) -> String {
        match self {
            Self::Stored { generation } => format!("generation {generation}"),
            Self::KeyFree => "the key is free".to_owned(),
        }
    }
}

impl InWords for Settlement {
    fn in_words(&self) -> String {
        let Self { lane, generation, remove, apart, discarded, front } = self;
        joined([
            format!("{} generation {generation}: removes {}", lane.to_text(), remove.in_words()),
            apart.as_ref().map_or_else(String::new, |apart| format!("sets apart {}", apart.lane.to_text())),
            noted(*discarded, "as discarded"),
            front.as_ref().map_or_else(String::new, |front| format!("leaves {}", front.in_words())),
        ])
    }
}

impl InWords for SettleOutcome {
    fn in_words(&self) -> String {
        match self {
            Self::Released => "released".to_owned(),
            Self::Left(left) => format!("{left} left"),
            Self::Changed => "changed meanwhile".to_owned(),
        }
    }
}

impl InWords for KeptCounts {
    fn in_words(&self) -> String {
        let Self { retrying, dead, parked, .. } = self;
        format!("{retrying} retrying, {dead} dead, {parked} parked")
    }
}

impl InWords for Selector {
    fn in_words(&self) -> String {
        let one = self.id.map(|id| id.in_words());
        let words = joined([one, self.key.as_ref().map(Key::to_string), self.kind.clone()].into_iter().flatten());
        if words.is_empty() { "all".to_owned() } else { words }
    }
}

impl InWords for DeadLetter {
    fn in_words(&self) -> String {
        self.kept.in_words()
    }
}

impl InWords for RouteHealth {
    fn in_words(&self) -> String {
        match &self.state {
            HealthState::Flowing => "flowing".to_owned(),
            HealthState::BackingOff { reason } => format!("backing off: {reason}"),
            HealthState::Overloaded => "overloaded".to_owned(),
            HealthState::Recovering { reason } => format!("recovering: {reason}"),
            HealthState::Stopped { reason } => format!("stopped: {reason}"),
        }
    }
}

impl InWords for Replay {
    fn in_words(&self) -> String {
        joined([self.id.clone(), noted(self.finished, "finished")])
    }
}

impl InWords for Batch {
    fn in_words(&self) -> String {
        let events: Vec<&str> = self.events.iter().map(|event| event.id()).collect();
        let replay = self.replay.as_ref().map_or_else(String::new, |replay| format!("by replay {replay}"));
        joined([events.in_words(), replay])
    }
}

impl InWords for Outcome {
    fn in_words(&self) -> String {
        match self {
            Self::Accepted => "accepted".to_owned(),
            Self::Throttled { .. } => "throttled".to_owned(),
            Self::Refused { permanent: true, .. } => "refused for good".to_owned(),
            Self::Refused { permanent: false, .. } => "refused".to_owned(),
            Self::Failed { .. } => "failed".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_in_a_position_is_cut_short_and_a_time_is_not() {
        let position = Position::new("12:90ac434b79fc9b9a8cf3373bc51fbc8a@s3.1.1767225600357");
        assert_eq!(position.in_words(), "12:90ac43…@s3.1.1767225600357");
    }

    #[test]
    fn a_long_list_says_how_many_there_are() {
        let numbers: Vec<u64> = (1..=40).collect();
        assert_eq!(numbers.in_words(), "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, … 40 in all");
        assert_eq!(Vec::<u64>::new().in_words(), "nothing");
    }
}
