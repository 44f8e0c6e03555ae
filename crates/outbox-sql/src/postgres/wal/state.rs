//! How far the stream has come, and what of it the server may forget.

use super::{
    chain::Chain,
    look::Look,
    lsn::Lsn,
    slot::{Held, Pin},
};
use crate::postgres::position::Snapshot;

/// The stream while it runs.
pub(super) struct State {
    pub(super) chain: Chain,
    /// Which of this process's streams it is.
    pub(super) number: u64,
    /// Everything before this place in the log has come.
    came: Lsn,
    /// Nothing before this place is needed any more: all of it can be seen in the table.
    confirmed: Lsn,
    /// Transactions that came and were not yet looked for in the table, in the order of their commits.
    unseen: Vec<u64>,
    /// All that this sees has come once the stream has come to this place.
    coming: Option<(Snapshot, Lsn)>,
    /// Somebody waits to know how far the server has sent.
    pub(super) wants_reply: bool,
    pub(super) held: Held,
    pub(super) pin: Option<Pin>,
}

impl State {
    pub(super) fn new(chain: Chain) -> Self {
        Self {
            chain,
            number: 0,
            came: Lsn(0),
            confirmed: Lsn(0),
            unseen: Vec::new(),
            coming: None,
            wants_reply: false,
            held: Held::default(),
            pin: None,
        }
    }

    pub(super) fn came(&self) -> Lsn {
        self.came
    }

    pub(super) fn confirmed(&self) -> Lsn {
        self.confirmed
    }

    /// How much has come that is not confirmed, in bytes of the log.
    pub(super) fn unconfirmed(&self) -> u64 {
        self.came.0.saturating_sub(self.confirmed.0)
    }

    /// Whether transactions have to be looked for before more can be confirmed.
    pub(super) fn has_unseen(&self) -> bool {
        !self.unseen.is_empty()
    }

    /// A transaction has come whole.
    pub(super) fn commit(&mut self, end: Lsn) {
        if let Some(xid) = self.chain.commit(end) {
            self.unseen.push(xid);
        }
        self.come_to(end);
    }

    /// Everything before `place` has come.
    pub(super) fn come_to(&mut self, place: Lsn) {
        self.came = self.came.max(place);
        if self.unseen.is_empty() {
            self.confirmed = self.came;
        }
        if let Some((snapshot, _)) = self.coming.take_if(|(_, place)| *place <= self.came) {
            self.chain.pass(&snapshot);
        }
    }

    /// What has to be seen before the present place may be confirmed: its number, and that place.
    pub(super) fn to_see(&self) -> (usize, Lsn) {
        (self.unseen.len(), self.came)
    }

    /// Takes over what was looked at, with what was [to be seen](Self::to_see) when it began.
    pub(super) fn saw(&mut self, look: &Look, (count, place): (usize, Lsn)) {
        let count = count.min(self.unseen.len());
        let hidden: Vec<_> = self.unseen.drain(..count).filter(|xid| !look.snapshot.sees(*xid)).collect();
        if hidden.is_empty() {
            self.confirmed = self.confirmed.max(place);
        }
        // They wait for a standby, or are being ended just now.
        self.unseen.splice(..0, hidden);
        if self.coming.is_none() {
            self.coming = Some((look.snapshot.clone(), look.written));
            self.come_to(self.came);
        }
        self.chain.gate(look.gate());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::position::{LogPlace, Standing};

    fn record(id: i64) -> outbox::Record {
        let undecodable = outbox::Undecodable {
            id: format!("row/{id}").into(),
            key: None,
            reason: String::new(),
            raw: bytes::Bytes::new(),
        };
        outbox::Record {
            position: outbox::Position::new(""),
            commit: outbox::CommitId([0; 16]),
            recorded: jiff::Timestamp::UNIX_EPOCH,
            content: outbox::Content::Undecodable(undecodable),
        }
    }

    fn look(xmax: u64, running: &[u64], written: u64) -> Look {
        let snapshot = Snapshot::new(xmax, running.iter().copied());
        Look { snapshot, written: Lsn(written), standbys: String::new(), publication: String::new(), timeline: 1 }
    }

    fn transaction(state: &mut State, xid: u32, end: u64) {
        state.chain.begin(Lsn(end - 1), xid);
        state.chain.row(i64::from(xid), record(i64::from(xid)));
        state.commit(Lsn(end));
    }

    #[test]
    fn a_quiet_stream_is_confirmed_as_it_comes() {
        let mut state = State::new(Chain::new(Snapshot::new(10, []), LogPlace::default(), 10));
        state.come_to(Lsn(100));
        assert_eq!(state.confirmed(), Lsn(100));
    }

    #[test]
    fn nothing_is_confirmed_before_it_can_be_seen_in_the_table() {
        let mut state = State::new(Chain::new(Snapshot::new(10, []), LogPlace::default(), 10));
        transaction(&mut state, 11, 100);
        state.come_to(Lsn(120));
        assert_eq!(state.confirmed(), Lsn(0));
        let asked = state.to_see();
        transaction(&mut state, 12, 200);
        state.saw(&look(13, &[11], 150), asked);
        assert_eq!(state.confirmed(), Lsn(0), "11 waits for a standby");
        let asked = state.to_see();
        state.saw(&look(14, &[13], 250), asked);
        assert_eq!(state.confirmed(), Lsn(200));
        state.come_to(Lsn(300));
        assert_eq!(state.confirmed(), Lsn(300));
    }

    #[test]
    fn what_the_chain_let_go_of_is_not_confirmed_before_it_can_be_seen_either() {
        let mut state = State::new(Chain::new(Snapshot::new(10, []), LogPlace::default(), 10));
        state.chain.begin(Lsn(99), 11);
        state.chain.row(1, record(1));
        state.chain.clear();
        state.commit(Lsn(100));
        state.come_to(Lsn(120));
        assert_eq!(state.confirmed(), Lsn(0), "11 may wait for a standby");
        let asked = state.to_see();
        state.saw(&look(12, &[], 130), asked);
        assert_eq!(state.confirmed(), Lsn(120));
    }

    #[test]
    fn what_comes_again_to_a_stream_that_began_behind_it_is_not_confirmed_before_it_can_be_seen() {
        let mut state = State::new(Chain::new(Snapshot::new(10, []), LogPlace::default(), 10));
        let read = Standing::at_rest(Snapshot::new(12, []), LogPlace::default());
        // A route read 11 in an earlier stream, and the chain begins anew behind it.
        state.chain.know(read.position());
        state.chain.find(&read.position(), outbox::source::Limit { events: 1, bytes: 1 }).unwrap();
        transaction(&mut state, 11, 100);
        assert_eq!(state.confirmed(), Lsn(0));
    }

    #[test]
    fn what_a_look_sees_counts_as_passed_once_the_stream_has_come_that_far() {
        let mut state = State::new(Chain::new(Snapshot::new(10, [4, 5, 6]), LogPlace::default(), 10));
        let asked = state.to_see();
        state.saw(&look(12, &[6], 150), asked);
        state.come_to(Lsn(149));
        assert_eq!(state.chain.width(), 3);
        state.come_to(Lsn(150));
        assert_eq!(state.chain.width(), 1, "6 is running still");
    }
}
