//! A build without SQLite and PostgreSQL, as the functions of Lambda are: whatever names them is refused.

use std::path::Path;

use super::{DATABASE, Section};
use crate::config::{BookkeepingConfig, DatabaseConfig, Retention, StoreConfig};

const NOT_BUILT: &str = "is not in this build, which knows DynamoDB alone";
const REMEDY: &str = "name tables of DynamoDB, or use a build with the feature `sql`";

pub(super) fn sqlite(_: &Path, section: &Section<'_>) -> Option<DatabaseConfig> {
    section.required_text("sqlite", DATABASE)?;
    section.problem("sqlite", NOT_BUILT, REMEDY);
    None
}

pub(super) fn postgres(section: &Section<'_>) -> Option<DatabaseConfig> {
    section.problem("postgres", NOT_BUILT, REMEDY);
    None
}

/// That of a database which was refused: its other keys are not to be told of, too.
pub(super) fn retention(section: &Section<'_>, _: Option<&DatabaseConfig>) -> Retention {
    let theirs =
        ["retention", "poll", "notify", "mapping", "read", "publication", "slot", "wal_budget", "wal_cap", "rds_iam"];
    for key in theirs {
        _ = section.has(key);
    }
    Retention::Off
}

pub(super) fn bookkeeping(
    _: &Path,
    _: &str,
    section: Option<&Section<'_>>,
    text: Option<String>,
    _: Option<&StoreConfig>,
) -> Option<BookkeepingConfig> {
    text?;
    section?.problem("bookkeeping", NOT_BUILT, "name a table, as \"dynamodb:orders-relay-bookkeeping\"");
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Problems,
        document::{self, Secrets},
    };

    fn read<T>(text: &str, validate: impl FnOnce(&Section<'_>) -> Option<T>) -> Problems {
        let read = document::read(Path::new("outbox.toml"), text, &|_| None, Secrets::LeftOut, validate);
        read.err().expect("it is refused")
    }

    fn store(text: &str, database: impl Fn(&Section<'_>) -> Option<DatabaseConfig>) -> Problems {
        read(&format!("[store]\n{text}"), |file| {
            let section = file.section("store")?;
            // Which one is named has been asked before.
            section.has("postgres");
            let database = database(&section);
            let _ = retention(&section, database.as_ref());
            section.finish();
            database
        })
    }

    #[test]
    fn a_store_that_is_not_in_this_build_is_refused_and_nothing_else_is_said() {
        let of_sqlite = store("sqlite = 'a.db'\nretention = 'off'", |section| sqlite(Path::new(""), section));
        let of_postgres = store("postgres = 'postgres://a/b'\npoll = '1s'", postgres);
        for (problems, field) in [(of_sqlite.list, "store.sqlite"), (of_postgres.list, "store.postgres")] {
            let [problem] = &problems[..] else { panic!("{problems:?}") };
            assert_eq!(problem.field, field);
            assert!(problem.message.contains("not in this build") && problem.help.contains("`sql`"), "{problem:?}");
        }
    }

    #[test]
    fn a_bookkeeping_that_is_not_in_this_build_is_refused() {
        let problems = read("[relay]\nbookkeeping = 'a.relay'", |file| {
            let section = file.section("relay")?;
            let text = section.required_text("bookkeeping", "name a table");
            bookkeeping(Path::new(""), "", Some(&section), text, None)
        });
        let problems = problems.to_string();
        assert!(problems.contains("relay.bookkeeping") && problems.contains("dynamodb:"), "{problems}");
    }
}
