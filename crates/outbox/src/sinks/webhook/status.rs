//! What a status means: the one place where the table of the module's documentation is carried out.

/// What an HTTP status says about a call, or in an answer with outcomes about one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Accepted,
    /// An outcome for each event is in the body.
    Outcomes,
    /// The event is not wanted, now or ever.
    EventsFault,
    Throttle,
    /// No event would get through.
    SinksFault,
    /// Anybody's fault; and the events may have been accepted.
    Unknown,
}

/// Maps every status. No wildcard: a status that is not listed would be one that nobody thought about.
pub(super) const fn meaning(status: u16) -> Meaning {
    match status {
        200..=206 | 208..=299 => Meaning::Accepted,
        207 => Meaning::Outcomes,
        400 | 413 | 415 | 422 | 431 => Meaning::EventsFault,
        408 | 425 | 429 => Meaning::Throttle,
        300..=399 | 401..=407 | 410 | 411 | 414 | 421 | 426 | 428 => Meaning::SinksFault,
        // Of 1xx none is an answer, and what is outside of 100..=599 is no status.
        0..=199 | 409 | 412 | 416..=420 | 423 | 424 | 427 | 430 | 432..=u16::MAX => Meaning::Unknown,
    }
}

/// What to do about a status; empty where it is only to wait.
pub(super) const fn remedy(status: u16) -> &'static str {
    match status {
        300..=399 => "redirects are not followed: put the final address into `url`",
        401 | 403 => "mend the credentials in `headers`, or the secrets",
        404 | 410 => "nothing takes events there: mend `url`",
        405 => "it takes no POST: mend `url`",
        407 => "give `proxy` its user and password",
        415 => "if every event is refused so, the target does not take this `encoding`",
        413 | 431 => "if such events are to be sent, raise the target's limit and redrive",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_of_the_documented_table_means_what_it_says() {
        let all = |meant, statuses: &[u16]| {
            for status in statuses {
                assert_eq!(meaning(*status), meant, "{status}");
            }
        };
        all(Meaning::Accepted, &[200, 201, 202, 204, 206, 208, 299]);
        all(Meaning::Outcomes, &[207]);
        all(Meaning::SinksFault, &[300, 301, 302, 304, 307, 308, 399]);
        all(Meaning::EventsFault, &[400, 413, 415, 422, 431]);
        all(Meaning::SinksFault, &[401, 403, 407]);
        all(Meaning::SinksFault, &[402, 404, 405, 406, 410, 411, 414, 421, 426, 428]);
        all(Meaning::Throttle, &[408, 425, 429]);
        all(Meaning::Unknown, &[409, 412, 500, 501, 502, 503, 504, 507, 511, 599]);
        all(Meaning::Unknown, &[0, 100, 101, 199, 416, 418, 423, 424, 451, 499, 600, 999]);
    }

    #[test]
    fn only_2xx_can_mean_accepted() {
        for status in (0..=199).chain(300..=999) {
            assert!(!matches!(meaning(status), Meaning::Accepted | Meaning::Outcomes), "{status}");
        }
    }
}
