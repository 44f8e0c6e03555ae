//! The report: which bugs were noticed, how, and after how long.

use std::fmt::Write as _;

use super::run::{Caught, Finding};

/// So much of what broke the contract is shown.
const SHOWN: usize = 110;

/// The report as a page of Markdown. `made` says when it was made, and of which commit.
pub fn markdown(findings: &[Finding], schedules: u64, made: &str) -> String {
    let caught = |by: fn(&Caught) -> bool| findings.iter().filter(|finding| by(&finding.caught)).count();
    let by_simulator = caught(|caught| matches!(caught, Caught::Simulator { .. }));
    let by_tests = caught(|caught| matches!(caught, Caught::Tests(_)));
    let mut page = String::from(
        "# Planted bugs\n\n\
         Each line is a bug of a kind that others had, planted into Outbox by a patch of a few lines under \
         `proof/planted/`, and how it is noticed: by the simulator, which plays schedules from seed 0 on until one breaks \
         the contract; where that sees nothing, by the quick tests. Some are planted in a stand-in, a store in memory in \
         the place of one that ships: they show that the run would notice such a defect, not that what ships is looked at. \
         [proof.md](proof.md) says what that proves.\n\n\
         ```console\n\
         cargo run -p proof --bin planted            # all of them: about an hour on two cores\n\
         cargo run -p proof --bin planted -- 9 10    # some, by number or name\n\
         cargo run -p proof --bin planted -- --check # only whether every patch still applies\n\
         ```\n\n",
    );
    let all = findings.len();
    let stand_ins = findings.iter().filter(|finding| finding.bug.is_in_stand_in()).count();
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "Of {all} bugs, {stand_ins} of them in a stand-in, the simulator notices {by_simulator} within {} schedules, the \
         quick tests {by_tests} more; {} are not noticed. {made}\n\n\
         | bug | in | what is wrong | noticed by | after schedules | seconds |\n|---|---|---|---|--:|--:|\n",
        grouped(schedules),
        all - by_simulator - by_tests
    );
    for Finding { bug, caught, took } in findings {
        let (how, after) = match caught {
            Caught::Simulator { rule, what, after } => (format!("**{rule}**: {}", shortened(what)), grouped(*after)),
            Caught::Tests(names) => (format!("tests: {}", tests(names)), "–".to_owned()),
            Caught::Not => ("**nothing**".to_owned(), "–".to_owned()),
        };
        let (name, what, seconds) = (&bug.name, in_cell(&bug.what), took.as_secs_f64());
        let place = if bug.is_in_stand_in() { "stand-in" } else { bug.package() };
        let _ = writeln!(page, "| {name} | {place} | {what} | {how} | {after} | {seconds:.1} |");
    }
    page.push_str("\n## Where they come from\n\n");
    for Finding { bug, .. } in findings {
        let _ = writeln!(page, "- {}: {}", bug.name, bug.from);
    }
    page
}

/// The first of them, and how many more there are.
fn tests(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(2).map(|name| format!("`{}`", last_part(name))).collect();
    match names.len().saturating_sub(2) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit("::").next().unwrap_or(name)
}

/// What broke the contract, without the positions that nobody can read.
fn shortened(what: &str) -> String {
    let words = what.split(' ').map(|word| match word.split_once(':') {
        Some((row, commit)) if commit.len() == 32 && !row.is_empty() => row,
        _ => word,
    });
    let text = in_cell(&words.collect::<Vec<_>>().join(" "));
    if text.chars().count() <= SHOWN {
        return text;
    }
    let cut: String = text.chars().take(SHOWN).collect();
    // Not in the middle of a name in backticks.
    let open = cut.matches('`').count() % 2 == 1;
    format!("{}{}…", cut.trim_end(), if open { "`" } else { "" })
}

fn in_cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// A number whose digits can be read.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
