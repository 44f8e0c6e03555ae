//! A stream of the log, from where a reader stands: a copy of the slot, which is gone with the stream.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use outbox::{Clock, ErrorKind, StoreError};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::buffer::{Buffer, Gone};
use crate::postgres::wal::{
    ROUND,
    lsn::Lsn,
    pgoutput::{self, Change},
    replication::{Heard, Streaming},
    rows::Rows,
    silence::Silence,
};

/// How often the server is told of us, and asked to answer.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// How long it is waited to ask again how far the server is.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(5);

/// A stream while it runs. It ends when this is dropped.
pub(super) struct Stream {
    flow: Arc<Flow>,
    task: JoinHandle<()>,
}

/// What who reads and who receives have in common.
struct Flow {
    state: Mutex<State>,
    /// There is room for more, or somebody waits to know how far the server is.
    pump: Notify,
    /// Something came, or the stream ended.
    progress: Notify,
    /// Rises when there is something new to be read.
    news: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
}

struct State {
    buffer: Buffer,
    wants_reply: bool,
    failure: Option<StoreError>,
    has_ended: bool,
    used: Instant,
}

impl Stream {
    /// Receives what `streaming` gives.
    pub(super) fn begin(
        buffer: Buffer,
        streaming: Streaming,
        rows: Rows,
        news: watch::Sender<u64>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let state = State { buffer, wants_reply: false, failure: None, has_ended: false, used: Instant::now() };
        let flow =
            Arc::new(Flow { state: Mutex::new(state), pump: Notify::new(), progress: Notify::new(), news, clock });
        let task = tokio::spawn(run(flow.clone(), streaming, rows));
        Self { flow, task }
    }

    /// What has come.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Buffer) -> T) -> T {
        let mut state = self.flow.state();
        let was_full = state.buffer.is_full();
        let done = act(&mut state.buffer);
        if was_full && !state.buffer.is_full() {
            self.flow.pump.notify_one();
        }
        done
    }

    /// Somebody reads it now.
    pub(super) fn touch(&self) {
        self.flow.state().used = Instant::now();
    }

    /// When somebody read it last.
    pub(super) fn used(&self) -> Instant {
        self.flow.state().used
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.flow.state().has_ended
    }

    /// Why it has ended; told once.
    pub(super) fn failure(&self) -> Option<StoreError> {
        self.flow.state().failure.take()
    }

    /// Waits until what was written before `place` has come, something is there for who stands at its end, or it ended;
    /// for `most` at most.
    pub(super) async fn come_to(&self, place: Lsn, most: Duration, is_enough: impl Fn(&Buffer) -> bool) {
        let reached = async {
            let mut rounds = 0;
            loop {
                let progress = self.flow.progress.notified();
                tokio::pin!(progress);
                progress.as_mut().enable();
                {
                    let mut state = self.flow.state();
                    let has_come = state.buffer.came() >= place || is_enough(&state.buffer);
                    if state.has_ended || has_come {
                        return;
                    }
                    state.wants_reply = true;
                }
                self.flow.pump.notify_one();
                progress.await;
                rounds += 1;
                if rounds > 3 {
                    tokio::time::sleep(BETWEEN_QUESTIONS).await;
                }
            }
        };
        // Where the log was flushed up to the middle of a message, the server cannot say that it has come so far.
        let _ = timeout(most, reached).await;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Flow {
    /// Locks; what a panicking thread left is used as it is, for everything guarded here is whole between two statements.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_readers(&self, is_new: bool) {
        if is_new {
            self.news.send_modify(|news| *news += 1);
        }
        self.progress.notify_waiters();
    }
}

async fn run(flow: Arc<Flow>, mut streaming: Streaming, mut rows: Rows) {
    let Err(error) = receive(&flow, &mut streaming, &mut rows).await;
    {
        let mut state = flow.state();
        (state.failure, state.has_ended) = (Some(error), true);
    }
    flow.tell_readers(true);
}

async fn receive(flow: &Flow, streaming: &mut Streaming, rows: &mut Rows) -> Result<Infallible, StoreError> {
    let mut ticks = interval(ROUND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = Instant::now();
    let mut silence = Silence::new(told);
    loop {
        let full = flow.state().buffer.is_full();
        let heard = tokio::select! {
            biased;
            _ = ticks.tick() => None,
            () = flow.pump.notified() => None,
            heard = streaming.next(), if !full => Some(heard?),
        };
        let mut asked = false;
        let now = Instant::now();
        if let Some(first) = heard {
            silence.heard(now);
            asked = take_in(flow, streaming, rows, first)?;
        }
        silence.check(now, !full)?;
        let (came, wanted) = {
            let mut state = flow.state();
            (state.buffer.came(), std::mem::take(&mut state.wants_reply))
        };
        if asked || wanted || told.elapsed() >= TELL_EVERY {
            // This slot is a copy: what it lets go of, the other one keeps.
            streaming.tell(came, came, flow.clock.wall(), wanted || told.elapsed() >= TELL_EVERY).await?;
            told = Instant::now();
        }
    }
}

/// Takes in `first` and what else has come already. Tells whether the server waits for an answer.
fn take_in(flow: &Flow, streaming: &mut Streaming, rows: &mut Rows, first: Heard) -> Result<bool, StoreError> {
    let (mut asked, mut is_new) = (false, false);
    {
        let mut state = flow.state();
        let mut next = Some(first);
        while let Some(heard) = next {
            match heard {
                Heard::Alive { sent, reply } => {
                    state.buffer.come_to(sent).map_err(gone)?;
                    asked |= reply;
                }
                Heard::Data(message) => is_new |= change(&mut state.buffer, rows, message)?,
            }
            next = if state.buffer.is_full() { None } else { streaming.ready()? };
        }
    }
    flow.tell_readers(is_new);
    Ok(asked)
}

/// Takes in one change. Tells whether there is a new row.
fn change(buffer: &mut Buffer, rows: &mut Rows, message: Bytes) -> Result<bool, StoreError> {
    let change = pgoutput::read(message)
        .map_err(|error| StoreError::new(ErrorKind::Incompatible, format!("reading the log: {error}")))?;
    match change {
        Change::Begin { commit, time, xid } => {
            rows.begin(time);
            buffer.begin(commit, xid).map_err(gone)?;
        }
        Change::Commit { end } => buffer.commit(end).map_err(gone)?,
        Change::Relation(relation) => rows.relation(&relation)?,
        Change::Insert { relation, row } if rows.is_of(relation) => {
            if let Some(at) = buffer.next_row()
                && let Some((_, record)) = rows.decode(relation, &row, Some(at))?
            {
                buffer.row(at, record);
                return Ok(true);
            }
        }
        Change::Insert { .. } | Change::Other => {}
    }
    Ok(false)
}

fn gone(_: Gone) -> StoreError {
    let message = "the server's log has another transaction where one was read before: it is that of an older copy of the \
         database. Stop its writers and run `outbox adopt`";
    StoreError::new(ErrorKind::HistoryChanged, message)
}
