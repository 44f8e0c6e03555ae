//! A database that is swapped for an older backup.

use super::{
    process::RelayProcess,
    tally::{BACKUP, BACKUP_RUNNING},
    world::World,
};

impl World {
    /// Events are published, a backup is made, more are published; then the backup is put in the place of the database,
    /// under a running relay or not. It is noticed, nothing of it is published, `outbox adopt` is named; once an operator
    /// has adopted it, all goes on.
    pub(super) fn restore(&mut self, running: bool) {
        self.kill_once(15);
        self.drain();
        self.rig.back_up("backup.db");
        self.kill_once(20);
        self.drain();
        let published = self.target.count();
        let relay = running.then(|| self.owner());
        self.rig.restore("backup.db");
        self.ledger.reopen(&self.rig);
        let ran = relay.unwrap_or_else(|| self.relay()).end();
        assert_eq!(ran.code, 4, "an older copy is noticed: {ran:?}");
        assert!(ran.said().contains("outbox adopt"), "what to do is said: {ran:?}");
        let again = self.rig.outbox(&["relay"]);
        assert_eq!(again.code, 4, "and again, as long as nothing is done: {again:?}");
        assert_eq!(self.target.count(), published, "nothing of another history is published");
        let adopted = self.rig.json(&["adopt", "--yes", "--entries", "keep"]);
        assert_eq!(adopted["done"], true, "{adopted:#}");
        self.broke("adopted");
        self.kill_once(15);
        self.drain();
        self.tally.note(if running { BACKUP_RUNNING } else { BACKUP });
    }

    /// A relay is killed after so many arrivals.
    pub(super) fn kill_once(&mut self, after: usize) {
        self.kill_after(after);
        self.tally.kill();
        self.broke(format!("killed after {after} arrivals"));
    }

    /// A relay that owns the source, with nothing to do.
    fn owner(&mut self) -> RelayProcess {
        let mut relay = self.relay();
        let epoch = self.rig.books().map_or(0, |books| books.epoch);
        let owns = self.until(&mut relay, "it owns the source", false, |world| {
            world.rig.books().is_some_and(|books| books.epoch > epoch || !books.released)
        });
        assert!(owns.is_ok(), "somebody killed the relay");
        relay
    }
}
