//! `outbox init`: tables, bookkeeping, and a configuration to begin with.

use std::{fmt::Display, io::Write as _, path::Path};

use outbox_sql::postgres::ConnectOptions;
use serde_json::json;

use crate::{
    cli::Global,
    config::{Config, DatabaseConfig, SinkConfig},
    exit::{Exit, Failure, Outcome},
    output::{Align, Cell, Output, Paint, Table, width, wrapped},
    wiring,
};

mod grants;
mod mapping;
mod tables;

use mapping::{Preparation, preparation};
use tables::{Tables, tables};

/// The configuration that is written.
const TEMPLATE: &str = include_str!("init/outbox.toml");

/// Where, and for whom.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With DATABASE, a commented configuration is written too; an existing one is never overwritten. \
Without, the tables and the bookkeeping of the existing configuration are made.")]
pub(crate) struct Args {
    /// Your service's database: an SQLite file, made if need be, or a URL as `postgres://user@host/orders`
    #[arg(value_name = "DATABASE")]
    database: Option<String>,
    /// Your service, as the events' CloudEvents `source` [default: / and the database's name]
    #[arg(long, value_name = "URI")]
    producer: Option<String>,
    /// Publish to this webhook, rather than to standard output
    #[arg(long, value_name = "URL", requires = "database")]
    webhook: Option<String>,
    /// What the first route is called [default: first]
    #[arg(long, value_name = "NAME", requires = "database")]
    route: Option<String>,
    /// PostgreSQL: a role that writes events; prints what to GRANT it
    #[arg(long, value_name = "ROLE")]
    writer: Vec<String>,
    /// PostgreSQL: a role that runs the relay; prints what to GRANT it
    #[arg(long, value_name = "ROLE")]
    relay: Vec<String>,
    /// PostgreSQL: print the statements, for migrations of your own, and do nothing
    #[arg(long)]
    sql: bool,
}

/// What was done.
#[derive(Default)]
struct Done {
    steps: Vec<(String, String)>,
}

impl Done {
    fn add(&mut self, place: impl Display, what: impl Into<String>) {
        self.steps.push((place.to_string(), what.into()));
    }
}

/// Makes what is missing.
pub(crate) async fn run(global: &Global, out: Output, args: Args) -> Outcome {
    let (config, text) = match &args.database {
        Some(database) => {
            let text = written(global, database, &args)?;
            let variable = |name: &str| std::env::var(name).ok();
            let config = Config::parse(&global.config, &text, &variable).map_err(|problems| {
                Failure::usage(
                    problems
                        .list
                        .first()
                        .map_or_else(String::new, |first| format!("{}: {}", first.field, first.message)),
                )
                .help(problems.list.first().map_or_else(String::new, |first| first.help.clone()))
            })?;
            (config, Some(text))
        }
        None if !global.config.exists() => {
            return Err(Failure::usage("which database to prepare is not said")
                .help("name it, as `outbox init orders.db`; it is made if need be"));
        }
        None => (Config::load(&global.config)?, None),
    };
    let grants = grants::of(&config, &args)?;
    let prepared = preparation(&config, &args).await?;
    let grants = grants + &prepared.grants;
    if args.sql {
        out.line(grants::statements(&config, &grants, &prepared.sql())?);
        return Ok(Exit::Ok);
    }
    let mut done = Done::default();
    let made = tables(&config, args.producer.as_deref(), &mut done).await?;
    let id = bookkeeping(&config, &mut done).await?;
    if let Some(text) = &text {
        write_new(&global.config, text)?;
        done.add(global.config.display(), "configuration, with a comment for every key");
    }
    report(&config, &made, &id, &done, global, (&grants, &prepared), out);
    Ok(Exit::Ok)
}

/// The configuration for `args`.
fn written(global: &Global, database: &str, args: &Args) -> Result<String, Failure> {
    let file = &global.config;
    if file.exists() {
        return Err(Failure::usage(format!("{} is there already and is not overwritten", file.display()))
            .help("leave DATABASE out to use it, or name another with --config"));
    }
    let (store, stem) = if database.starts_with("postgres://") || database.starts_with("postgresql://") {
        postgres(database)?
    } else if let Some(prefix) = database.strip_prefix("dynamodb:") {
        (format!("dynamodb = {}", quoted(prefix)), prefix.to_owned())
    } else {
        sqlite(file, database)?
    };
    let stem: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let producer = args.producer.clone().unwrap_or_else(|| format!("/{stem}"));
    let sink = match &args.webhook {
        Some(url) => format!("webhook = {{ url = {} }}", quoted(url)),
        None => "stdout = true".to_owned(),
    };
    let route = args.route.as_deref().unwrap_or("first");
    Ok(TEMPLATE
        .replace("@STORE@", &store)
        .replace("@PRODUCER@", &quoted(&producer))
        .replace("@ROUTE@", &quoted(route))
        .replace("@SINK@", &sink))
}

/// The line of a configuration that names an SQLite database, and the database's name.
fn sqlite(config: &Path, database: &str) -> Result<(String, String), Failure> {
    if database.is_empty() || database.contains(['"', '\\', '$']) || database.chars().any(char::is_control) {
        return Err(Failure::usage(format!("{database} cannot be written into a configuration"))
            .help("give the database a name without quotes, backslashes and dollar signs"));
    }
    let stem = Path::new(database).file_stem().and_then(|stem| stem.to_str()).unwrap_or("outbox").to_owned();
    Ok((format!("sqlite = {}", quoted(&beside(config, database)?)), stem))
}

/// The same of a PostgreSQL database. A password is not written into a file that people share.
fn postgres(url: &str) -> Result<(String, String), Failure> {
    let options = ConnectOptions::parse(url).map_err(|error| Failure::usage(error.to_string()))?;
    if options.has_password() {
        return Err(Failure::usage("the URL has a password, which does not belong into a configuration")
            .help("leave it out of the URL, and set the environment variable PGPASSWORD instead"));
    }
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let stem = path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("outbox").to_owned();
    Ok((format!("postgres = {}", quoted(url)), stem))
}

/// A TOML text; a dollar sign stands for itself.
fn quoted(text: &str) -> String {
    toml::Value::String(text.replace('$', "$$")).to_string()
}

/// `database`, as given from the working directory, seen from the configuration's folder.
fn beside(config: &Path, database: &str) -> Result<String, Failure> {
    let folder = config.parent().unwrap_or(Path::new(""));
    if folder.as_os_str().is_empty() || Path::new(database).is_absolute() {
        return Ok(database.to_owned());
    }
    let whole = std::path::absolute(database)
        .map_err(|error| Failure::new("the working directory is not known").because(&error))?;
    whole.to_str().map(str::to_owned).ok_or_else(|| Failure::usage("the working directory's name is not UTF-8"))
}

/// Makes the bookkeeping, unless the database belongs to one already.
async fn bookkeeping(config: &Config, done: &mut Done) -> Result<String, Failure> {
    let kept = &config.relay.bookkeeping;
    let fresh = !wiring::is_there(kept).await?;
    // The table of a mapping need not be prepared yet.
    let identity = wiring::business(&config.without_mapping()).await?.store.identity().await?;
    if let Some(owner) = identity.bookkeeping().filter(|_| fresh) {
        return Err(Failure::new(format!("the database is read by bookkeeping {owner}, and {kept} is not there"))
            .exit(Exit::Adopt)
            .help("put it back, or see `outbox adopt`"));
    }
    let id = wiring::bookkeeping(kept, true).await?.id().await?;
    done.add(
        kept,
        if fresh { "bookkeeping: the relay's checkpoints and kept events" } else { "bookkeeping, there already" },
    );
    Ok(id)
}

fn write_new(file: &Path, text: &str) -> Result<(), Failure> {
    let written = std::fs::File::options().write(true).create_new(true).open(file).and_then(|mut opened| {
        opened.write_all(text.as_bytes())?;
        opened.sync_all()
    });
    written.map_err(|error| {
        Failure::new(format!("the configuration {} cannot be written", file.display()))
            .because(&error)
            .help("name a path in a folder that this user may write")
    })
}

fn report(
    config: &Config,
    made: &Tables,
    bookkeeping: &str,
    done: &Done,
    global: &Global,
    (grants, prepared): (&str, &Preparation),
    out: Output,
) {
    if out.json {
        let steps: Vec<_> = done.steps.iter().map(|(place, what)| json!({ "where": place, "what": what })).collect();
        out.value(&json!({
            "store_id": made.store_id, "producer": made.producer, "bookkeeping_id": bookkeeping,
            "config": global.config, "done": steps, "grants": grants, "statements": prepared.statements,
        }));
        return;
    }
    let mut table = Table::new([("WHERE", Align::Left), ("NOW HAS", Align::Left)]);
    for (place, what) in &done.steps {
        table.row([Cell::painted(place.clone(), Paint::strong), what.as_str().into()]);
    }
    out.line(table.render(out.paint));
    if !grants.is_empty() {
        out.line(format!("\nTo be run by the owner of the schemas:\n{grants}"));
    }
    if !prepared.statements.is_empty() {
        out.line("\nTo be run by the owner of the mapped table, each statement by itself:");
        out.line(prepared.sql());
        for line in wrapped(&prepared.caution(), width()) {
            out.line(out.paint.faint(&line));
        }
    }
    let other = if global.config == Path::new(crate::config::DEFAULT_FILE) {
        String::new()
    } else {
        format!(" --config {}", global.config.display())
    };
    how_to_write(&config.store.database, out);
    out.line(format!("\nThen:\n  outbox check{other}"));
    // Functions publish by themselves.
    if config.forwarders.is_empty() {
        out.line(format!("  outbox relay{other}"));
    }
    if config.routes.iter().any(|route| matches!(route.sink, SinkConfig::Stdout)) {
        let next = "The first route prints events; the configuration shows how to send them to a webhook.";
        for line in wrapped(next, width()) {
            out.line(out.paint.faint(&line));
        }
    }
}

/// Says how events are written.
fn how_to_write(database: &DatabaseConfig, out: Output) {
    let sql = match database {
        DatabaseConfig::Postgres(database) if database.mapping.is_some() => {
            out.line("\nEvents are the rows that your service writes into its own table, as before.");
            return;
        }
        #[cfg(feature = "aws")]
        DatabaseConfig::Dynamo(_) => {
            let how = "Write an event in your own TransactWriteItems: docs/dynamodb.md shows how, from Rust and from other languages.";
            out.line(String::new());
            for line in wrapped(how, width()) {
                out.line(line);
            }
            return;
        }
        DatabaseConfig::Sqlite(_) => {
            "  INSERT INTO outbox (key, type, data)\n  VALUES ('order/1', 'order.placed', '{\"units\": 3}');"
        }
        DatabaseConfig::Postgres(_) => "  SELECT outbox.write('order/1', 'order.placed', '{\"units\": 3}');",
    };
    out.line("\nWrite an event in your own transaction, from any language:");
    out.line(sql);
}
