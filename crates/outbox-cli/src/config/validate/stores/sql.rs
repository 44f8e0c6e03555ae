//! SQLite and PostgreSQL, as the service's database and as the relay's bookkeeping.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use outbox_sql::postgres::{
    BookkeepingSchema, ConnectOptions, Mapping,
    wal::{PUBLICATION, WalSettings},
};

use super::{DATABASE, DAY, MILLISECOND, SECOND, Section, mapping, needs_no_schema, path};
use crate::{
    config::{BookkeepingConfig, DatabaseConfig, LogConfig, PostgresConfig, Retention, StoreConfig},
    rds,
};

/// What PostgreSQL's URLs begin with.
const POSTGRES: [&str; 2] = ["postgres://", "postgresql://"];

pub(super) fn sqlite(folder: &Path, section: &Section<'_>) -> Option<DatabaseConfig> {
    if section.has("mapping") {
        let help = "leave it out; in SQLite, events are written by the outbox tables";
        section.problem("mapping", "is for PostgreSQL", help);
    }
    let sqlite = section.required_text("sqlite", DATABASE)?;
    if is_postgres(&sqlite) {
        section.problem("sqlite", "is the URL of a PostgreSQL database", "write `postgres = \"…\"`");
        return None;
    }
    Some(DatabaseConfig::Sqlite(path(folder, &sqlite)))
}

fn is_postgres(text: &str) -> bool {
    POSTGRES.iter().any(|scheme| text.starts_with(scheme))
}

pub(super) fn postgres(section: &Section<'_>) -> Option<DatabaseConfig> {
    let options =
        section.required_text("postgres", DATABASE).and_then(|url| connect_options(section, "postgres", &url));
    let poll = section.duration("poll", Duration::from_millis(75), MILLISECOND..=60 * SECOND);
    let notify = section.flag("notify", false);
    let mut log = log(section);
    let mapping = match section.section_or_text("mapping") {
        None => None,
        Some(Err(_)) => Some(mapping::named(section)?),
        Some(Ok(inner)) => Some(mapping::table(&inner, log.is_some())?),
    };
    if let Some(log) = &mut log {
        log.settings = log.settings.clone().mapping(mapping.clone());
    }
    let database = PostgresConfig { options: options?, poll, notify, mapping, log };
    if database.log_alone().is_some() {
        check_log_alone(section, &database);
    }
    Some(DatabaseConfig::Postgres(Box::new(database)))
}

/// What does nothing, or cannot be kept, where rows are read in the log alone.
fn check_log_alone(section: &Section<'_>, database: &PostgresConfig) {
    for key in ["poll", "notify"].into_iter().filter(|key| section.has(key)) {
        let help = "leave it out, or name a growing id by `id` in `mapping`";
        section.problem(key, "without an id the table is read in the server's log alone, and never polled", help);
    }
    if section.has("wal_cap") {
        let help = "leave it out: beyond `wal_budget` the relay warns";
        section.problem(
            "wal_cap",
            "without an id the rows are in the server's log alone, which is never let go of",
            help,
        );
    }
    if section.has("retention") {
        let help = "leave it out: their owner removes them, at any time";
        section.problem("retention", "without an id the rows of the mapped table are not Outbox's to remove", help);
    }
    if database.mapping.as_ref().is_some_and(Mapping::has_status) {
        let help = "add `status = \"\"` to the mapping, or name a growing id by `id`";
        section.problem("mapping", "without an id nothing names a row whose status could be kept", help);
    }
}

/// How the server's log is read, if `read = "wal"`.
fn log(section: &Section<'_>) -> Option<LogConfig> {
    let publication = section.text("publication").unwrap_or_else(|| PUBLICATION.to_owned());
    let mut settings = WalSettings::new()
        .publication(&publication)
        .budget(section.size("wal_budget", 64 << 20, "64 MiB"))
        .hard_cap(section.size("wal_cap", 4 << 30, "4 GiB"));
    if let Some(slot) = section.text("slot") {
        settings = settings.slot(slot);
    }
    let reads_log = match section.text("read").as_deref() {
        None | Some("poll") => false,
        Some("wal") => true,
        Some(_) => {
            let written = section.written("read");
            section.problem("read", format!("`{written}` is no way to read"), "write \"poll\" or \"wal\"");
            false
        }
    };
    let unused = ["publication", "slot", "wal_budget", "wal_cap"].into_iter().filter(|key| section.has(key));
    for key in unused.filter(|_| !reads_log) {
        section.problem(key, "the log is not read", "add `read = \"wal\"`, or leave it out");
    }
    reads_log.then_some(LogConfig { publication, settings })
}

fn connect_options(section: &Section<'_>, key: &'static str, url: &str) -> Option<ConnectOptions> {
    let refused = |error: outbox::StoreError| {
        let text = error.to_string();
        let (what, help) =
            text.split_once(": ").unwrap_or((&text, "write postgres://user:password@host:port/database"));
        section.problem(key, what, help);
    };
    let options = ConnectOptions::parse(url).map_err(refused).ok()?;
    if let Some(region) = section.text("rds_iam") {
        let refused = |refused: rds::Refused| {
            let (what, help) = refused.told(section.written("rds_iam"));
            section.problem("rds_iam", what, help);
        };
        return rds::with_tokens(options, &region).map_err(refused).ok();
    }
    // As for every program that talks to PostgreSQL.
    match section.variable("PGPASSWORD").filter(|_| !options.has_password()) {
        Some(password) => Some(options.password(password)),
        None => Some(options),
    }
}

/// How long published entries are kept.
pub(super) fn retention(section: &Section<'_>, database: Option<&DatabaseConfig>) -> Retention {
    let retention = age_or_number(section);
    if let (Some(DatabaseConfig::Postgres(database)), Retention::Age(_)) = (database, retention)
        && database.mapping.as_ref().is_some_and(|mapping| !mapping.has_time())
    {
        let help = "name the column by `time` in `mapping`, or write { newest = 1000000 }";
        section.problem("retention", "the mapping names no time by which rows are old", help);
    }
    retention
}

fn age_or_number(section: &Section<'_>) -> Retention {
    const HELP: &str = "write \"off\", { age = \"7d\" } or { newest = 1000000 }";
    match section.section_or_text("retention") {
        None => Retention::Off,
        Some(Err(text)) => {
            if text != "off" {
                let written = section.written("retention");
                section.problem("retention", format!("`{written}` is not a retention"), HELP);
            }
            Retention::Off
        }
        Some(Ok(inner)) => {
            let (age, newest) = (inner.has("age"), inner.has("newest"));
            let retention = match (age, newest) {
                (true, false) => Retention::Age(inner.duration("age", 7 * DAY, SECOND..=36_500 * DAY)),
                (false, true) => Retention::Newest(inner.count("newest", 1_000_000, 0..=u64::MAX >> 1)),
                (true, true) => {
                    section.problem("retention", "has both `age` and `newest`", HELP);
                    Retention::Off
                }
                (false, false) => {
                    section.problem("retention", "has neither `age` nor `newest`", HELP);
                    Retention::Off
                }
            };
            inner.finish();
            retention
        }
    }
}

/// The bookkeeping that `text` names, or that which belongs to the store.
pub(super) fn bookkeeping(
    folder: &Path,
    name: &str,
    section: Option<&Section<'_>>,
    text: Option<String>,
    store: Option<&StoreConfig>,
) -> Option<BookkeepingConfig> {
    let schema = schema(section);
    let witness = section.and_then(|section| section.text("witness"));
    let witness = witness.map_or_else(|| path(folder, &format!("{name}.witness")), |text| path(folder, &text));
    let bookkeeping = match (text, store.map(|store| &store.database)) {
        (Some(text), _) if is_postgres(&text) => {
            let options = Box::new(connect_options(section?, "bookkeeping", &text)?);
            Some(BookkeepingConfig::Postgres { options, schema: schema?, witness })
        }
        (Some(text), _) => Some(BookkeepingConfig::Sqlite(path(folder, &text))),
        (None, Some(DatabaseConfig::Sqlite(file))) => {
            let mut beside = file.clone().into_os_string();
            beside.push(".relay");
            Some(BookkeepingConfig::Sqlite(PathBuf::from(beside)))
        }
        (None, Some(DatabaseConfig::Postgres(database))) => {
            Some(BookkeepingConfig::Postgres { options: Box::new(database.options.clone()), schema: schema?, witness })
        }
        // Its own bookkeeping was found before.
        #[cfg(feature = "aws")]
        (None, Some(DatabaseConfig::Dynamo(_))) => None,
        (None, None) => None,
    };
    if let (Some(section), Some(BookkeepingConfig::Sqlite(file))) = (section, &bookkeeping) {
        needs_no_schema(section);
        if store.and_then(|store| store.database.file()) == Some(file) {
            section.problem(
                "bookkeeping",
                "is the business database itself",
                "name a file of its own, so that the relay never contends with the service; the default is `<sqlite>.relay`",
            );
        }
    }
    bookkeeping
}

fn schema(section: Option<&Section<'_>>) -> Option<BookkeepingSchema> {
    let Some((section, text)) = section.and_then(|section| Some((section, section.text("schema")?))) else {
        return Some(BookkeepingSchema::default());
    };
    let refused = |_| {
        let help = "use 1 to 63 of a-z, 0-9 and `_`, no digit and no `pg_` first, as \"outbox_relay\"";
        section.problem("schema", format!("`{}` cannot name a schema", section.written("schema")), help);
    };
    BookkeepingSchema::new(&text).map_err(refused).ok()
}
