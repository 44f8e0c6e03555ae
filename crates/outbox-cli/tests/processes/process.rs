//! A relay that runs.

pub(crate) use proof::crashes::process::RelayProcess;
