//! What became of an event that an inbox was given.

use jiff::Timestamp;
use serde::Serialize;

/// What became of an event. All but [`Refused`](Self::Refused) and [`Stopped`](Self::Stopped) is
/// durable, and the event may be acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    /// Its effect and its record are committed.
    Applied,
    /// It was applied, or kept, before: nothing was done.
    Duplicate,
    /// A newer one was applied before it, in mode `latest`: nothing was done.
    Superseded,
    /// It stands for nothing to do: the marker of a discarded event, or a change after a removal.
    Ignored,
    /// It is kept and waits.
    Parked(Waits),
    /// The handler asked for another attempt: it is kept and will be tried again.
    Retrying {
        /// Attempts so far.
        attempts: u32,
        /// When it will be tried again.
        due: Timestamp,
        /// What the handler said.
        reason: String,
    },
    /// It is kept as a dead letter of the consumer.
    DeadLetter {
        /// Why.
        reason: String,
    },
    /// The event itself cannot be taken: it has no place that the mode could judge it by, or a rule refuses it by name.
    /// Nothing was recorded, and it must not be acknowledged: it stays with its sender, as a dead letter there.
    Refused {
        /// What is wrong and what to do.
        reason: String,
    },
    /// The event's route does not bring every event of a key, and the mode needs them all. Nothing was recorded, and it
    /// must not be acknowledged: its key stops until somebody has mended the route.
    Stopped {
        /// What is wrong and what to do.
        reason: String,
    },
}

/// What a parked event waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Waits {
    /// Its predecessor, which has not come.
    Predecessor,
    /// The event before it in its key, which is in trouble.
    Trouble,
    /// The event that caused it.
    Cause,
    /// The event that creates what it changes.
    Create,
    /// Whoever has claimed it, or an event before it.
    Claim,
}

impl Applied {
    /// Whether the event may be acknowledged: what became of it is durable.
    pub fn may_be_acknowledged(&self) -> bool {
        match self {
            Self::Applied
            | Self::Duplicate
            | Self::Superseded
            | Self::Ignored
            | Self::Parked(_)
            | Self::Retrying { .. }
            | Self::DeadLetter { .. } => true,
            Self::Refused { .. } | Self::Stopped { .. } => false,
        }
    }

    /// The name of the outcome, as metrics have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded",
            Self::Ignored => "ignored",
            Self::Parked(_) => "parked",
            Self::Retrying { .. } => "retrying",
            Self::DeadLetter { .. } => "dead_letter",
            Self::Refused { .. } => "refused",
            Self::Stopped { .. } => "stopped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_has_one_name_in_metrics_and_in_json() {
        let (reason, due) = (String::new, Timestamp::UNIX_EPOCH);
        let outcomes = [
            Applied::Applied,
            Applied::Duplicate,
            Applied::Superseded,
            Applied::Ignored,
            Applied::Parked(Waits::Cause),
            Applied::Retrying { attempts: 1, due, reason: reason() },
            Applied::DeadLetter { reason: reason() },
            Applied::Refused { reason: reason() },
            Applied::Stopped { reason: reason() },
        ];
        for outcome in outcomes {
            let json = serde_json::to_value(&outcome).unwrap();
            let name = json.as_str().or_else(|| json.as_object()?.keys().next().map(String::as_str));
            assert_eq!(name, Some(outcome.name()));
        }
    }
}
