//! The states of an inbox's lanes as they are stored, the same in every database.

use outbox::{ErrorKind, StoreError, inbox_store::TroubleState};

/// How the state of a lane in trouble is stored.
pub(crate) fn state_name(state: TroubleState) -> &'static str {
    match state {
        TroubleState::Waiting => "waiting",
        TroubleState::Cause => "cause",
        TroubleState::Retrying => "retrying",
        TroubleState::Dead => "dead",
        TroubleState::Claimed => "claimed",
    }
}

/// The state that is stored as `name`.
pub(crate) fn state_of(name: &str) -> Result<TroubleState, StoreError> {
    const ALL: [TroubleState; 5] =
        [TroubleState::Waiting, TroubleState::Cause, TroubleState::Retrying, TroubleState::Dead, TroubleState::Claimed];
    ALL.into_iter().find(|state| state_name(*state) == name).ok_or_else(|| {
        let message = format!("the inbox's tables hold a state `{name}`, which is none: restore them from a backup");
        StoreError::new(ErrorKind::Invalid, message)
    })
}
