//! Points at which this process kills itself, and a wall clock that jumps: what the harness of real crashes in `proof`
//! needs of the real binary. Only with the feature `crash-points`, which no shipped build has; then `--version` says so.
//!
//! - `OUTBOX_CRASH_AT=Checkpoint:after:2` has a relay die, as by `kill -9`, after its second checkpoint is stored and
//!   before it knows. Names are those of [`Io`]; `Transact` is the commit of a demo consumer's inbox.
//! - `OUTBOX_HOLD=FILE` has it stand there instead of dying: it makes the file, and goes on once that is removed, with just
//!   what it was about to do, whatever has become of its lease meanwhile.
//! - `OUTBOX_WALL_SHIFT=FILE` names a file with a number of seconds, by which the wall clock is off. It is read anew each
//!   time, so that the clock can be made to jump.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use outbox::{
    Batch, Clock, Event, Moment, Outcome, Sink, SinkError, SinkLimits, StoreError, System,
    inbox_store::{InboxStore, Job},
    testing::{Call, Hook, Hooked, InWords, Io, Side},
};
use rustix::process::{Signal, getpid, kill_process};

use crate::{exit::Failure, wiring::Stores};

/// Names the point to die at.
const CRASH_AT: &str = "OUTBOX_CRASH_AT";
/// Names the file that shows that the process stands at its point in place of dying, for as long as there is one.
const HOLD: &str = "OUTBOX_HOLD";
/// Names the file that says how far the wall clock is off.
const WALL_SHIFT: &str = "OUTBOX_WALL_SHIFT";
/// The commit of a consumer's inbox, which is no I/O of a relay.
const TRANSACT: &str = "Transact";

/// Where to die: before or after the `nth` I/O of this name, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Point {
    io: String,
    side: Side,
    nth: u64,
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (Some(io), Some(side), Some(nth), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err("it has three parts, as `Checkpoint:after:2`".to_owned());
        };
        if io != TRANSACT {
            io.parse::<Io>().map_err(|error| error.to_string())?;
        }
        let side = Side::BOTH.into_iter().find(|known| known.name() == side);
        let side = side.ok_or("its second part is `before` or `after`")?;
        let nth = nth.parse().ok().filter(|nth| *nth > 0).ok_or("its last part is a number from 1")?;
        Ok(Self { io: io.to_owned(), side, nth })
    }
}

/// Counts what comes by the point to die at.
#[derive(Debug)]
struct Death {
    point: Point,
    passed: AtomicU64,
    /// Where to stand instead.
    hold: Option<PathBuf>,
}

/// The point of this process, shared by everything that comes by.
#[derive(Clone, Debug)]
pub(crate) struct CrashPoints(Arc<Death>);

impl CrashPoints {
    /// Those of the environment, if it names any.
    ///
    /// # Errors
    /// [`Failure`] if what it says is no point: a harness that believes to crash and does not would prove nothing.
    pub(crate) fn of_process() -> Result<Option<Self>, Failure> {
        static POINTS: OnceLock<Option<CrashPoints>> = OnceLock::new();
        if let Some(points) = POINTS.get() {
            return Ok(points.clone());
        }
        let points = std::env::var(CRASH_AT).ok().map(|text| {
            let point = text.parse::<Point>();
            point.map_err(|why| Failure::usage(format!("{CRASH_AT} is not a point: {why}")))
        });
        let hold = std::env::var_os(HOLD).map(PathBuf::from);
        let points = points.transpose()?.map(|point| Self(Arc::new(Death { point, passed: AtomicU64::new(0), hold })));
        if let Some(Self(death)) = &points {
            tracing::warn!(point = ?death.point, hold = ?death.hold, "this process kills itself, or stands, at a crash point");
        }
        Ok(POINTS.get_or_init(|| points).clone())
    }

    fn reached(&self, io: &str, side: Side) {
        let Point { io: at, side: on, nth } = &self.0.point;
        if io == at && side == *on && self.0.passed.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
            match &self.0.hold {
                Some(file) => hold(file),
                None => die(),
            }
        }
    }
}

/// Stands until `file`, which it makes, is removed. The thread is blocked on purpose: a task that only waited would be
/// dropped with the lease, and what it was about to do would never be tried.
fn hold(file: &Path) {
    if let Err(error) = std::fs::write(file, "") {
        // One that silently went on would prove nothing.
        eprintln!("{HOLD}: {}: {error}", file.display());
        std::process::abort();
    }
    while file.exists() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// As `kill -9` does: nothing is flushed, nobody is told.
fn die() -> ! {
    // Nothing refuses a signal of a process to itself; and if something did, an abort is as sudden.
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort();
}

#[async_trait]
impl Hook for CrashPoints {
    async fn before(&self, call: &Call<'_>) -> Result<(), StoreError> {
        self.reached(call.io.name(), Side::Before);
        Ok(())
    }

    async fn after(&self, call: &Call<'_>, _: &dyn InWords) -> Result<(), StoreError> {
        self.reached(call.io.name(), Side::After);
        Ok(())
    }
}

/// `stores`, which kill the process where the environment says.
///
/// # Errors
/// As [`CrashPoints::of_process`].
pub(crate) fn stores(stores: Stores) -> Result<Stores, Failure> {
    let Some(points) = CrashPoints::of_process()? else { return Ok(stores) };
    Ok(Stores {
        source: Arc::new(Hooked::new(stores.source, points.clone())),
        business: Arc::new(Hooked::new(stores.business, points.clone())),
        bookkeeping: Arc::new(Hooked::new(stores.bookkeeping, points)),
    })
}

/// `sink`, which kills the process where the environment says.
///
/// # Errors
/// As [`CrashPoints::of_process`].
pub(crate) fn sink(inner: Arc<dyn Sink>) -> Result<Arc<dyn Sink>, Failure> {
    let Some(points) = CrashPoints::of_process()? else { return Ok(inner) };
    Ok(Arc::new(CrashingSink { inner, points }))
}

struct CrashingSink {
    inner: Arc<dyn Sink>,
    points: CrashPoints,
}

#[async_trait]
impl Sink for CrashingSink {
    fn limits(&self) -> SinkLimits {
        self.inner.limits()
    }

    fn size(&self, event: &Event) -> usize {
        self.inner.size(event)
    }

    async fn check(&self) -> Result<(), SinkError> {
        self.points.reached(Io::Check.name(), Side::Before);
        let answer = self.inner.check().await;
        self.points.reached(Io::Check.name(), Side::After);
        answer
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        self.points.reached(Io::Publish.name(), Side::Before);
        let answer = self.inner.publish(batch).await;
        self.points.reached(Io::Publish.name(), Side::After);
        answer
    }
}

/// A consumer's inbox, which kills the process where the environment says.
#[derive(Clone)]
pub(crate) struct CrashingInbox<S> {
    inner: S,
    points: Option<CrashPoints>,
}

impl<S> CrashingInbox<S> {
    /// `inner` with the points of the environment.
    ///
    /// # Errors
    /// What the environment says wrong.
    pub(crate) fn new(inner: S) -> Result<Self, String> {
        Ok(Self { inner, points: CrashPoints::of_process().map_err(|failure| failure.json().to_string())? })
    }
}

impl<S: InboxStore> InboxStore for CrashingInbox<S> {
    type Tx<'t> = S::Tx<'t>;

    async fn transact<J, O>(&self, job: J) -> Result<O, StoreError>
    where
        J: for<'t> Job<Self::Tx<'t>, Output = O>,
        O: Send + 'static,
    {
        if let Some(points) = &self.points {
            points.reached(TRANSACT, Side::Before);
        }
        let done = self.inner.transact(job).await;
        if let Some(points) = self.points.as_ref().filter(|_| done.is_ok()) {
            points.reached(TRANSACT, Side::After);
        }
        done
    }
}

/// The machine's clock, or one whose wall is off as a file says.
///
/// # Errors
/// [`Failure`] if the file does not say by how much.
pub(crate) fn clock() -> Result<Arc<dyn Clock>, Failure> {
    let Some(file) = std::env::var_os(WALL_SHIFT) else { return Ok(Arc::new(System)) };
    let clock = ShiftedClock { file: PathBuf::from(file) };
    let shift = clock.shift().map_err(|why| Failure::usage(format!("{WALL_SHIFT}: {why}")))?;
    tracing::warn!(%shift, file = %clock.file.display(), "the wall clock of this process is moved");
    Ok(Arc::new(clock))
}

struct ShiftedClock {
    file: PathBuf,
}

impl ShiftedClock {
    fn shift(&self) -> Result<SignedDuration, String> {
        let file = self.file.display();
        let text = std::fs::read_to_string(&self.file).map_err(|error| format!("{file} cannot be read: {error}"))?;
        let seconds = text.trim().parse().map_err(|_| format!("{file} does not hold a number of seconds"))?;
        Ok(SignedDuration::from_secs(seconds))
    }
}

impl Clock for ShiftedClock {
    fn moment(&self) -> Moment {
        System.moment()
    }

    fn wall(&self) -> Timestamp {
        let shifted = self.shift().and_then(|shift| {
            System.wall().checked_add(shift).map_err(|error| format!("the wall clock leaves its range: {error}"))
        });
        match shifted {
            Ok(shifted) => shifted,
            Err(why) => {
                // A clock cannot fail, and one that silently stood right would prove nothing.
                eprintln!("{WALL_SHIFT}: {why}");
                std::process::abort();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_an_io_a_side_and_a_number() {
        let point = Point { io: "Checkpoint".to_owned(), side: Side::After, nth: 2 };
        assert_eq!("Checkpoint:after:2".parse(), Ok(point));
        assert!("Transact:before:1".parse::<Point>().is_ok());
        for wrong in ["", "Checkpoint", "Checkpoint:after", "Checkpoint:after:0", "Checkpoint:then:1", "Chek:after:1"] {
            assert!(wrong.parse::<Point>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_point_to_stand_at_is_passed_once_its_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("held");
        let point = "Checkpoint:before:2".parse().unwrap();
        let points = CrashPoints(Arc::new(Death { point, passed: AtomicU64::new(0), hold: Some(file.clone()) }));
        points.reached("Checkpoint", Side::Before);
        assert!(!file.exists(), "the first one passes");
        thread::scope(|scope| {
            let standing = scope.spawn(|| points.reached("Checkpoint", Side::Before));
            while !file.exists() {
                assert!(!standing.is_finished());
                thread::yield_now();
            }
            std::fs::remove_file(&file).unwrap();
        });
    }

    #[test]
    fn a_shifted_wall_clock_jumps_when_its_file_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shift");
        let clock = ShiftedClock { file: file.clone() };
        assert!(clock.shift().is_err());
        for seconds in [7200, -7200] {
            std::fs::write(&file, seconds.to_string()).unwrap();
            let off = clock.wall().duration_since(System.wall()).as_secs();
            assert!((off - seconds).abs() <= 60, "{off}");
        }
    }
}
