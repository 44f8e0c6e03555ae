//! Taking in what the server sends, and telling it how far we are.

use std::{convert::Infallible, time::Duration};

use outbox::{ErrorKind, StoreError};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::WIDE;
use crate::postgres::wal::{
    ROUND,
    lsn::Lsn,
    pgoutput::{self, Change},
    replication::{Heard, Streaming},
    rows::Rows,
    shared::Shared,
    silence::Silence,
    state::State,
};

/// How often the server is told of us though nothing has changed, and asked to answer.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// The same while nothing is received from it: its patience may be short.
const TELL_WHILE_FULL: Duration = Duration::from_secs(2);

/// How long more is waited for while much comes. The server sends each row by itself, and each would wake everybody here.
const NAP: Duration = Duration::from_millis(1);
/// As many messages in so short a time are much.
const MUCH: usize = 32;

/// Whether much comes.
struct Flow {
    since: Instant,
    messages: usize,
    is_much: bool,
}

impl Flow {
    /// Counts what came until now.
    fn count(&mut self, messages: usize, now: Instant) {
        self.messages += messages;
        let took = now.saturating_duration_since(self.since);
        if took >= NAP {
            // A pause of any length is no flood, however much comes behind it.
            self.is_much = self.messages >= MUCH && took < 8 * NAP;
            (self.since, self.messages) = (now, 0);
        }
    }
}

/// When the server was told what.
struct Told {
    confirmed: Lsn,
    at: Instant,
}

/// Takes in what the server sends, and tells it how far we are.
pub(super) async fn receive(shared: &Shared, streaming: &mut Streaming) -> Result<Infallible, StoreError> {
    let mut rows = Rows::new(&shared.producer().await?, shared.layout.clone());
    let mut ticks = interval(ROUND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = Told { confirmed: Lsn(0), at: Instant::now() };
    let mut silence = Silence::new(told.at);
    let mut flow = Flow { since: Instant::now(), messages: 0, is_much: false };
    loop {
        let full = shared.with(|state| state.chain.is_full()).unwrap_or(false);
        let heard = tokio::select! {
            biased;
            _ = ticks.tick() => None,
            () = shared.pump.notified() => None,
            heard = streaming.next(), if !full => Some(heard?),
        };
        let mut asked = false;
        let now = Instant::now();
        if let Some(first) = heard {
            silence.heard(now);
            let taken = take_in(shared, streaming, &mut rows, first)?;
            asked = taken.asked;
            flow.count(taken.messages, now);
        }
        silence.check(now, !full)?;
        tell(shared, streaming, &mut told, asked, full).await?;
        if flow.is_much && !full && streaming.is_drained() {
            sleep(NAP).await;
        }
    }
}

/// What was taken in.
struct Taken {
    messages: usize,
    /// The server waits for an answer.
    asked: bool,
}

/// Takes in `first` and what else has come already.
fn take_in(shared: &Shared, streaming: &mut Streaming, rows: &mut Rows, first: Heard) -> Result<Taken, StoreError> {
    let (mut messages, mut asked, mut answered, mut came) = (0, false, false, false);
    let taken = shared.with(|state| {
        let mut next = Some(first);
        while let Some(heard) = next {
            messages += 1;
            match heard {
                Heard::Alive { sent, reply } => {
                    state.come_to(sent);
                    asked |= reply;
                    answered = true;
                }
                Heard::Data(message) => came |= change(state, rows, message)?,
            }
            next = if state.chain.is_full() { None } else { streaming.ready()? };
        }
        let is_much = state.has_unseen() && state.unconfirmed() >= shared.share_of_the_budget();
        Ok(is_much || state.chain.is_held_back() || state.chain.is_full() || state.chain.width() > WIDE)
    });
    let Some(is_urgent) = taken else { return Ok(Taken { messages, asked }) };
    if is_urgent? {
        shared.house.notify_one();
    }
    if came {
        shared.wake();
    } else if answered {
        shared.came();
    }
    Ok(Taken { messages, asked })
}

/// Takes in one change. Tells whether there is a new row.
fn change(state: &mut State, rows: &mut Rows, message: bytes::Bytes) -> Result<bool, StoreError> {
    let change = pgoutput::read(message)
        .map_err(|error| StoreError::new(ErrorKind::Incompatible, format!("reading the log: {error}")))?;
    match change {
        Change::Begin { commit, time, xid } => {
            rows.begin(time);
            state.chain.begin(commit, xid);
        }
        Change::Commit { end } => state.commit(end),
        Change::Relation(relation) => rows.relation(&relation)?,
        Change::Insert { relation, row } if state.chain.wants_rows() => {
            if let Some((id, record)) = rows.decode(relation, &row, None)? {
                return Ok(state.chain.row(id, record));
            }
        }
        Change::Insert { .. } | Change::Other => {}
    }
    Ok(false)
}

/// Tells the server how far we are, if it is time to.
async fn tell(
    shared: &Shared,
    streaming: &mut Streaming,
    told: &mut Told,
    asked: bool,
    full: bool,
) -> Result<(), StoreError> {
    let (came, confirmed, wanted) =
        shared.with(|state| (state.came(), state.confirmed(), state.wants_reply)).unwrap_or_default();
    let since = told.at.elapsed();
    let is_due = since >= if full { TELL_WHILE_FULL } else { TELL_EVERY };
    let news = confirmed.0.saturating_sub(told.confirmed.0);
    let has_news = news > 0 && (since >= ROUND || news >= shared.share_of_the_budget());
    if !(asked || wanted || is_due || has_news) {
        return Ok(());
    }
    shared.with(|state| state.wants_reply = false);
    streaming.tell(came, confirmed, shared.settings.clock.wall(), wanted || is_due).await?;
    (told.confirmed, told.at) = (confirmed, Instant::now());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(steps: &[(u64, usize)]) -> bool {
        let start = Instant::now();
        let mut flow = Flow { since: start, messages: 0, is_much: false };
        for (micros, messages) in steps {
            flow.count(*messages, start + Duration::from_micros(*micros));
        }
        flow.is_much
    }

    #[test]
    fn many_messages_within_a_moment_are_much_however_they_come() {
        assert!(flow(&[(200, 10), (600, 15), (1_000, 7)]));
        assert!(flow(&[(3_000, 200)]));
    }

    #[test]
    fn a_trickle_is_not_waited_for() {
        assert!(!flow(&[(1_000, 31)]));
        assert!(!flow(&[(1_000, 31), (2_000, 31)]));
    }

    #[test]
    fn what_comes_after_a_pause_is_not_waited_for() {
        assert!(!flow(&[(1_000, 500), (50_000, 500)]));
    }
}
