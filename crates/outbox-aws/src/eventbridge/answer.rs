//! What became of each entry of a call that was answered.

use aws_sdk_eventbridge::types::PutEventsResultEntry;
use outbox::{Fault, Outcome, SinkError};

use super::meaning::Meaning;
use crate::said::shown;

/// What of the service's words ends up in a reason.
const REASON_CHARS: usize = 300;
/// An entry has no status of its own: this one says nothing.
const UNKNOWN: u16 = 400;

/// An outcome for each of `count` entries, by position.
///
/// A call of which nothing was accepted, and nothing refused for what it is, says nothing about any event: it failed as a
/// whole.
pub(super) fn outcomes(answers: &[PutEventsResultEntry], count: usize, bus: &str) -> Result<Vec<Outcome>, SinkError> {
    if answers.len() != count {
        let message = format!("the event bus `{bus}` answered with {} outcomes for {count} entries", answers.len());
        return Err(SinkError::new(Fault::Unknown, message).uncertain());
    }
    let failures: Vec<_> = answers.iter().map(Failure::of).collect();
    let is_about_the_call =
        |failure: &Option<Failure<'_>>| failure.as_ref().is_some_and(|failure| failure.meaning != Meaning::Unwanted);
    if failures.iter().all(is_about_the_call) {
        return Err(as_a_whole(&failures.iter().flatten().collect::<Vec<_>>(), bus));
    }
    Ok(failures.into_iter().map(|failure| failure.map_or(Outcome::Accepted, |failure| failure.outcome())).collect())
}

/// An entry that was not accepted.
struct Failure<'a> {
    meaning: Meaning,
    code: &'a str,
    message: &'a str,
}

impl<'a> Failure<'a> {
    fn of(answer: &'a PutEventsResultEntry) -> Option<Self> {
        match (answer.event_id(), answer.error_code()) {
            (Some(_), None) => None,
            (_, code) => {
                let code = code.unwrap_or("neither an id nor an error");
                Some(Self {
                    meaning: Meaning::of(code, UNKNOWN),
                    code,
                    message: answer.error_message().unwrap_or_default(),
                })
            }
        }
    }

    fn outcome(&self) -> Outcome {
        match self.meaning {
            Meaning::Throttle => Outcome::Throttled { after: None },
            Meaning::Unwanted => Outcome::Refused { permanent: true, reason: self.reason() },
            Meaning::Denied | Meaning::DeniedForEvent | Meaning::NoTarget => {
                Outcome::Refused { permanent: false, reason: self.reason() }
            }
            Meaning::Down | Meaning::Internal | Meaning::Unknown => Outcome::Failed { reason: self.reason() },
        }
    }

    fn reason(&self) -> String {
        let message: String = shown(self.message).chars().take(REASON_CHARS).collect();
        let said = if message.is_empty() { self.code.to_owned() } else { format!("{}: {message}", self.code) };
        match self.meaning.remedy(self.code) {
            "" => said,
            remedy => format!("{said} ({remedy})"),
        }
    }
}

/// The failure of a call of which every entry was turned away.
fn as_a_whole(failures: &[&Failure<'_>], bus: &str) -> SinkError {
    let any = |meaning| failures.iter().find(|failure| failure.meaning == meaning);
    // A throttle passes by itself, so it is waited for first. A right is missing for all of them only if none has another
    // reason.
    let fault = if any(Meaning::Throttle).is_some() {
        Fault::Throttle
    } else if failures.iter().all(|failure| matches!(failure.meaning, Meaning::Denied | Meaning::NoTarget)) {
        Fault::Sink
    } else {
        Fault::Unknown
    };
    let told = any(Meaning::Throttle).or_else(|| failures.first());
    let reason = told.map_or_else(String::new, |failure| failure.reason());
    let error = SinkError::new(fault, format!("the event bus `{bus}` took none of the entries: {reason}"));
    if any(Meaning::Internal).is_some() { error.uncertain() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepted, or turned away with this code.
    fn answered(codes: &[Option<&str>]) -> Result<Vec<Outcome>, SinkError> {
        let answer = |code: Option<&str>| {
            let builder = PutEventsResultEntry::builder();
            match code {
                None => builder.event_id("id").build(),
                Some(code) => builder.error_code(code).error_message("said").build(),
            }
        };
        let answers: Vec<_> = codes.iter().copied().map(answer).collect();
        outcomes(&answers, codes.len(), "carts")
    }

    #[test]
    fn each_entry_has_its_own_outcome_by_position() {
        let outcomes = answered(&[
            Some("ThrottlingException"),
            None,
            Some("MalformedDetail"),
            Some("InternalFailure"),
            Some("NotAuthorizedForDetailTypeException"),
            None,
        ]);
        let outcomes = outcomes.unwrap();
        assert_eq!((&outcomes[1], &outcomes[5]), (&Outcome::Accepted, &Outcome::Accepted));
        assert_eq!(outcomes[0], Outcome::Throttled { after: None });
        let permanent = |at: usize| match &outcomes[at] {
            Outcome::Refused { permanent, reason } => (*permanent, reason.contains("said")),
            other => panic!("{other:?}"),
        };
        assert_eq!([permanent(2), permanent(4)], [(true, true), (false, true)]);
    }

    #[test]
    fn a_failure_of_the_services_own_is_laid_to_no_event() {
        for code in ["InternalFailure", "ServiceUnavailable", "NeverHeardOf"] {
            let outcomes = answered(&[Some(code), None]).unwrap();
            assert!(matches!(&outcomes[0], Outcome::Failed { reason } if reason.contains("said")), "{outcomes:?}");
        }
    }

    #[test]
    fn a_call_of_which_nothing_was_taken_failed_as_a_whole() {
        for (codes, fault) in [
            (&["ThrottlingException", "InternalFailure"][..], Fault::Throttle),
            (&["AccessDeniedException", "AccessDeniedException"], Fault::Sink),
            (&["AccessDeniedException", "InternalFailure"], Fault::Unknown),
            (&["InternalFailure"], Fault::Unknown),
            (&["NotAuthorizedForSourceException"], Fault::Unknown),
        ] {
            let codes: Vec<_> = codes.iter().copied().map(Some).collect();
            assert_eq!(answered(&codes).unwrap_err().fault, fault, "{codes:?}");
        }
    }

    #[test]
    fn an_entry_that_is_turned_away_for_a_reason_that_nobody_knows_had_no_effect() {
        assert!(!answered(&[Some("NeverHeardOf")]).unwrap_err().uncertain);
        assert!(answered(&[Some("InternalFailure")]).unwrap_err().uncertain);
    }

    #[test]
    fn an_event_that_is_refused_for_what_it_is_is_refused_though_it_was_alone() {
        assert!(matches!(
            answered(&[Some("MalformedDetail")]).unwrap()[..],
            [Outcome::Refused { permanent: true, .. }]
        ));
    }

    #[test]
    fn an_answer_for_another_number_of_entries_says_nothing_about_any() {
        let error = outcomes(&[PutEventsResultEntry::builder().event_id("id").build()], 2, "carts").unwrap_err();
        assert!(error.uncertain && error.fault == Fault::Unknown);
    }

    #[test]
    fn an_entry_with_neither_id_nor_error_is_not_accepted() {
        let empty = PutEventsResultEntry::builder().build();
        let good = PutEventsResultEntry::builder().event_id("id").build();
        let outcomes = outcomes(&[good, empty], 2, "carts").unwrap();
        assert!(matches!(outcomes[1], Outcome::Failed { .. }), "{outcomes:?}");
    }
}
