//! What commands print: text for people, JSON for programs, progress for the impatient.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
    sync::OnceLock,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;

mod milestones;
mod table;

pub(crate) use milestones::Milestones;
pub(crate) use table::{Align, Cell, Table};

use crate::exit::Failure;

/// The width that everything printed fits into, as long as names are not longer than usual.
pub(crate) const WIDTH: usize = 80;

/// The columns of the terminal that standard output is; none if it is something else.
fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Where text is broken into lines: a terminal that is narrower would break them in the middle of a word.
pub(crate) fn width() -> usize {
    columns().unwrap_or(WIDTH).min(WIDTH)
}

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// JSON instead of text.
    pub json: bool,
    /// Colours of standard output.
    pub paint: Paint,
}

impl Output {
    /// JSON or text, in colour if standard output is a terminal that wants it.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, paint: Paint::for_terminal(std::io::stdout().is_terminal()) }
    }

    /// Prints a line of text.
    #[expect(clippy::unused_self, reason = "whoever prints was told how")]
    pub(crate) fn line(self, text: impl AsRef<str>) {
        write_out(text.as_ref());
    }

    /// Prints one value as JSON, on one line.
    #[expect(clippy::unused_self, reason = "whoever prints was told how")]
    pub(crate) fn value(self, value: &impl Serialize) {
        write_out(&serde_json::to_string(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}")));
    }

    /// A progress bar of `total` steps. On standard error, and only on a terminal.
    pub(crate) fn progress(self, total: u64, doing: &str) -> ProgressBar {
        self.bar(Some(total), "{msg} {human_pos}/{human_len} {eta} {wide_bar}", doing)
    }

    /// A spinner with a text and no numbers. On standard error, and only on a terminal.
    pub(crate) fn waiting(self, for_what: &str) -> ProgressBar {
        let bar = self.bar(None, "{spinner} {elapsed} {wide_msg}", for_what);
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    /// What is wide in the template takes what is left of the line, so that narrow terminals do not wrap it.
    fn bar(self, total: Option<u64>, template: &str, message: &str) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_message(message.to_owned());
        bar
    }
}

/// Why something could not be printed, the first time.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

/// A reader that went away, as `head` does, is no failure. Any other is told when the command ends.
fn write_out(text: &str) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = writeln!(stdout, "{text}").and_then(|()| stdout.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        // What came after it failed of the same.
        let _ = UNWRITTEN.set(error);
    }
}

/// Whether all that was printed so far was written.
///
/// # Errors
/// [`Failure`] if something was not: whoever reads it has a part, or nothing.
pub(crate) fn written() -> Result<(), Failure> {
    UNWRITTEN.get().map_or(Ok(()), |error| {
        let failure = Failure::new("what the command has to say could not be written to standard output in full");
        Err(failure.because(error).help("what it was to do is done; make room, or send its output elsewhere"))
    })
}

/// Colours, where they are wanted: <https://no-color.org>.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// No colours.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { on: false }
    }

    /// Colours if `terminal`, unless `NO_COLOR` is set or the terminal is dumb.
    pub(crate) fn for_terminal(terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { on: terminal && !unwanted && !dumb }
    }

    /// Whether there are colours.
    pub(crate) const fn is_on(self) -> bool {
        self.on
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What is important.
    pub(crate) fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    /// What is not.
    pub(crate) fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    /// What is well.
    pub(crate) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What wants attention.
    pub(crate) fn warn(self, text: &str) -> String {
        self.with("33", text)
    }

    /// What is wrong.
    pub(crate) fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }
}

/// A number with its thousands apart: `1,204`.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// One of something, or several: `1 event`, `2 events`.
pub(crate) fn counted(count: u64, one: &str, several: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { several })
}

/// A duration in its largest unit: `3 s`, `2 min`, `4 h`, `5 d`.
pub(crate) fn age(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// How long `time` is before `now`; nothing if it is not.
pub(crate) fn since(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(time)).unwrap_or_default()
}

/// Bytes in a unit that people read: `1.2 MiB`.
#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A text of unknown origin, safe to print: control characters are shown, not obeyed.
pub(crate) fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Like [`plain`], and at most `width` characters.
pub(crate) fn short(text: &str, width: usize) -> String {
    let text = plain(text);
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// `text` broken between words into lines of `width`.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in plain(text).split_whitespace() {
        let length = lines.last().map_or(0, |line| line.chars().count());
        if length > 0 && length + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sizes_and_ages_read_easily() {
        assert_eq!([number(0), number(999), number(1_204), number(1_000_000)], ["0", "999", "1,204", "1,000,000"]);
        assert_eq!([size(0), size(1023), size(1536), size(8 << 20)], ["0 B", "1023 B", "1.5 KiB", "8.0 MiB"]);
        let ages = [3, 119, 120, 7_200, 172_800].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["3 s", "119 s", "2 min", "2 h", "2 d"]);
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(plain("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(short("abcdef", 4), "abc…");
    }

    #[test]
    fn text_wraps_between_words() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
    }
}
