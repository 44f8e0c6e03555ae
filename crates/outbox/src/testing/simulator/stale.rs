//! A write that a relay had sent to its bookkeeping when it was made to stand still: it lands when the relay comes back,
//! though nobody waits for it any more, and though another may have taken its place.

use futures_util::FutureExt as _;

use super::{
    checks::{self, at_once},
    fault::Fault,
    process::Around,
    rule::Rule,
    worker::LEASE,
    world::World,
};
use crate::{
    bookkeeping::{Bookkeeping as _, Keep, Lane, Lease, Operator as _, Settlement},
    error::{ErrorKind, StoreError},
    source::PartitionId,
    testing::Io,
};

/// A write that is on its way.
pub(super) struct Stale {
    around: Around,
    io: Io,
    /// Under which it was sent.
    lease: Option<Lease>,
}

impl Stale {
    pub(super) fn new(around: &Around, io: Io, lease: &Lease) -> Self {
        Self { around: around.clone(), io, lease: Some(lease.clone()) }
    }

    /// It got there, or came back.
    pub(super) fn arrived(mut self) {
        self.lease = None;
    }
}

impl Drop for Stale {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        let (around, io) = (self.around.clone(), self.io);
        self.around.lands_later(move || around.land(io, &lease));
    }
}

impl Around {
    fn land(&self, io: Io, lease: &Lease) {
        let world = &self.world;
        world.note(|| format!("{}: {io:?} lands that it no longer waits for", self.life.name));
        let now = at_once(world.books.lease(LEASE));
        let is_over = now.epoch != lease.epoch || now.released;
        match world.write_nothing(io, lease).now_or_never() {
            // Of a lease that another has taken there is nothing to give back, and nobody is told so.
            Some(Ok(())) if is_over && io == Io::Release => {
                if at_once(world.books.lease(LEASE)).released != now.released {
                    world.breach(Rule::Bounded, "a lease was given back by who had it before");
                }
            }
            Some(Ok(())) if is_over => {
                let (of, at) = (lease.epoch, now.epoch);
                world.breach(Rule::Bounded, format!("{io:?} of epoch {of} was taken in epoch {at}"));
            }
            Some(Ok(())) => checks::after(world, io),
            Some(Err(error)) if error.kind() == ErrorKind::Fenced => world.state().strikes(Fault::Fenced),
            answer => world.breach(Rule::Bounded, format!("{io:?} that came late was answered {answer:?}")),
        }
    }
}

impl World {
    /// The same write under the same lease, of what changes nothing: it says whether it would have been taken.
    async fn write_nothing(&self, io: Io, lease: &Lease) -> Result<(), StoreError> {
        let (books, route) = (&self.books, &self.routes[0]);
        let (partition, lane) = (PartitionId::new("none"), Lane::Event("none".into()));
        match io {
            Io::Checkpoint => match books.checkpoints(route).await?.first() {
                Some(stored) => books.checkpoint(lease, route, stored, None).await,
                None => books.renew(lease).await,
            },
            Io::Keep => {
                let keep = Keep { lane, front: None, events: Vec::new() };
                books.keep(lease, route, &partition, &keep).await.map(drop)
            }
            Io::Settle => {
                let (remove, apart, discarded, front) = (Vec::new(), None, false, None);
                let settlement = Settlement { lane, generation: 0, remove, apart, discarded, front };
                books.settle(lease, route, &settlement).await.map(drop)
            }
            Io::ForgetTombstones => books.forget_tombstones(lease, route, &[]).await,
            Io::Release => books.release(lease).await,
            Io::ForgetCheckpoints => books.forget_checkpoints(lease, route, &[]).await,
            Io::NoteReplayed => books.note_replayed(lease, "none").await,
            Io::NoteHealth => match books.health(route).await? {
                Some(health) => books.note_health(lease, route, &health).await,
                None => books.renew(lease).await,
            },
            Io::NoteClaims => books.note_claims(lease, &books.claims(LEASE).await?).await,
            _ => books.renew(lease).await,
        }
    }
}
