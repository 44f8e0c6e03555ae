//! Whether commits wait for whoever reads the log, as for a standby.
//!
//! The server makes no difference between a standby and us where `synchronous_standby_names` fits our name, as `*` does. But
//! what is told here as flushed is what can be seen, which a commit that waits cannot: it would wait for ever.

use outbox::{ErrorKind, StoreError};

use crate::postgres::connection::ConnectOptions;

/// Makes sure that no commit waits for this reader, where the server's setting is `standbys`.
///
/// # Errors
/// [`ErrorKind::Invalid`] if commits would, with what to do.
pub(super) async fn refuse(standbys: &str, options: &ConnectOptions) -> Result<(), StoreError> {
    if standbys.is_empty() {
        return Ok(());
    }
    let config = options.config().await?;
    let application = config.get_application_name().unwrap_or_default();
    if !fits(standbys, application) {
        return Ok(());
    }
    let message = format!(
        "`synchronous_standby_names` is `{standbys}`, which takes this relay, `{application}`, for a standby, and commits would wait for \
         it for ever: name the standbys there, as ALTER SYSTEM SET synchronous_standby_names = 'standby1'; SELECT \
         pg_reload_conf(); or give the relay another `application_name` in its URL, or read by polling"
    );
    Err(StoreError::new(ErrorKind::Invalid, message))
}

/// Whether `names`, as the setting has them, fit this application.
fn fits(names: &str, application: &str) -> bool {
    let mut parts = names.split('"');
    // What stands between quotes is a name, all else names without spaces; a quote within a name is doubled, which ours is not.
    while let Some(plain) = parts.next() {
        let mut words = plain.split(|found: char| found.is_whitespace() || matches!(found, ',' | '(' | ')'));
        let quoted = parts.next();
        if words.any(|word| is(word, application)) || quoted.is_some_and(|name| is(name, application)) {
            return true;
        }
    }
    false
}

fn is(name: &str, application: &str) -> bool {
    name == "*" || !name.is_empty() && name.eq_ignore_ascii_case(application)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_fits_is_found_however_it_is_written() {
        for names in
            ["*", "outbox", "Outbox", "s1, outbox", "2 (s1, \"*\")", "FIRST 1 (s1,outbox)", "ANY 1 (\"outbox\",s2)"]
        {
            assert!(fits(names, "outbox"), "{names}");
        }
        for names in ["", "s1", "ANY 1 (s1, s2)", "\"my outbox\"", "outbox2", "\"a\"\"b\", c"] {
            assert!(!fits(names, "outbox"), "{names}");
        }
    }
}
