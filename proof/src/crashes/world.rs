//! A database, relays that live on it one after the other, and a target that outlives them all.

use std::{
    collections::BTreeSet,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use fastrand::Rng;
use outbox::Place;
use serde_json::Value;

use super::{
    ledger::Ledger,
    mood::Mood,
    plan::Point,
    process::RelayProcess,
    proxy::{CALL_TIMEOUT, Proxy},
    rig::{Rig, now},
    tally::Tally,
    target::Target,
    verdict,
    watch::Watch,
};

/// The relays' window: small, so that a kill finds it full.
const WINDOW: usize = 24;
/// Calls at a time.
pub(super) const CONCURRENCY: usize = 4;
/// How many of the newest entries stay.
const RETAINED: usize = 60;
/// Events under way at most, so that writers do not run away from a relay that waits for a lease.
pub(super) const AHEAD: usize = 40;
/// How long a life may last until its fault has struck.
pub(super) const LIFE: Duration = Duration::from_secs(60);
const CRASH_AT: &str = "OUTBOX_CRASH_AT";
const HOLD: &str = "OUTBOX_HOLD";
/// How often a condition is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(3);
/// How often one is looked at that takes a process.
pub(super) const COMMAND: Duration = Duration::from_millis(25);

/// The relay has died, as it was to, or stands at its point.
#[derive(Debug)]
pub(super) struct Died;

/// When a relay ended, and what was known then.
#[derive(Clone, Debug)]
pub(super) struct Break {
    /// Arrivals until then.
    pub(super) arrivals: usize,
    /// Requests until then that the proxy had the target see and the relay not know.
    pub(super) doubled: usize,
    /// Events that may come again besides those that come again after a crash.
    pub(super) more: usize,
    /// Whether it had published everything, kept nothing, and was stopped in order: nothing of that comes again.
    pub(super) whole: bool,
    /// What ended it.
    pub(super) what: String,
}

/// A replay that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) id: String,
    pub(super) places: Vec<Place>,
}

pub(super) struct World {
    pub(super) rig: Rig,
    pub(super) watch: Watch,
    pub(super) target: Target,
    pub(super) proxy: Proxy,
    pub(super) mood: Arc<Mood>,
    pub(super) ledger: Ledger,
    pub(super) tally: Tally,
    pub(super) breaks: Vec<Break>,
    pub(super) replays: Vec<Asked>,
    lives: usize,
    names: usize,
    seen: BTreeSet<String>,
    looked: usize,
}

impl World {
    /// A new world in `folder`. What the configuration has besides, as where the bookkeeping is, is `relay`.
    pub(super) fn new(binary: &Path, folder: &Path, seed: u64, relay: &str) -> Self {
        let mut rng = Rng::with_seed(seed);
        let target = Target::new();
        let mood = Arc::new(Mood::default());
        let answering = mood.clone();
        target.set_mood(move |event| answering.answer(event));
        let proxy = Proxy::new(target.address(), rng.u64(..));
        let rig = Rig::new(binary, folder, &config(&proxy, "status", relay));
        let watch = Watch::new(&rig.path("orders.db.relay"));
        let ledger = Ledger::new(&rig, rng.u64(..));
        Self {
            rig,
            watch,
            target,
            proxy,
            mood,
            ledger,
            tally: Tally { worlds: 1, ..Tally::default() },
            breaks: Vec::new(),
            replays: Vec::new(),
            lives: 0,
            names: 0,
            seen: BTreeSet::new(),
            looked: 0,
        }
    }

    /// A relay with these settings of `crates/outbox-cli/src/crash_points.rs`, and the name that its requests have.
    pub(super) fn named_relay(&mut self, environment: &[(&str, &str)]) -> (RelayProcess, String) {
        self.lives += 1;
        let name = format!("relay-{}", self.lives);
        let file = format!("{name}.toml");
        self.rig.configure(&file, &config(&self.proxy, &name, ""));
        let mut command = self.rig.command(&["relay", "--config", &file]);
        command.envs(environment.iter().copied());
        (self.rig.start(command), name)
    }

    /// A relay that dies at a point.
    pub(super) fn relay_until(&mut self, point: &Point) -> RelayProcess {
        self.named_relay(&[(CRASH_AT, &point.to_string())]).0
    }

    /// A relay that stands at a point, and the file that has it stand there.
    pub(super) fn relay_held_at(&mut self, point: &Point) -> (RelayProcess, PathBuf) {
        let file = self.rig.path(&format!("held-{}", self.lives));
        let (relay, _) = self.named_relay(&[(CRASH_AT, &point.to_string()), (HOLD, file.to_str().unwrap())]);
        (relay.standing_by(&file), file)
    }

    /// A relay that nothing is going to happen to by itself.
    pub(super) fn relay(&mut self) -> RelayProcess {
        self.named_relay(&[]).0
    }

    /// A name that no key had before.
    pub(super) fn fresh(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}/{}", self.names)
    }

    /// Commits something, unless much is under way already.
    pub(super) fn flow(&mut self) {
        self.look();
        if self.ledger.count() < self.seen.len() + AHEAD {
            self.ledger.flow();
        }
    }

    fn look(&mut self) {
        let arrivals = self.target.arrivals_since(self.looked);
        self.looked += arrivals.len();
        self.seen.extend(arrivals.into_iter().filter(|arrival| arrival.accepted).map(|arrival| arrival.id));
    }

    /// Whether all of `ids` were accepted.
    pub(super) fn arrived(&mut self, ids: &[String]) -> bool {
        self.look();
        ids.iter().all(|id| self.seen.contains(id))
    }

    /// The status, looked at in peace.
    pub(super) fn status(&self) -> Value {
        thread::sleep(COMMAND);
        self.rig.status()
    }

    /// Waits until `is_so`, or until the relay has died or stands at its point.
    ///
    /// # Panics
    /// If the relay ends in another way, or neither comes.
    pub(super) fn until(
        &mut self,
        relay: &mut RelayProcess,
        what: &str,
        flows: bool,
        mut is_so: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), Died> {
        let since = now();
        loop {
            if let Some(status) = relay.has_ended() {
                assert_eq!(status.signal(), Some(9), "the relay ended by itself, with {status}, until {what}");
                return Err(Died);
            }
            if relay.stands() {
                return Err(Died);
            }
            if is_so(self) {
                return Ok(());
            }
            if flows {
                self.flow();
            }
            assert!(now().since(since) < LIFE, "waited in vain: {what}");
            thread::sleep(LOOK);
        }
    }

    /// The lease's epoch.
    pub(super) fn epoch(&self) -> i64 {
        self.watch.leases().last().map_or(0, |(epoch, _)| *epoch)
    }

    /// Notes that a relay ended now, and has the target be as at first.
    pub(super) fn broke(&mut self, what: impl Into<String>) {
        self.proxy.lose(None);
        self.mood.brighten();
        self.end_of_life(what.into(), false);
    }

    /// Has a relay publish all there is, and redrives what was given up; it is stopped in order.
    pub(super) fn drain(&mut self) {
        self.mood.brighten();
        let mut relay = self.relay();
        let done = self.until(&mut relay, "everything is published", false, |world| {
            let status = world.status();
            let routes = status["routes"].as_array().cloned().unwrap_or_default();
            if routes.iter().any(|route| route["dead"] != 0) {
                world.redrive(&["--all"]);
            }
            let is_done = |route: &Value| {
                route["state"] == "flowing" && ["backlog", "retrying", "dead", "parked"].iter().all(|n| route[n] == 0)
            };
            !routes.is_empty() && routes.iter().all(is_done) && status["replays"] == Value::Array(Vec::new())
        });
        assert!(done.is_ok(), "nobody killed this relay");
        let stopped = relay.stop();
        assert_eq!(stopped.code, 0, "a relay that has drained ends well: {}", stopped.err);
        self.end_of_life("stopped in order".to_owned(), true);
    }

    fn end_of_life(&mut self, what: String, whole: bool) {
        let (arrivals, doubled) = (self.target.count(), self.proxy.doubled());
        self.breaks.push(Break { arrivals, doubled, more: 0, whole, what });
    }

    /// Redrives what `selector` says; nothing may match.
    pub(super) fn redrive(&self, selector: &[&str]) {
        let ran = self.rig.outbox(&[&["--json", "dead-letters", "redrive"], selector].concat());
        assert!(ran.code == 0 || ran.code == 3, "redriving {selector:?}: {ran:?}");
    }

    /// Whether `key` has a dead letter.
    pub(super) fn is_dead(&self, key: &str) -> bool {
        thread::sleep(COMMAND);
        let listed = self.rig.json(&["dead-letters", "list", "--limit", "1000"]);
        listed["dead_letters"].as_array().unwrap().iter().any(|letter| letter["event"]["key"] == key)
    }

    /// Everything that is wrong at the end, after a drain; and what it all came to.
    pub(super) fn judge(mut self) -> (Tally, Vec<String>) {
        let breaches = verdict::at_the_end(&mut self);
        (self.tally, breaches)
    }
}

fn config(proxy: &Proxy, name: &str, relay: &str) -> String {
    let timeout = CALL_TIMEOUT.as_millis();
    format!(
        "retention = {{ newest = {RETAINED} }}\n\
         [relay]\nfailover = '1s'\n{relay}\
         [[route]]\nname = 'main'\nwindow = {{ events = {WINDOW}, key_share = 8 }}\n\
         retry = {{ base_delay = '10ms', max_delay = '100ms' }}\n\
         webhook = {{ url = '{}', connect_timeout = '{timeout}ms', timeout = '{timeout}ms', concurrency = {CONCURRENCY}, headers = {{ x-relay = '{name}' }} }}\n",
        proxy.url()
    )
}
