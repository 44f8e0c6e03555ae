//! `outbox status`: every route at a glance, whether a relay runs or not.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use outbox::{Clock as _, Moment, System};

use crate::{
    commands,
    config::Config,
    exit::{Exit, Failure, Outcome},
    output::Output,
};

#[cfg(feature = "aws")]
mod functions;
mod report;
mod screen;

use report::Report;

/// How often `--watch` looks.
const PERIOD: Duration = Duration::from_secs(1);

/// What to show.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Look again each second, until Ctrl-C
    #[arg(long, short)]
    watch: bool,
}

/// Shows the status once, or again and again.
pub(crate) async fn run(config: Config, out: Output, args: &Args) -> Outcome {
    let stores = commands::stores(&config).await?;
    let first = Report::gather(&config, &stores, System.wall()).await?;
    if !args.watch {
        print(&first, &config, out);
        return Ok(if first.is_well() { Exit::Ok } else { Exit::Failed });
    }
    let mut screen = Screen::new(out);
    screen.draw(&first, &config);
    let (mut last, mut seen) = (first, System.moment());
    let mut beat_seen = seen;
    loop {
        tokio::select! {
            biased;
            stopped = tokio::signal::ctrl_c() => {
                stopped.map_err(|error| Failure::new("Ctrl-C cannot be awaited").because(&error))?;
                return Ok(Exit::Ok);
            }
            () = tokio::time::sleep(PERIOD) => {}
        }
        let now: Moment = System.moment();
        let mut next = Report::gather(&config, &stores, System.wall()).await?;
        next.compare(&last, now.since(seen), &stores).await?;
        if next.relay.has_moved_since(&last.relay) {
            beat_seen = now;
        }
        next.relay.note_silence(now.since(beat_seen));
        screen.draw(&next, &config);
        (last, seen) = (next, now);
    }
}

fn print(report: &Report, config: &Config, out: Output) {
    if out.json {
        out.value(report);
    } else {
        out.line(screen::render(report, config, out.paint));
    }
}

/// Redraws in place on a terminal; elsewhere prints one after the other.
struct Screen {
    out: Output,
    in_place: bool,
    lines: usize,
}

impl Screen {
    fn new(out: Output) -> Self {
        Self { out, in_place: !out.json && std::io::stdout().is_terminal(), lines: 0 }
    }

    fn draw(&mut self, report: &Report, config: &Config) {
        if !self.in_place {
            print(report, config, self.out);
            return;
        }
        let text = screen::render(report, config, self.out.paint);
        let up = if self.lines > 0 { format!("\x1b[{}A\r\x1b[J", self.lines) } else { String::new() };
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{up}{text}").and_then(|()| stdout.flush());
        self.lines = text.lines().count();
    }
}
