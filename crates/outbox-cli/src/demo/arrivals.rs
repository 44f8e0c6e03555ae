//! What reached a consumer, in the order in which it came: the evidence that the inbox had no hand in.
//!
//! A consumer appends a line for each event of a request before it looks at any of them, in one write to a file opened
//! for appending. What was written survives a SIGKILL; a line torn by one lacks its end and is not counted, and the
//! request it belonged to did nothing.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use outbox::{Event, Key, Place};

/// The file that a consumer appends to.
#[derive(Debug)]
pub(crate) struct ArrivalLog {
    file: File,
}

impl ArrivalLog {
    /// Opens the log, or makes it.
    ///
    /// # Errors
    /// As the file system gave it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().create(true).append(true).open(path)? })
    }

    /// Notes that `events` came, in this order.
    ///
    /// # Errors
    /// As the file system gave it: then the events must not be acknowledged.
    pub(crate) fn note<'a>(&self, events: impl Iterator<Item = &'a Event>) -> io::Result<()> {
        // A line feed in front ends whatever a killed process left unfinished.
        let mut lines = String::from("\n");
        for event in events {
            if let (Some(key), Some(placing)) = (event.key(), event.placing()) {
                // Writing to a `String` cannot fail.
                let _ = writeln!(lines, "{key} {} {};", placing.place, placing.after);
            }
        }
        (&self.file).write_all(lines.as_bytes())
    }
}

/// What an arrival log shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Events that came, repetitions included.
    pub arrived: u64,
    /// Events that came for the first time.
    pub first: u64,
    /// First arrivals whose predecessor had not come before: something overtook it.
    pub inversions: u64,
    /// The first of them, for the report.
    pub example: Option<String>,
}

/// Follows an arrival log as it grows, and judges it.
#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    read: u64,
    unfinished: Vec<u8>,
    marks: HashMap<Key, Place>,
    tally: Tally,
}

impl Follower {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, read: 0, unfinished: Vec::new(), marks: HashMap::new(), tally: Tally::default() }
    }

    /// Reads what has come since the last call, and gives the tally of all. A log that does not exist yet is empty.
    ///
    /// # Errors
    /// As the file system gave it.
    pub(crate) fn follow(&mut self) -> io::Result<&Tally> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(&self.tally),
            file => file?,
        };
        file.seek(SeekFrom::Start(self.read))?;
        let added = file.read_to_end(&mut self.unfinished)?;
        self.read += added as u64;
        let lines = std::mem::take(&mut self.unfinished);
        let mut rest = lines.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.judge(&rest[..end]);
            rest = &rest[end + 1..];
        }
        self.unfinished = rest.to_vec();
        Ok(&self.tally)
    }

    fn judge(&mut self, line: &[u8]) {
        let Some((key, place, after)) = parse(line) else { return };
        self.tally.arrived += 1;
        let mark = self.marks.entry(key).or_insert(Place::ORIGIN);
        if place <= *mark {
            return;
        }
        self.tally.first += 1;
        if after != *mark {
            self.tally.inversions += 1;
            self.tally
                .example
                .get_or_insert_with(|| format!("{} came when {mark} had been the last", String::from_utf8_lossy(line)));
        }
        *mark = place;
    }
}

/// A whole line; a torn one lacks its `;` and is nothing.
fn parse(line: &[u8]) -> Option<(Key, Place, Place)> {
    let mut words = std::str::from_utf8(line).ok()?.strip_suffix(';')?.rsplitn(3, ' ');
    let after = words.next()?.parse().ok()?;
    let place = words.next()?.parse().ok()?;
    Some((Key::new(words.next()?).ok()?, place, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally_of(lines: &str) -> Tally {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arrivals");
        std::fs::write(&path, lines).unwrap();
        Follower::new(path).follow().unwrap().clone()
    }

    #[test]
    fn repetitions_are_told_from_first_arrivals() {
        let tally = tally_of("a 1.1.0 0.0.0;\nb 1.1.0 0.0.0;\na 1.2.0 1.1.0;\na 1.1.0 0.0.0;\na 1.2.0 1.1.0;\n");
        assert_eq!((tally.arrived, tally.first, tally.inversions), (5, 3, 0));
    }

    #[test]
    fn an_event_that_overtook_its_predecessor_is_an_inversion() {
        let tally = tally_of("a 1.1.0 0.0.0;\na 1.3.0 1.2.0;\na 1.2.0 1.1.0;\n");
        assert_eq!((tally.arrived, tally.inversions), (3, 1));
        assert!(tally.example.unwrap().contains("1.3.0"));
    }

    #[test]
    fn a_torn_line_counts_for_nothing() {
        let tally = tally_of("a 1.1.0 0.0.0;\na 1.2.0 1.\na 1.2.0 1.1.0;\na 1.3");
        assert_eq!((tally.arrived, tally.first, tally.inversions), (2, 2, 0));
    }

    #[test]
    fn a_growing_log_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arrivals");
        let mut follower = Follower::new(path.clone());
        assert_eq!(follower.follow().unwrap().arrived, 0);
        std::fs::write(&path, "a 1.1.0 0.0").unwrap();
        assert_eq!(follower.follow().unwrap().arrived, 0);
        std::fs::write(&path, "a 1.1.0 0.0.0;\na 1.2.0 1.1.0;\n").unwrap();
        assert_eq!(follower.follow().unwrap().arrived, 2);
    }
}
