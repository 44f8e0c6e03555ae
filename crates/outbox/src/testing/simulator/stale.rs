//! A write that a relay had sent to its bookkeeping when it was made to stand still: it lands when the relay comes back,
//! though nobody waits for it any more, and though another may have taken its place.

use futures_util::FutureExt as _;

use super::{
    checks::{self, at_once},
    fault::Fault,
    process::Around,
    rule::Rule,
    worker::LEASE,
};
use crate::{
    bookkeeping::{Bookkeeping as _, Lease},
    error::ErrorKind,
    testing::Io,
};

/// A write that is on its way.
pub(super) struct Stale {
    around: Around,
    /// Under which it was sent.
    lease: Option<Lease>,
}

impl Stale {
    /// `None` if `io` is no write that is done under a lease, or the relay has none.
    pub(super) fn of(around: &Around, io: Io) -> Option<Self> {
        if !matches!(io, Io::Renew | Io::Checkpoint | Io::Keep | Io::Settle) || !around.is_owner() {
            return None;
        }
        let lease = at_once(around.world.books.lease(LEASE));
        let lease = Lease { name: LEASE.to_owned(), epoch: lease.epoch };
        Some(Self { around: around.clone(), lease: Some(lease) })
    }

    /// It got there, or came back.
    pub(super) fn arrived(mut self) {
        self.lease = None;
    }
}

impl Drop for Stale {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        let around = self.around.clone();
        self.around.lands_later(move || around.land(&lease));
    }
}

impl Around {
    /// A renewal stands for the write, whichever it was: it needs the lease as all of them do, and says nothing else.
    fn land(&self, lease: &Lease) {
        let world = &self.world;
        world.note(|| format!("{}: a write lands that it no longer waits for", self.life.name));
        let now = at_once(world.books.lease(LEASE));
        let is_over = now.epoch != lease.epoch || now.released;
        match world.books.renew(lease).now_or_never() {
            Some(Ok(())) if is_over => {
                world.breach(
                    Rule::Bounded,
                    format!("a write of epoch {} was taken in epoch {}", lease.epoch, now.epoch),
                );
            }
            Some(Ok(())) => checks::after(world, Io::Renew),
            Some(Err(error)) if error.kind() == ErrorKind::Fenced => world.state().strikes(Fault::Fenced),
            answer => world.breach(Rule::Bounded, format!("a write that came late was answered {answer:?}")),
        }
    }
}
