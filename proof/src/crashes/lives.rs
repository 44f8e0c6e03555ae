//! Lives of relays: what each is made to do until its fault strikes.

use std::{convert::Infallible, fs};

use outbox::testing::{Io, Side};

use super::{
    plan::{Fault, Point},
    process::RelayProcess,
    proxy::Loss,
    world::{AHEAD, Asked, CONCURRENCY, Died, World},
};

/// How an errand ends: never by itself.
type Errand = Result<Infallible, Died>;

impl World {
    /// One life of a relay, until `fault` has struck.
    pub(super) fn live(&mut self, fault: &Fault) {
        match fault {
            Fault::Point(point) => self.die_at(point),
            Fault::Kill(after) => self.kill_after(*after),
            Fault::Pause(after) => self.pause_after(*after),
            Fault::HoldBack(io) => self.hold_back(*io),
            Fault::Loss(loss, after) => self.lose(*loss, *after),
            Fault::Clock(hours, after) => self.jump(hours, *after),
        }
        self.tally.strike(fault);
        self.broke(fault.to_string());
    }

    fn die_at(&mut self, point: &Point) {
        if point.io == Io::Purge {
            // It purges what every route is past, and looks at that when it starts.
            self.have_a_checkpoint();
        }
        let mut relay = self.relay_until(point);
        let Err(Died) = self.errand(&mut relay, point.io);
    }

    /// Has the relay do this kind of I/O, again and again until it has died.
    fn errand(&mut self, relay: &mut RelayProcess, io: Io) -> Errand {
        match io {
            Io::Keep | Io::Trouble | Io::Kept | Io::Settle => self.get_into_trouble(relay),
            Io::ForgetTombstones => self.discard(relay),
            Io::NoteReplayed => self.replay(relay),
            Io::NoteHealth => self.have_an_outage(relay),
            Io::Release => self.stop(relay),
            // What every relay does when it starts, or with every event.
            _ => self.work(relay),
        }
    }

    fn work(&mut self, relay: &mut RelayProcess) -> Errand {
        loop {
            self.until(relay, "it has died at work", true, |_| false)?;
        }
    }

    /// A key is refused; then the target thinks better of it, and an operator redrives.
    fn get_into_trouble(&mut self, relay: &mut RelayProcess) -> Errand {
        loop {
            let key = self.fresh("troubled");
            self.mood.refuse(&key);
            let mut ids = self.ledger.commit(Some(&key), 2);
            ids.extend(self.ledger.commit(Some(&key), 1));
            self.until(relay, "an event is a dead letter", true, |world| world.is_dead(&key))?;
            self.mood.welcome(&key);
            self.redrive(&["--key", &key]);
            self.until(relay, "what was parked has gone out", true, |world| world.arrived(&ids))?;
        }
    }

    /// An event is discarded while one before it holds the checkpoint back.
    fn discard(&mut self, relay: &mut RelayProcess) -> Errand {
        loop {
            let (slow, unwanted) = (self.fresh("slow"), self.fresh("unwanted"));
            self.mood.hold(&slow);
            self.mood.refuse(&unwanted);
            self.ledger.commit(Some(&slow), 1);
            let id = self.ledger.commit(Some(&unwanted), 1);
            self.until(relay, "an event is a dead letter", false, |world| world.is_dead(&unwanted))?;
            let ran = self.rig.outbox(&[
                "--json",
                "dead-letters",
                "discard",
                "--key",
                &unwanted,
                "--yes",
                "--reason",
                "a test",
            ]);
            assert_eq!(ran.code, 0, "discarding a dead letter: {ran:?}");
            self.ledger.discard(id[0].clone());
            self.until(relay, "its marker has gone out", false, |world| world.arrived(&id))?;
            self.mood.welcome(&unwanted);
            self.mood.release(&slow);
            let after = self.ledger.commit(Some(&unwanted), 1);
            self.until(relay, "the next of its key has gone out", true, |world| world.arrived(&after))?;
        }
    }

    /// History of a key is asked for again.
    fn replay(&mut self, relay: &mut RelayProcess) -> Errand {
        loop {
            let key = self.fresh("replayed");
            let mut ids = self.ledger.commit(Some(&key), 2);
            ids.extend(self.ledger.commit(Some(&key), 1));
            self.until(relay, "there is history", true, |world| world.arrived(&ids))?;
            // A replay ends where the route stands.
            self.until(relay, "it is behind the checkpoint", false, |world| {
                world.status()["routes"][0]["backlog"] == 0
            })?;
            let ran = self.rig.json(&["replay", "--route", "main", "--key", &key, "--yes", "--no-wait"]);
            let places = self.rig.committed().remove(&key).unwrap_or_default();
            if let Some(id) = ran["routes"][0]["replay"].as_str() {
                self.replays.push(Asked { id: id.to_owned(), places });
            }
            self.until(relay, "the replay is done", true, |world| {
                world.status()["replays"].as_array().is_some_and(Vec::is_empty)
            })?;
        }
    }

    /// The target falls over and stands up again.
    fn have_an_outage(&mut self, relay: &mut RelayProcess) -> Errand {
        loop {
            self.mood.set_down(true);
            self.until(relay, "it backs off", true, |world| world.status()["routes"][0]["state"] == "backing_off")?;
            self.mood.set_down(false);
            self.until(relay, "events flow again", true, |world| world.status()["routes"][0]["state"] == "flowing")?;
        }
    }

    /// It is asked to stop once it publishes.
    fn stop(&mut self, relay: &mut RelayProcess) -> Errand {
        let before = self.target.count();
        self.until(relay, "it publishes", true, |world| world.target.count() > before + CONCURRENCY)?;
        relay.signal("TERM");
        loop {
            self.until(relay, "it has died giving up its lease", false, |_| false)?;
        }
    }

    /// A relay that publishes all there is, something at least, and stops in order.
    fn have_a_checkpoint(&mut self) {
        for _ in 0..AHEAD {
            self.flow();
        }
        self.drain();
    }

    /// Lets a relay work until so much has arrived from now on; then kills it.
    fn kill_once_arrived(&mut self, mut relay: RelayProcess, after: usize) {
        let before = self.target.count();
        let arrived =
            self.until(&mut relay, "enough has arrived", true, |world| world.target.count() >= before + after);
        assert!(arrived.is_ok(), "somebody else killed the relay");
        relay.kill();
    }

    pub(super) fn kill_after(&mut self, after: usize) {
        let relay = self.relay();
        self.kill_once_arrived(relay, after);
    }

    fn lose(&mut self, loss: Loss, after: usize) {
        self.proxy.lose(Some(loss));
        let struck = self.proxy.struck();
        let mut relay = self.relay();
        let done = self.until(&mut relay, "something is lost", true, |world| world.proxy.struck() > struck + 3);
        assert!(done.is_ok(), "somebody else killed the relay");
        self.kill_once_arrived(relay, after);
    }

    /// The clock jumps about, while events flow and while one waits for another attempt.
    fn jump(&mut self, hours: &[i64], after: usize) {
        let file = self.rig.shift(0);
        let (mut relay, _) = self.named_relay(&[("OUTBOX_WALL_SHIFT", file.to_str().unwrap())]);
        for hours in hours {
            let key = self.fresh("troubled");
            self.mood.refuse(&key);
            let ids = self.ledger.commit(Some(&key), 1);
            let dead = self.until(&mut relay, "an event is a dead letter", true, |world| world.is_dead(&key));
            self.rig.shift(*hours);
            self.mood.welcome(&key);
            self.redrive(&["--key", &key]);
            let what = format!("it has gone out, the clock being off by {hours} hours");
            let out = self.until(&mut relay, &what, true, |world| world.arrived(&ids));
            assert!(dead.is_ok() && out.is_ok(), "somebody else killed the relay");
        }
        self.kill_once_arrived(relay, after);
    }

    /// The owner is stopped until another has taken over, and then goes on as if nothing had happened.
    fn pause_after(&mut self, after: usize) {
        let (mut zombie, name) = self.named_relay(&[]);
        let before = self.target.count();
        let publishes = self.until(&mut zombie, "it publishes", true, |world| world.target.count() >= before + after);
        assert!(publishes.is_ok(), "somebody else killed the relay");
        let mut successor = self.relay();
        self.rig.stop_between_writes(&zombie);
        let epoch = self.rig.books().map_or(0, |books| books.epoch);
        self.broke(format!("{name} was stopped"));
        // What it has under way when it goes on comes once more.
        self.breaks.last_mut().unwrap().more = CONCURRENCY;
        let taken = self.until(&mut successor, "another relay takes over", true, |world| {
            world.rig.books().is_some_and(|books| books.epoch > epoch)
        });
        let taken_at = self.target.count();
        let publishes =
            self.until(&mut successor, "it publishes", true, |world| world.target.count() > taken_at + CONCURRENCY);
        assert!(taken.is_ok() && publishes.is_ok(), "somebody else killed the relay");
        zombie.signal("CONT");
        let log = zombie.log_file().to_owned();
        let notices = self.until(&mut zombie, "the one that was stopped notices", true, |_| {
            fs::read_to_string(&log).unwrap().contains("standing by")
        });
        assert!(notices.is_ok(), "somebody else killed the relay");
        let late = self.target.arrivals_since(taken_at);
        let late = late.iter().filter(|arrival| arrival.relay.as_deref() == Some(&name)).count();
        assert!(late <= CONCURRENCY, "{late} publications of a relay that had lost its lease");
        zombie.kill();
        successor.kill();
    }

    /// The owner is stopped when it is about to write, and goes on with just that when another has taken the lease and died:
    /// nothing is stored of it, nor of anything else that it does then, until it has taken the lease again.
    fn hold_back(&mut self, io: Io) {
        let (mut zombie, file) = self.relay_held_at(&Point { io, side: Side::Before, nth: 1 });
        let Err(Died) = self.errand(&mut zombie, io);
        self.rig.stop_between_writes(&zombie);
        let owned = self.epoch();
        self.broke(format!("stopped before {io}"));
        // What it has under way when it goes on comes once more.
        self.breaks.last_mut().unwrap().more = CONCURRENCY;
        let mut successor = self.relay_until(&Point { io: Io::Take, side: Side::After, nth: 1 });
        let Err(Died) = self.work(&mut successor);
        let (taken, before) = (self.epoch(), self.watch.writes().len());
        assert!(taken > owned, "nobody took the lease of epoch {owned}");
        fs::remove_file(&file).unwrap();
        zombie.signal("CONT");
        // It writes in the order in which it was about to: what was held back comes before this.
        let again = self.until(&mut zombie, "it takes the lease again", true, |world| world.epoch() > taken);
        assert!(again.is_ok(), "somebody else killed the relay");
        let writes = self.watch.writes();
        let stale: Vec<_> = writes[before..].iter().filter(|(epoch, _)| *epoch <= taken).collect();
        assert!(stale.is_empty(), "written by a relay that had lost its lease: {stale:?}");
        zombie.kill();
    }
}
