//! The table of modes: what is to be done with an event, given what is known of its lane. Pure.

use jiff::Timestamp;

use super::{
    applied::Waits,
    settings::{InboxSettings, Join, Mode},
};
use crate::{
    bookkeeping::Lane,
    event::{Event, SKIPPED},
    inbox_store::{LaneId, LaneRecord, Life},
    place::{Place, Placing},
};

/// The highest sequence that a store can record.
const MAX_SEQUENCE: u64 = i64::MAX as u64;

/// By what an event is recognised and judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    /// By its id: it has no order.
    Id,
    /// By its place against the mark of its key.
    Place(Placing),
    /// By its time, written as a place of incarnation 0, against the mark of its key; and by its id.
    Time(Place),
    /// Not at all: the mode needs what the event does not have.
    Refused(String),
}

impl Basis {
    /// By what `event` is judged.
    pub(crate) fn of(mode: &Mode, event: &Event, now: Timestamp) -> Self {
        let placing = event.key().and(event.placing());
        if let Some(placing) = placing.filter(|placing| placing.place.sequence > MAX_SEQUENCE) {
            return Self::Refused(format!("place {} is beyond what can be recorded", placing.place));
        }
        match (mode, placing, event.key()) {
            (Mode::Once, _, _) | (Mode::Latest, None, None) | (Mode::AfterCause { .. }, None, _) => Self::Id,
            (Mode::Latest | Mode::InOrder | Mode::AfterCause { .. }, Some(placing), _) => Self::Place(*placing),
            (Mode::Latest, None, Some(_)) => Self::Time(place_of_time(event.time().unwrap_or(now))),
            (Mode::InOrder, None, _) => Self::Refused(
                "the event has no place, and mode `in_order` needs one: let its producer number its events by key, or use mode `once` or `latest`"
                    .to_owned(),
            ),
        }
    }

    /// What orders the event within its lane.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Place(placing) => placing.place,
            Self::Time(place) => *place,
            Self::Id | Self::Refused(_) => Place::ORIGIN,
        }
    }

    /// The place `other` of its lane as it compares with its own: times are compared without what sets events of one
    /// time apart.
    pub(crate) fn met(&self, other: Place) -> Place {
        match self {
            Self::Time(_) => Place { index: 0, ..other },
            Self::Place(_) | Self::Id | Self::Refused(_) => other,
        }
    }

    /// The place before it in its key, if it has one.
    pub(crate) fn after(&self) -> Option<Place> {
        match self {
            Self::Place(placing) => Some(placing.after),
            Self::Time(_) | Self::Id | Self::Refused(_) => None,
        }
    }

    /// Whether the event is recognised by its id.
    pub(crate) fn by_id(&self) -> bool {
        matches!(self, Self::Id | Self::Time(_))
    }

    /// The lane that the event belongs to.
    pub(crate) fn lane(&self, event: &Event) -> LaneId {
        let lane = match (self, event.key()) {
            (Self::Place(_) | Self::Time(_), Some(key)) => Lane::Key(key.clone()),
            _ => Lane::Event(event.id.clone()),
        };
        LaneId { producer: event.source.clone(), lane }
    }
}

/// Incarnation 0 is no producer's, so a time never passes for a place.
fn place_of_time(time: Timestamp) -> Place {
    Place::new(0, u64::try_from(time.as_microsecond()).unwrap_or(0), 0)
}

/// What is to be done with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was applied before: acknowledge.
    Duplicate,
    /// A newer one was applied: acknowledge.
    Superseded,
    /// There is nothing to do for it, but it counts: the mark moves on.
    Ignore,
    /// There is nothing to do for it, and it leaves no trace.
    Nothing,
    /// Its turn has come.
    Try {
        /// Because the producer's history went back behind the mark.
        history_back: bool,
    },
    /// Keep it until something else has come.
    Wait(Waits),
    /// Record nothing, acknowledge nothing, say why.
    Refuse(String),
    /// The same, because of the route.
    Stop(String),
}

/// How an event stands to the mark of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// At the mark or before it.
    Past,
    /// Next.
    Next {
        /// Because the producer's history went back behind the mark.
        history_back: bool,
    },
    /// Something is missing before it.
    Early,
}

/// Whether an event is next for a consumer whose mark is `mark`: if it follows the mark; or if it begins a higher
/// incarnation behind a place that the consumer has reached, for then what it has beyond was lost to the producer.
pub(crate) fn turn(mark: Place, placing: &Placing) -> Turn {
    let Placing { place, after, .. } = *placing;
    if place <= mark {
        Turn::Past
    } else if after == mark {
        Turn::Next { history_back: false }
    } else if place.incarnation > mark.incarnation && after <= mark {
        Turn::Next { history_back: true }
    } else {
        Turn::Early
    }
}

/// Judges an event against what is known of its lane. Whatever the lane keeps is not looked at.
pub(crate) fn judge(settings: &InboxSettings, record: &LaneRecord, basis: &Basis, event: &Event) -> Verdict {
    match basis {
        Basis::Refused(reason) => Verdict::Refuse(reason.clone()),
        Basis::Id if event.kind() == SKIPPED => Verdict::Ignore,
        Basis::Id => Verdict::Try { history_back: false },
        Basis::Place(placing) if settings.mode == Mode::Latest => {
            if placing.place == record.mark {
                return Verdict::Duplicate;
            }
            by_newest(settings, record, basis, event)
        }
        Basis::Time(_) if record.mark.incarnation > 0 => Verdict::Refuse(
            "the event has no place, but earlier events of its key had: let its producer number all events of a key, or none"
                .to_owned(),
        ),
        Basis::Time(_) => by_newest(settings, record, basis, event),
        Basis::Place(placing) => in_order(settings, record, placing, event),
    }
}

fn by_newest(settings: &InboxSettings, record: &LaneRecord, basis: &Basis, event: &Event) -> Verdict {
    // A marker says nothing of the state, and an older event that comes after it is still the newest state there is.
    if event.kind() == SKIPPED {
        return Verdict::Nothing;
    }
    if basis.place() < basis.met(record.mark) {
        return Verdict::Superseded;
    }
    if settings.kinds.change.contains(event.kind()) {
        match record.life {
            Life::Removed => return Verdict::Ignore,
            Life::Unknown if settings.join != Join::FirstSeen => return Verdict::Wait(Waits::Create),
            Life::Unknown | Life::Open => {}
        }
    }
    Verdict::Try { history_back: false }
}

fn in_order(settings: &InboxSettings, record: &LaneRecord, placing: &Placing, event: &Event) -> Verdict {
    let history_back = match turn(record.mark, placing) {
        Turn::Past => return Verdict::Duplicate,
        _ if !event.gapless() => {
            return Verdict::Stop(format!(
                "the route does not bring every event of a key (`gapless` is not true), and mode `{}` needs them all: give the route no filter by type or attribute, or use mode `once` or `latest`",
                settings.mode.name()
            ));
        }
        Turn::Next { history_back } => history_back,
        Turn::Early => return Verdict::Wait(Waits::Predecessor),
    };
    // Nothing comes between an event and its turn, so a change in its turn has no create to wait for.
    let after_removal = record.life == Life::Removed && settings.kinds.change.contains(event.kind());
    if event.kind() == SKIPPED || after_removal { Verdict::Ignore } else { Verdict::Try { history_back } }
}

/// The mark that an event meets: for a consumer that joins with whichever event of a key comes first, the place before
/// that event.
pub(crate) fn mark_met(settings: &InboxSettings, record: &LaneRecord, basis: &Basis) -> Place {
    match basis {
        Basis::Place(placing)
            if settings.join == Join::FirstSeen
                && settings.mode != Mode::Latest
                && record.mark == Place::ORIGIN
                && record.trouble.is_none() =>
        {
            placing.after
        }
        _ => record.mark,
    }
}

/// Whether what the key names is there once `event` is applied.
pub(crate) fn life_after(settings: &InboxSettings, life: Life, event: &Event) -> Life {
    let kinds = &settings.kinds;
    if kinds.create.contains(event.kind()) {
        Life::Open
    } else if kinds.remove.contains(event.kind()) {
        Life::Removed
    } else if life == Life::Unknown && kinds.change.contains(event.kind()) {
        Life::Open
    } else {
        life
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inbox::settings::Kinds, testing_event};

    fn placing(place: Place, after: Place) -> Placing {
        Placing { place, count: 1, after }
    }

    #[test]
    fn an_event_is_next_when_it_follows_the_mark() {
        let mark = Place::new(1, 41, 2);
        let next = |after| turn(mark, &placing(Place::new(1, 42, 0), after));
        assert_eq!(next(mark), Turn::Next { history_back: false });
        assert_eq!(next(Place::new(1, 41, 1)), Turn::Early);
        assert_eq!(turn(mark, &placing(mark, Place::new(1, 41, 1))), Turn::Past);
    }

    #[test]
    fn a_higher_incarnation_is_next_where_its_predecessor_was_reached() {
        let event = placing(Place::new(2, 41, 0), Place::new(1, 40, 0));
        assert_eq!(turn(Place::new(1, 40, 0), &event), Turn::Next { history_back: false });
        assert_eq!(turn(Place::new(1, 50, 0), &event), Turn::Next { history_back: true });
        assert_eq!(turn(Place::new(1, 38, 0), &event), Turn::Early);
        let second = placing(Place::new(2, 42, 0), Place::new(2, 41, 0));
        assert_eq!(turn(Place::new(1, 50, 0), &second), Turn::Early);
    }

    #[test]
    fn what_history_lost_is_past_for_ever() {
        assert_eq!(turn(Place::new(2, 41, 0), &placing(Place::new(1, 50, 0), Place::new(1, 49, 0))), Turn::Past);
    }

    #[test]
    fn a_key_born_again_after_the_loss_is_next() {
        let event = placing(Place::new(2, 1, 0), Place::ORIGIN);
        assert_eq!(turn(Place::new(1, 3, 0), &event), Turn::Next { history_back: true });
        assert_eq!(turn(Place::ORIGIN, &event), Turn::Next { history_back: false });
    }

    #[test]
    fn the_marker_of_a_discarded_event_without_a_key_is_passed_by() {
        let marker = testing_event(SKIPPED, None, 1);
        for mode in [Mode::Once, Mode::Latest] {
            let verdict = judge(&InboxSettings::new(mode), &LaneRecord::default(), &Basis::Id, &marker);
            assert_eq!(verdict, Verdict::Ignore);
        }
    }

    #[test]
    fn a_place_before_the_first_of_an_incarnation_is_not_next_within_it() {
        // The mark is in the incarnation, and nothing in it was reached by going back.
        let event = placing(Place::new(2, 45, 0), Place::new(1, 40, 0));
        assert_eq!(turn(Place::new(2, 41, 0), &event), Turn::Early);
    }

    #[test]
    fn what_the_key_names_is_there_from_its_create_to_its_removal() {
        let only = |kind: &str| [kind.to_owned()].into();
        let kinds = Kinds { create: only("made"), change: only("changed"), remove: only("gone") };
        let settings = InboxSettings { kinds, ..InboxSettings::new(Mode::InOrder) };
        let after = |life, kind| life_after(&settings, life, &testing_event(kind, Some("k"), 1));
        for life in [Life::Unknown, Life::Open, Life::Removed] {
            assert_eq!(after(life, "made"), Life::Open);
            assert_eq!(after(life, "gone"), Life::Removed);
            assert_eq!(after(life, "other"), life);
        }
        assert_eq!(after(Life::Unknown, "changed"), Life::Open);
        assert_eq!(after(Life::Removed, "changed"), Life::Removed);
    }

    #[test]
    fn a_time_is_never_later_than_a_place() {
        assert!(place_of_time(Timestamp::MAX) < Place::new(1, 1, 0));
        assert!(place_of_time(Timestamp::MIN) == Place::ORIGIN);
    }

    #[test]
    fn the_last_place_that_can_be_recorded_is_taken_and_none_beyond() {
        let basis =
            |sequence| Basis::of(&Mode::InOrder, &testing_event("t", Some("k"), sequence), Timestamp::UNIX_EPOCH);
        let place = |sequence| Place::new(1, sequence, 0);
        assert_eq!(basis(MAX_SEQUENCE).place(), place(MAX_SEQUENCE));
        assert_eq!(basis(MAX_SEQUENCE).after(), Some(place(MAX_SEQUENCE - 1)));
        for beyond in [1, 2] {
            assert!(matches!(basis(MAX_SEQUENCE + beyond), Basis::Refused(_)));
        }
        assert_eq!(basis(MAX_SEQUENCE - 1).place(), place(MAX_SEQUENCE - 1));
    }

    #[test]
    fn a_change_before_its_create_waits_unless_the_consumer_joins_with_whatever_comes_first() {
        let event = testing_event("changed", Some("k"), 1);
        let basis = Basis::of(&Mode::Latest, &event, Timestamp::UNIX_EPOCH);
        for (join, verdict) in
            [(Join::Beginning, Verdict::Wait(Waits::Create)), (Join::FirstSeen, Verdict::Try { history_back: false })]
        {
            let kinds = Kinds { change: ["changed".to_owned()].into(), ..Kinds::default() };
            let settings = InboxSettings { join, kinds, ..InboxSettings::new(Mode::Latest) };
            assert_eq!(judge(&settings, &LaneRecord::default(), &basis, &event), verdict);
        }
    }

    #[test]
    fn only_in_order_refuses_what_has_no_place() {
        let event = testing_event("t", None, 1);
        let after_cause = Mode::AfterCause { producers: [].into(), max_wait: std::time::Duration::ZERO };
        assert!(matches!(Basis::of(&Mode::InOrder, &event, Timestamp::UNIX_EPOCH), Basis::Refused(_)));
        for mode in [Mode::Once, Mode::Latest, after_cause] {
            assert_eq!(Basis::of(&mode, &event, Timestamp::UNIX_EPOCH), Basis::Id);
        }
    }
}
