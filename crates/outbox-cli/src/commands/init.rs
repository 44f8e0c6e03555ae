//! `outbox init`: tables, bookkeeping, and a configuration to begin with.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use outbox::{BusinessStore as _, bookkeeping::Bookkeeping as _};
use outbox_sql::sqlite::{InitOptions, Meta};
use serde_json::json;

use crate::{
    cli::Global,
    config::{Config, SinkConfig},
    exit::{Exit, Failure, Outcome},
    output::{Align, Cell, Output, Paint, Table, WIDTH, wrapped},
    wiring,
};

/// The configuration that is written.
const TEMPLATE: &str = include_str!("init/outbox.toml");

/// Where, and for whom.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With DATABASE, a commented configuration is written too; an existing one is never overwritten. \
Without, the tables and the bookkeeping of the existing configuration are made.")]
pub(crate) struct Args {
    /// Your service's SQLite database, made if need be
    #[arg(value_name = "DATABASE")]
    database: Option<PathBuf>,
    /// Your service, as the events' CloudEvents `source` [default: / and the database's name]
    #[arg(long, value_name = "URI")]
    producer: Option<String>,
    /// Publish to this webhook, rather than to standard output
    #[arg(long, value_name = "URL", requires = "database")]
    webhook: Option<String>,
    /// What the first route is called [default: first]
    #[arg(long, value_name = "NAME", requires = "database")]
    route: Option<String>,
}

/// What was done.
#[derive(Default)]
struct Done {
    steps: Vec<(PathBuf, String)>,
}

impl Done {
    fn add(&mut self, file: &Path, what: impl Into<String>) {
        self.steps.push((file.to_owned(), what.into()));
    }
}

/// Makes what is missing.
pub(crate) async fn run(global: &Global, out: Output, args: Args) -> Outcome {
    let (config, text) = match &args.database {
        Some(database) => {
            let text = written(global, database, &args)?;
            let config = Config::parse(&global.config, &text, &|_| None).map_err(|problems| {
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
    let mut done = Done::default();
    let meta = tables(&config, args.producer.as_deref(), &mut done)?;
    let id = bookkeeping(&config, &mut done).await?;
    if let Some(text) = &text {
        write_new(&global.config, text)?;
        done.add(&global.config, "configuration, with a comment for every key");
    }
    report(&config, &meta, &id, &done, global, out);
    Ok(Exit::Ok)
}

/// The configuration for `args`.
fn written(global: &Global, database: &Path, args: &Args) -> Result<String, Failure> {
    let file = &global.config;
    if file.exists() {
        return Err(Failure::usage(format!("{} is there already and is not overwritten", file.display()))
            .help("leave DATABASE out to use it, or name another with --config"));
    }
    let name = database
        .to_str()
        .filter(|name| !name.is_empty() && !name.contains(['"', '\\', '$']) && !name.chars().any(char::is_control));
    let Some(name) = name else {
        return Err(Failure::usage(format!("{} cannot be written into a configuration", database.display()))
            .help("give the database a name in UTF-8 without quotes, backslashes and dollar signs"));
    };
    let name = beside(file, name)?;
    let stem = database.file_stem().and_then(|stem| stem.to_str()).unwrap_or("outbox");
    let stem: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let producer = args.producer.clone().unwrap_or_else(|| format!("/{stem}"));
    let sink = match &args.webhook {
        Some(url) => format!("webhook = {{ url = {} }}", quoted(url)),
        None => "stdout = true".to_owned(),
    };
    let route = args.route.as_deref().unwrap_or("first");
    Ok(TEMPLATE
        .replace("@SQLITE@", &quoted(&name))
        .replace("@PRODUCER@", &quoted(&producer))
        .replace("@ROUTE@", &quoted(route))
        .replace("@SINK@", &sink))
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

fn tables(config: &Config, producer: Option<&str>, done: &mut Done) -> Result<Meta, Failure> {
    let file = &config.store.sqlite;
    let fresh = !file.exists();
    let connection = rusqlite::Connection::open(file).map_err(|error| {
        Failure::new(format!("the database {} cannot be opened or made", file.display()))
            .because(&error)
            .help("name a path in a folder that this user may write")
    })?;
    connection
        .busy_timeout(std::time::Duration::from_secs(5))
        .map_err(|error| Failure::new("the database refuses a time limit").because(&error))?;
    let before = outbox_sql::sqlite::check(&connection).ok();
    let known = before.as_ref().map(|meta| meta.producer.clone());
    let producer = producer.map(str::to_owned).or_else(|| config.store.producer.clone()).or(known);
    let Some(producer) = producer else {
        return Err(Failure::usage("what the service is called is not said")
            .help("set `producer` in `[store]`, or say --producer /orders"));
    };
    let meta = outbox_sql::sqlite::init(&connection, &InitOptions::new(producer))
        .map_err(|error| Failure::from(error).context(&file.display().to_string()))?;
    done.add(
        file,
        match (before.is_some(), fresh) {
            (true, _) => "has the outbox tables already".to_owned(),
            (false, true) => format!("database, with the outbox tables of producer {}", meta.producer),
            (false, false) => format!("the outbox tables of producer {}; your own are untouched", meta.producer),
        },
    );
    Ok(meta)
}

/// Makes the bookkeeping, unless the database belongs to one already.
async fn bookkeeping(config: &Config, done: &mut Done) -> Result<String, Failure> {
    let file = &config.relay.bookkeeping;
    let fresh = !file.exists();
    let identity = wiring::business(config)?.identity().await?;
    if let Some(owner) = identity.bookkeeping().filter(|_| fresh) {
        return Err(Failure::new(format!(
            "the database is read by bookkeeping {owner}, and {} is not there",
            file.display()
        ))
        .exit(Exit::Adopt)
        .help("put its file back, or see `outbox adopt`"));
    }
    let id = wiring::bookkeeping(file, true)?.id().await?;
    done.add(
        file,
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

fn report(config: &Config, meta: &Meta, bookkeeping: &str, done: &Done, global: &Global, out: Output) {
    if out.json {
        let steps: Vec<_> = done.steps.iter().map(|(file, what)| json!({ "file": file, "what": what })).collect();
        out.value(&json!({
            "store_id": meta.store_id, "producer": meta.producer, "bookkeeping_id": bookkeeping,
            "config": global.config, "done": steps,
        }));
        return;
    }
    let mut table = Table::new([("FILE", Align::Left), ("NOW HAS", Align::Left)]);
    for (file, what) in &done.steps {
        table.row([Cell::painted(file.display().to_string(), Paint::strong), what.as_str().into()]);
    }
    out.line(table.render(out.paint));
    let other = if global.config == Path::new(crate::config::DEFAULT_FILE) {
        String::new()
    } else {
        format!(" --config {}", global.config.display())
    };
    out.line("\nWrite an event in your own transaction, from any language:");
    out.line("  INSERT INTO outbox (key, type, data)");
    out.line(r#"  VALUES ('order/1', 'order.placed', '{"units": 3}');"#);
    out.line(format!("\nThen:\n  outbox check{other}\n  outbox relay{other}"));
    if config.routes.iter().any(|route| matches!(route.sink, SinkConfig::Stdout)) {
        let next = "The first route prints events; the configuration shows how to send them to a webhook.";
        for line in wrapped(next, WIDTH) {
            out.line(out.paint.faint(&line));
        }
    }
}
