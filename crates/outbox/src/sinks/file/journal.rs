//! Appending so that a failure leaves nothing behind.

use std::{
    fs::File,
    io::{self, Write},
};

/// What is appended to: a file, or in tests something that fails.
pub(super) trait Medium {
    fn length(&self) -> io::Result<u64>;
    /// Writes all of `bytes` at the end; on failure any part of them may be there.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns once what was written would survive a crash.
    fn sync(&mut self) -> io::Result<()>;
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

impl Medium for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// A medium of which everything up to its length is whole, unless it is torn.
#[derive(Debug)]
pub(super) struct Journal<M> {
    medium: M,
    /// How much is whole, where a failed write left something behind it that could not be cut off yet.
    torn_from: Option<u64>,
}

impl<M: Medium> Journal<M> {
    pub(super) fn new(medium: M) -> Self {
        Self { medium, torn_from: None }
    }

    pub(super) fn medium(&self) -> &M {
        &self.medium
    }

    /// Whether something of a failed append may still be there.
    pub(super) fn is_torn(&self) -> bool {
        self.torn_from.is_some()
    }

    /// Appends `bytes` durably, or leaves the medium as it was. If it cannot even be left as it was, nothing more is
    /// appended until it can.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.mend()?;
        if bytes.is_empty() {
            return Ok(());
        }
        // Asked anew each time: a rotation by copy-and-truncate makes the file shorter.
        let whole = self.medium.length()?;
        let written = self.medium.write(bytes).and_then(|()| self.medium.sync());
        if written.is_err() {
            self.torn_from = Some(whole);
            // Should this fail too, the next append begins with it and reports it.
            let _ = self.mend();
        }
        written
    }

    fn mend(&mut self) -> io::Result<()> {
        let Some(whole) = self.torn_from else { return Ok(()) };
        if self.medium.length()? > whole {
            self.medium.truncate(whole)?;
            self.medium.sync()?;
        }
        self.torn_from = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes in memory with room for some, whose steps fail on demand.
    #[derive(Default)]
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
        sync_fails: bool,
        truncate_fails: bool,
    }

    impl Medium for Disk {
        fn length(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }

        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            let fits = bytes.len().min(self.room - self.bytes.len());
            self.bytes.extend_from_slice(&bytes[..fits]);
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }

        fn sync(&mut self) -> io::Result<()> {
            if std::mem::take(&mut self.sync_fails) { Err(io::Error::other("I/O error")) } else { Ok(()) }
        }

        fn truncate(&mut self, length: u64) -> io::Result<()> {
            if self.truncate_fails {
                return Err(io::Error::other("I/O error"));
            }
            self.bytes.truncate(usize::try_from(length).unwrap());
            Ok(())
        }
    }

    fn journal(room: usize) -> Journal<Disk> {
        Journal::new(Disk { room, ..Disk::default() })
    }

    #[test]
    fn half_a_write_on_a_full_disk_is_cut_off_again() {
        let mut journal = journal(10);
        journal.append(b"first\n").unwrap();
        assert_eq!(journal.append(b"second\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(journal.medium.bytes, b"first\n");
        assert!(!journal.is_torn());
    }

    #[test]
    fn once_there_is_room_appending_goes_on() {
        let mut journal = journal(10);
        journal.append(b"first\n").unwrap();
        journal.append(b"second\n").unwrap_err();
        journal.medium.room = 100;
        journal.append(b"second\n").unwrap();
        assert_eq!(journal.medium.bytes, b"first\nsecond\n");
    }

    #[test]
    fn what_could_not_be_made_durable_is_cut_off_again() {
        let mut journal = journal(100);
        journal.append(b"first\n").unwrap();
        journal.medium.sync_fails = true;
        journal.append(b"second\n").unwrap_err();
        assert_eq!(journal.medium.bytes, b"first\n");
    }

    #[test]
    fn nothing_is_appended_behind_a_torn_line_that_cannot_be_cut_off() {
        let mut journal = journal(10);
        journal.append(b"first\n").unwrap();
        journal.medium.truncate_fails = true;
        journal.append(b"second\n").unwrap_err();
        assert!(journal.is_torn());
        journal.medium.room = 100;
        journal.append(b"third\n").unwrap_err();
        journal.medium.truncate_fails = false;
        journal.append(b"third\n").unwrap();
        assert_eq!(journal.medium.bytes, b"first\nthird\n");
        assert!(!journal.is_torn());
    }
}
