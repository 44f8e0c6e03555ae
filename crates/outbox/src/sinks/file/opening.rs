//! Opening a file of lines: the lock, the torn last line, the directory.

use std::{
    fs::{File, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use super::FileSinkError;

const BLOCK: usize = 64 * 1024;

/// Opens, locks and mends the file at `path`.
pub(super) fn open(path: &Path) -> Result<File, FileSinkError> {
    let failed = |cause| FileSinkError::Open { path: path.to_owned(), cause };
    // Looked at before opening: opening a pipe that nobody reads would wait for ever.
    let found = path.metadata();
    if found.as_ref().is_ok_and(|found| !found.is_file()) {
        return Err(FileSinkError::NotAFile { path: path.to_owned() });
    }
    let mut file = File::options().read(true).append(true).create(true).open(path).map_err(failed)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => FileSinkError::Locked { path: path.to_owned() },
        TryLockError::Error(cause) => failed(cause),
    })?;
    if found.is_err() {
        sync_directory(path).map_err(failed)?;
    }
    cut_torn_line(&mut file, path)?;
    Ok(file)
}

/// Without this a crash may lose the new file's name, and with it lines that were accepted.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Elsewhere a directory cannot be opened as a file, and its entries are the file system's business.
#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Whether `path` still names `file`.
#[cfg(unix)]
pub(super) fn is_still_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), path.metadata()) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Elsewhere an open file cannot be renamed or removed.
#[cfg(not(unix))]
pub(super) fn is_still_at(_file: &File, _path: &Path) -> bool {
    true
}

/// Cuts off what stands behind the last line break, if it can be the rest of an event.
fn cut_torn_line(file: &mut File, path: &Path) -> Result<(), FileSinkError> {
    let failed = |cause| FileSinkError::Open { path: path.to_owned(), cause };
    let length = file.metadata().map_err(failed)?.len();
    let Some(Torn { from, first }) = find_torn_line(file, length).map_err(failed)? else { return Ok(()) };
    // An event's line begins with a brace; some file systems leave zeros where a crash came between size and data.
    if !matches!(first, b'{' | 0) {
        return Err(FileSinkError::Foreign { path: path.to_owned() });
    }
    tracing::warn!(
        path = %path.display(),
        bytes = length - from,
        "cut off the last line, which a crash tore; its events were not accepted and come again"
    );
    file.set_len(from).and_then(|()| file.sync_data()).map_err(failed)
}

struct Torn {
    from: u64,
    first: u8,
}

fn find_torn_line(file: &mut File, length: u64) -> io::Result<Option<Torn>> {
    let mut block = vec![0; BLOCK];
    let mut end = length;
    // The byte behind the block looked at.
    let mut following = None;
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        file.seek(SeekFrom::Start(start))?;
        let block = &mut block[..usize::try_from(end - start).unwrap_or(BLOCK)];
        file.read_exact(block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            let first = block.get(at + 1).copied().or(following);
            return Ok(first.map(|first| Torn { from: start + at as u64 + 1, first }));
        }
        following = block.first().copied();
        end = start;
    }
    Ok(following.map(|first| Torn { from: 0, first }))
}
