//! Opening a file of lines: the lock, the torn last line, the directory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use super::FileSinkError;

const BLOCK: usize = 64 * 1024;

/// Opens, locks and mends the file at `path`.
pub(super) fn open(path: &Path) -> Result<File, FileSinkError> {
    let failed = |cause| FileSinkError::Open { path: path.to_owned(), cause };
    let found = is_there(path)?;
    let mut file = lock(path, File::options().read(true).append(true).create(true))?;
    if !found {
        sync_directory(path).map_err(failed)?;
    }
    cut_torn_line(&mut file, path)?;
    Ok(file)
}

/// Whether [`open`] would succeed; `false` if it would make the file. Changes nothing.
pub(super) fn check(path: &Path) -> Result<bool, FileSinkError> {
    let failed = |cause| FileSinkError::Open { path: path.to_owned(), cause };
    if !is_there(path)? {
        may_make(path).map_err(failed)?;
        return Ok(false);
    }
    let mut file = lock(path, File::options().read(true).append(true))?;
    torn_line(&mut file, path)?;
    Ok(true)
}

/// Looked at before opening: opening a pipe that nobody reads would wait for ever.
fn is_there(path: &Path) -> Result<bool, FileSinkError> {
    match path.metadata() {
        Ok(found) if found.is_file() => Ok(true),
        Ok(_) => Err(FileSinkError::NotAFile { path: path.to_owned() }),
        Err(_) => Ok(false),
    }
}

fn lock(path: &Path, options: &OpenOptions) -> Result<File, FileSinkError> {
    let failed = |cause| FileSinkError::Open { path: path.to_owned(), cause };
    let file = options.open(path).map_err(failed)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => FileSinkError::Locked { path: path.to_owned() },
        TryLockError::Error(cause) => failed(cause),
    })?;
    Ok(file)
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether the directory is there and takes a new file.
#[cfg(unix)]
fn may_make(path: &Path) -> io::Result<()> {
    use rustix::fs::{Access, access};
    Ok(access(directory(path), Access::EXISTS | Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Elsewhere only making the file would tell about rights.
#[cfg(not(unix))]
fn may_make(path: &Path) -> io::Result<()> {
    directory(path).metadata().map(|_| ())
}

/// Without this a crash may lose the new file's name, and with it lines that were accepted.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
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
    let Some(Torn { from, bytes, .. }) = torn_line(file, path)? else { return Ok(()) };
    tracing::warn!(
        path = %path.display(),
        bytes,
        "cut off the last line, which a crash tore; its events were not accepted and come again"
    );
    file.set_len(from).and_then(|()| file.sync_data()).map_err(failed)
}

/// What stands behind the last line break. It can be the rest of an event, or it is foreign.
fn torn_line(file: &mut File, path: &Path) -> Result<Option<Torn>, FileSinkError> {
    let failed = |cause| FileSinkError::Open { path: path.to_owned(), cause };
    let length = file.metadata().map_err(failed)?.len();
    let torn = find_torn_line(file, length).map_err(failed)?;
    // An event's line begins with a brace; some file systems leave zeros where a crash came between size and data.
    if torn.as_ref().is_some_and(|torn| !matches!(torn.first, b'{' | 0)) {
        return Err(FileSinkError::Foreign { path: path.to_owned() });
    }
    Ok(torn)
}

struct Torn {
    from: u64,
    bytes: u64,
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
            let from = start + at as u64 + 1;
            return Ok(first.map(|first| Torn { from, bytes: length - from, first }));
        }
        following = block.first().copied();
        end = start;
    }
    Ok(following.map(|first| Torn { from: 0, bytes: length, first }))
}
