//! The demo from beginning to end.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use orders::Cents;
use outbox::{Clock, System};
use serde_json::json;
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
};

use super::{
    Trouble,
    chaos::{Level, Plan, Role},
    check::{self, Findings},
    commands::Operator,
    consumer,
    driver::{self, Driven},
    observer::{self, Observer, Progress},
    processes::{Company, Member, News, Process, put},
    purchases::{Purchase, Truth, history, refused_above},
    report::{Expected, Report},
    server::Server,
    stage::Stage,
    view::View,
};

/// How long everything may stand still before the demo gives up.
pub(crate) const STALL: Duration = Duration::from_secs(60);
/// How long everything has to stand still in the end: whatever is still under way would arrive in this time.
pub(crate) const QUIET: Duration = Duration::from_secs(1);
/// Between two pictures of the live view.
pub(crate) const PICTURE: Duration = Duration::from_millis(200);
/// Between two looks at the dead letters.
const LOOK: Duration = Duration::from_millis(200);

/// What is to be played.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub seed: u64,
    pub level: Level,
    /// How many purchases, or all.
    pub orders: Option<usize>,
    /// The folder to keep.
    pub keep: Option<PathBuf>,
    /// The PostgreSQL server that holds the orders, if not a file.
    pub store: Option<String>,
}

/// Plays the demo.
///
/// # Errors
/// [`Trouble`] if it did not come to its end.
pub(crate) async fn play(settings: &Settings) -> Result<Report, Trouble> {
    let clock: Arc<dyn Clock> = Arc::new(System);
    let started = clock.moment();
    let purchases = history(settings.orders)?;
    let server = match &settings.store {
        Some(url) => Some(Server::set_up(url, &System).await?),
        None => None,
    };
    let stage = Arc::new(Stage::set_up(settings.keep.as_deref(), server, &System)?);
    let (stop, stopped) = watch::channel(false);
    let mut processes = JoinSet::new();
    let played = tokio::select! {
        played = cast(settings, &purchases, &stage, &clock, &mut processes, stopped) => played.map_err(Trouble::from),
        () = interrupted() => Err(Trouble::Interrupted),
    };
    // Whatever came of it, no process stays behind.
    stop.send_replace(true);
    let mut kills = BTreeMap::new();
    while let Some(ended) = processes.join_next().await {
        if let Ok((role, Ok(count))) = ended {
            kills.insert(Role::name(role), count);
        }
    }
    let seconds = (clock.moment() - started).as_secs_f64();
    let judged = match played {
        Ok(ending) => judge(settings, &purchases, &stage, &ending, kills, seconds).await.map_err(Trouble::from),
        Err(trouble) => Err(trouble),
    };
    if let Some(server) = stage.server().filter(|_| settings.keep.is_none()) {
        server.remove().await;
    }
    judged
}

/// What came of the play, apart from what is on disk.
#[derive(Debug)]
struct Ending {
    driven: Driven,
    redriven: u64,
}

type Lives = JoinSet<(Role, Result<u64, String>)>;

/// Starts the processes and plays, until the end or the first failure.
async fn cast(
    settings: &Settings,
    purchases: &[Purchase],
    stage: &Arc<Stage>,
    clock: &Arc<dyn Clock>,
    processes: &mut Lives,
    stopped: watch::Receiver<bool>,
) -> Result<Ending, String> {
    let total = purchases.len() as u64;
    let wanted = settings.level.refusals().min(purchases.len() / 100 + 1);
    let refuse_above = if wanted > 0 { refused_above(purchases, wanted) } else { None };
    let refused = Refused::by(refuse_above, purchases);
    let free = total - refused.waiting;
    let plan = Plan::new(settings.seed, settings.level, |role| if role == Role::Ledger { free } else { total });
    let (rule, refuse_above) = watch::channel(refuse_above);
    let (placed, placed_so_far) = watch::channel(0);
    let client = client()?;
    let news = Arc::new(News::default());
    let progress = observer::watch(stage)?;
    let company = Company {
        stage: Arc::clone(stage),
        client,
        news,
        refuse_above,
        placed: placed_so_far,
        progress: progress.clone(),
    };
    let mut throughs = Vec::new();
    for role in Role::ALL {
        let process = Process::start(Member { role, company: company.clone() }).await?;
        let (through, over) = oneshot::channel();
        throughs.push(over);
        let life = process.live(plan.of(role).to_vec(), through, stopped.clone());
        processes.spawn(async move { (role, life.await) });
    }
    let story =
        Story { purchases, company: company.clone(), rule, refused, operator: Operator::new(Arc::clone(stage)) };
    tokio::select! {
        ending = story.play(placed, throughs) => ending,
        failure = first_failure(processes) => Err(failure),
        never = watch_server(stage) => never,
        stalled = show(View::new(&LABELS, total, Arc::clone(clock)), &company, clock) => Err(stalled),
    }
}

/// Looks at the server's database for ever, where there is one.
async fn watch_server(stage: &Stage) -> Result<Ending, String> {
    if let Some(server) = stage.server() {
        server.watch().await;
    }
    std::future::pending().await
}

/// The client of the driver and of everything else that asks the processes something.
pub(crate) fn client() -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(Duration::from_secs(2))
        .timeout(Duration::from_secs(15))
        .build()
        .map_err(|error| format!("no HTTP client: {error}"))
}

pub(crate) async fn interrupted() {
    let terminated = async {
        #[cfg(unix)]
        if let Ok(mut signal) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            signal.recv().await;
            return;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// The first process that ends by itself; never, if none does.
async fn first_failure(processes: &mut Lives) -> String {
    while let Some(ended) = processes.join_next().await {
        match ended {
            Ok((_, Ok(_))) => {}
            Ok((_, Err(why))) => return why,
            Err(error) => return error.to_string(),
        }
    }
    std::future::pending().await
}

/// What the live view counts.
const LABELS: [&str; 5] = ["placed", "committed", "published", "ledger", "notifications"];

fn counts(placed: u64, progress: &Progress) -> Vec<u64> {
    let applied = [progress.ledger.applied, progress.notifications.applied];
    vec![placed, progress.committed, progress.published(), applied[0], applied[1]]
}

/// Events that are committed and not yet applied everywhere.
fn backlog(progress: &Progress) -> u64 {
    progress.committed.saturating_sub(progress.ledger.applied.min(progress.notifications.applied))
}

/// Draws the live view until it is dropped; gives up when nothing moves any more.
async fn show(mut view: View, company: &Company, clock: &Arc<dyn Clock>) -> String {
    let mut last = (0, Progress::default());
    let mut moved = clock.moment();
    loop {
        tokio::time::sleep(PICTURE).await;
        let now = (*company.placed.borrow(), company.progress.borrow().clone());
        let news = company.news.take();
        view.show(counts(now.0, &now.1), backlog(&now.1), &news);
        if now != last || !news.is_empty() {
            (moved, last) = (clock.moment(), now);
        } else if clock.moment() - moved > STALL {
            return format!(
                "nothing has moved for {} s: placed {}, committed {}, applied by the ledger {}, by the notifications {}",
                STALL.as_secs(),
                last.0,
                last.1.committed,
                last.1.ledger.applied,
                last.1.notifications.applied
            );
        }
    }
}

/// The plot.
struct Story<'a> {
    purchases: &'a [Purchase],
    company: Company,
    rule: watch::Sender<Option<i64>>,
    refused: Refused,
    operator: Operator,
}

impl Story<'_> {
    /// Places every order, waits until every incident is over and every event applied, mends what has to be mended.
    async fn play(
        mut self,
        placed: watch::Sender<u64>,
        throughs: Vec<oneshot::Receiver<()>>,
    ) -> Result<Ending, String> {
        let url = self.company.stage.url(Role::Orders, "/orders");
        let driven = driver::place_all(self.company.client.clone(), url, self.purchases.to_vec(), placed).await?;
        for through in throughs {
            through.await.map_err(|_| "a process ended before its last incident".to_owned())?;
        }
        let total = self.purchases.len() as u64;
        let free = total - self.refused.waiting;
        self.until(|now| now.committed >= total && now.notifications.applied >= total && now.ledger.applied >= free)
            .await?;
        let redriven = if self.refused.keys.is_empty() { 0 } else { self.mend().await? };
        self.until(|now| now.ledger.applied >= total).await?;
        while !self.operator.dead_letters(Role::Ledger).await?.keys.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
        while tokio::time::timeout(QUIET, self.moves()).await.is_ok() {}
        Ok(Ending { driven, redriven })
    }

    /// Shows the dead letters, mends the rule that refused them, redrives them.
    async fn mend(&self) -> Result<u64, String> {
        while self.operator.dead_letters(Role::Ledger).await?.keys != self.refused.keys {
            tokio::time::sleep(LOOK).await;
        }
        self.company.news.say(format!("$ outbox dead-letters list --route {}", Role::Ledger));
        self.company.news.say(self.operator.show_dead_letters(Role::Ledger).await?);
        self.rule.send_replace(None);
        put(&self.company, Role::Ledger, "/rule", &json!({ "refuse_above": null })).await?;
        let redriven = self.operator.redrive(Role::Ledger).await?;
        self.company.news.say(format!(
            "The ledger's rule is mended.\n$ outbox dead-letters redrive --route {} --all\n{redriven} redriven",
            Role::Ledger
        ));
        Ok(redriven)
    }

    async fn until(&mut self, reached: impl FnMut(&Progress) -> bool) -> Result<(), String> {
        let ended = |_| "the observer ended".to_owned();
        self.company.progress.wait_for(reached).await.map(|_| ()).map_err(ended)
    }

    /// Waits until anything changes.
    async fn moves(&self) {
        let mut progress = self.company.progress.clone();
        let before = progress.borrow().clone();
        // An observer that ended shows no change, and the files are read again at the end.
        if progress.wait_for(|now| *now != before).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What the ledger's rule holds up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Refused {
    /// Keys with a refused order.
    keys: BTreeSet<String>,
    /// Orders that are refused or wait behind one that is.
    waiting: u64,
}

impl Refused {
    fn by(limit: Option<i64>, purchases: &[Purchase]) -> Self {
        let mut refused = Self::default();
        let Some(limit) = limit else { return refused };
        for purchase in purchases {
            let key = format!("customer/{}", purchase.customer);
            if purchase.quantity > limit || refused.keys.contains(&key) {
                refused.keys.insert(key);
                refused.waiting += 1;
            }
        }
        refused
    }
}

/// Reads what the processes left, and compares it with the purchase history.
async fn judge(
    settings: &Settings,
    purchases: &[Purchase],
    stage: &Arc<Stage>,
    ending: &Ending,
    kills: BTreeMap<&'static str, u64>,
    seconds: f64,
) -> Result<Report, String> {
    let elsewhere = match stage.server() {
        Some(server) => Some(server.findings().await?),
        None => None,
    };
    let progress = Observer::new(stage).look();
    let found = Findings::read(stage.folder(), elsewhere)?;
    let mut duplicates = BTreeMap::new();
    let mut early = 0;
    for role in Role::CONSUMERS {
        let counts = consumer::counts(stage.folder(), role).await?;
        duplicates.insert(role.name(), counts.duplicates);
        early += counts.early;
    }
    let differences = check::compare(purchases, &found, &progress, early);
    let truth = Truth::of(purchases);
    let by = |count: fn(&observer::ConsumerProgress) -> u64| {
        Role::CONSUMERS.map(|role| (role.name(), count(progress.of(role)))).into()
    };
    Ok(Report {
        exact: differences.is_empty(),
        differences: differences.sentences(),
        orders: ending.driven.placed,
        units: found.ledger.values().map(|account| account.units).sum(),
        total: Cents(found.ledger.values().map(|account| account.cents).sum()),
        expected: Expected {
            orders: truth.orders,
            units: truth.units,
            total: truth.total,
            customers: truth.customers.len(),
        },
        orders_repeated: ending.driven.repeated,
        events_committed: progress.committed,
        events_arrived: by(|consumer| consumer.arrived.arrived),
        events_applied: by(|consumer| consumer.applied),
        duplicates_suppressed: duplicates.values().sum(),
        duplicates_by_consumer: duplicates,
        order_inversions: Role::CONSUMERS.map(|role| progress.of(role).arrived.inversions).iter().sum(),
        kills: kills.values().sum(),
        kills_by_process: kills,
        dead_letters_redriven: ending.redriven,
        seconds: (seconds * 10.0).round() / 10.0,
        seed: settings.seed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backlog_is_what_the_slower_consumer_has_not_applied() {
        let mut progress = Progress { committed: 10, ..Progress::default() };
        (progress.ledger.applied, progress.notifications.applied) = (4, 9);
        assert_eq!(backlog(&progress), 6);
    }

    #[test]
    fn what_stands_behind_a_refused_order_waits_and_other_customers_do_not() {
        let mut purchases = history(Some(4)).unwrap();
        assert_eq!(purchases[1].customer, purchases[2].customer);
        purchases[1].quantity = 100;
        let refused = Refused::by(Some(99), &purchases);
        assert_eq!(refused, Refused { keys: ["customer/00002".to_owned()].into(), waiting: 2 });
        assert_eq!(Refused::by(None, &purchases), Refused::default());
    }
}
