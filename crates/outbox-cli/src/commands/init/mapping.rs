//! What the owner of a mapped table has to run: Outbox changes no table that is not its own.

use outbox_sql::postgres::connect;

use super::Args;
use crate::{
    config::{Config, DatabaseConfig},
    exit::Failure,
};

/// What is to be run for the table of `config`'s mapping.
#[derive(Default)]
pub(super) struct Preparation {
    /// Each by itself, not in a transaction.
    pub statements: Vec<String>,
    /// GRANTs for the relays of [`Args`].
    pub grants: String,
}

/// Looks at the table; changes nothing.
///
/// # Errors
/// [`Failure`] if the mapping does not fit it.
pub(super) async fn preparation(config: &Config, args: &Args) -> Result<Preparation, Failure> {
    let DatabaseConfig::Postgres(database) = &config.store.database else { return Ok(Preparation::default()) };
    let Some(mapping) = &database.mapping else { return Ok(Preparation::default()) };
    let client = connect(&database.options).await?;
    let mut statements = if database.log_alone().is_some() {
        mapping.check_in_log(&client).await?;
        Vec::new()
    } else {
        mapping.statements(&client).await?
    };
    if let Some(log) = &database.log {
        statements.extend(mapping.publication_statement(&client, &log.publication).await?);
    }
    let mut grants = String::new();
    for role in &args.relay {
        grants += &mapping.grants(&client, role).await?;
    }
    Ok(Preparation { statements, grants })
}

impl Preparation {
    /// What to mind when they are run.
    pub(super) fn caution(&self) -> String {
        let any = |part: &str| self.statements.iter().any(|statement| statement.contains(part));
        let mut caution = String::from("They rewrite nothing");
        caution += if any("lock_timeout") {
            ". What sets lock_timeout waits for transactions that use the table, and others wait behind it: so it gives up \
             soon; run it again until it succeeds."
        } else {
            ", and writers do not wait for them."
        };
        if any("ADD COLUMN") {
            caution += " Programs that insert without naming columns have to name them.";
        }
        caution
    }

    /// The statements as text, a line each.
    pub(super) fn sql(&self) -> String {
        self.statements.iter().flat_map(|statement| [statement.as_str(), ";\n"]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_said_to_wait_for_whatever_asks_for_a_lock_of_theirs() {
        let caution =
            |statement: &str| Preparation { statements: vec![statement.to_owned()], grants: String::new() }.caution();
        assert!(caution("CREATE INDEX CONCURRENTLY i ON t (a)").contains("do not wait"));
        for statement in ["CREATE INDEX i ON ONLY t (a)", "CREATE OR REPLACE TRIGGER guard AFTER DELETE ON t"] {
            let caution = caution(&format!("SET lock_timeout = '500ms'; {statement}; RESET lock_timeout"));
            assert!(caution.contains("gives up soon") && !caution.contains("naming columns"), "{caution}");
        }
    }
}
