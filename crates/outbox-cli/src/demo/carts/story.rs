//! The demo from beginning to end.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use carts::totals::Queue;
use outbox::{Clock, System};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
};

use super::{
    Settings, bus,
    check::{self, Applied, Findings},
    cloud::Cloud,
    company::{Company, Member},
    emulator,
    plan::{Role, incidents},
    purchases::{Truth, of_customers},
    report::Report,
    shopping::{self, Bought, CHANGES},
    stage::Stage,
};
use crate::demo::{
    Trouble,
    arrivals::Tally,
    chaos::Incident,
    processes::{News, Process},
    purchases::Purchase,
    story::{PICTURE, QUIET, STALL, client, interrupted},
    view::View,
};

/// What the live view counts.
const LABELS: [&str; 3] = ["changes", "on the bus", "applied"];
/// Between two looks at what the consumer has applied.
const LOOK: Duration = Duration::from_millis(500);

type Lives = JoinSet<(Role, Result<u64, String>)>;

/// What came of the play.
struct Ending {
    bought: Bought,
    found: Findings,
}

/// What everybody hears.
struct Told {
    queue: watch::Sender<String>,
    changed: watch::Sender<u64>,
    published: watch::Sender<Tally>,
    applied: watch::Sender<u64>,
}

/// Plays it.
///
/// # Errors
/// [`Trouble`] if it did not come to its end.
pub(super) async fn play(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Report, Trouble> {
    let started = clock.moment();
    let purchases = of_customers(settings.customers)?;
    let program = if settings.endpoint.is_none() { Some(emulator::find()?) } else { None };
    let stage = Arc::new(Stage::set_up(settings.keep.as_deref(), settings.endpoint.as_deref(), &System)?);
    let (stop, stopped) = watch::channel(false);
    let mut cast = Cast { stage, purchases, clock: Arc::clone(clock), lives: JoinSet::new(), stopped, cloud: None };
    let played = tokio::select! {
        played = cast.play(settings, program) => played.map_err(Trouble::from),
        () = interrupted() => Err(Trouble::Interrupted),
    };
    // Whatever came of it, no process stays behind.
    stop.send_replace(true);
    let mut kills = BTreeMap::new();
    while let Some(ended) = cast.lives.join_next().await {
        if let Ok((role, Ok(count))) = ended
            && role != Role::Emulator
        {
            kills.insert(role.name(), count);
        }
    }
    if let Some(cloud) = &cast.cloud
        && !cast.stage.has_emulator()
        && settings.keep.is_none()
    {
        cloud.remove().await;
    }
    let Ending { bought, found } = played?;
    let truth = Truth::of(&cast.purchases);
    let differences = check::compare(&truth, &found);
    let seconds = (clock.moment() - started).as_secs_f64();
    let report = Report::new(&truth, &found, bought, &differences, kills);
    Ok(Report { seconds: (seconds * 10.0).round() / 10.0, seed: settings.seed, ..report })
}

/// Who plays, and where.
struct Cast {
    stage: Arc<Stage>,
    purchases: Vec<Purchase>,
    clock: Arc<dyn Clock>,
    lives: Lives,
    stopped: watch::Receiver<bool>,
    cloud: Option<Arc<Cloud>>,
}

impl Cast {
    /// Starts everything and plays, until the end or the first failure.
    async fn play(&mut self, settings: &Settings, program: Option<PathBuf>) -> Result<Ending, String> {
        let events = self.purchases.len() as u64 * CHANGES;
        let (told, company) = self.company(program)?;
        let mut plan: BTreeMap<_, _> = incidents(settings.seed, settings.level, events).into_iter().collect();
        let mut throughs = Vec::new();
        if self.stage.has_emulator() {
            throughs.push(self.start(Role::Emulator, &company, plan.remove(&Role::Emulator)).await?);
        }
        let cloud = Arc::new(Cloud::set_up(&self.stage).await?);
        self.cloud = Some(Arc::clone(&cloud));
        told.queue.send_replace(cloud.work.clone());
        for role in [Role::Carts, Role::Totals, Role::Relay] {
            throughs.push(self.start(role, &company, plan.remove(&role)).await?);
        }
        let inbox = check::inbox(&cloud, &self.stage)?;
        let (log, arrivals) = (Queue::new(&cloud.sqs, cloud.log.clone()), self.stage.arrivals());
        let view = View::new(&LABELS, events, Arc::clone(&self.clock));
        let Told { changed, published, applied, .. } = told;
        tokio::select! {
            ending = story(&self.purchases, &self.stage, &cloud, &company, changed, throughs) => ending,
            failure = first_failure(&mut self.lives) => Err(failure),
            failure = bus::follow(log, arrivals, published) => Err(failure),
            () = look(&inbox, applied) => Err("nobody is told any more".to_owned()),
            stalled = show(view, &company, &self.clock) => Err(stalled),
        }
    }

    fn company(&self, program: Option<PathBuf>) -> Result<(Told, Company), String> {
        let (queue, queue_url) = watch::channel(String::new());
        let (changed, answered) = watch::channel(0);
        let (published, tally) = watch::channel(Tally::default());
        let (applied, done) = watch::channel(0);
        let company = Company {
            stage: Arc::clone(&self.stage),
            client: client()?,
            news: Arc::new(News::default()),
            program,
            queue: queue_url,
            changed: answered,
            published: tally,
            applied: done,
        };
        Ok((Told { queue, changed, published, applied }, company))
    }

    /// Starts one process, and lets happen to it what is planned. Gives who says when that is over.
    async fn start(
        &mut self,
        role: Role,
        company: &Company,
        incidents: Option<Vec<Incident>>,
    ) -> Result<oneshot::Receiver<()>, String> {
        let process = Process::start(Member { role, company: company.clone() }).await?;
        let (through, over) = oneshot::channel();
        let life = process.live(incidents.unwrap_or_default(), through, self.stopped.clone());
        self.lives.spawn(async move { (role, life.await) });
        Ok(over)
    }
}

/// Buys everything, waits until every incident is over and every event applied, and finds out what came of it.
async fn story(
    purchases: &[Purchase],
    stage: &Stage,
    cloud: &Cloud,
    company: &Company,
    changed: watch::Sender<u64>,
    throughs: Vec<oneshot::Receiver<()>>,
) -> Result<Ending, String> {
    let events = purchases.len() as u64 * CHANGES;
    let url = stage.url(Role::Carts, "");
    let bought = shopping::buy_all(company.client.clone(), url, purchases.to_vec(), changed).await?;
    for through in throughs {
        through.await.map_err(|_| "a process ended before its last incident".to_owned())?;
    }
    let (mut published, mut applied) = (company.published.clone(), company.applied.clone());
    let ended = |_| "nobody looks any more".to_owned();
    published.wait_for(|tally| tally.first >= events).await.map_err(ended)?;
    applied.wait_for(|applied| *applied >= events).await.map_err(ended)?;
    // Whatever is still under way, as something that came twice, comes in this time.
    while tokio::time::timeout(QUIET, published.changed()).await.is_ok() {}
    let applied = check::applied(&check::inbox(cloud, stage)?).await?;
    // Not before: nobody may wait for anything while it is borrowed.
    let published = company.published.borrow().clone();
    let truth = Truth::of(purchases);
    let found = Findings::gather(cloud, stage, &company.client, &truth, (published, applied)).await?;
    Ok(Ending { bought, found })
}

/// Looks again and again at how much the consumer has applied; ends when nobody listens.
async fn look(inbox: &check::Inbox, applied: watch::Sender<u64>) {
    while !applied.is_closed() {
        // An answer that fails is asked for again.
        if let Ok(Applied { events: now, .. }) = check::applied(inbox).await {
            applied.send_replace(now);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The first process that ends by itself; never, if none does.
async fn first_failure(lives: &mut Lives) -> String {
    while let Some(ended) = lives.join_next().await {
        match ended {
            Ok((_, Ok(_))) => {}
            Ok((_, Err(why))) => return why,
            Err(error) => return error.to_string(),
        }
    }
    std::future::pending().await
}

/// Draws the live view until it is dropped; gives up when nothing moves any more.
async fn show(mut view: View, company: &Company, clock: &Arc<dyn Clock>) -> String {
    let (mut last, mut moved) = ([0; 3], clock.moment());
    loop {
        tokio::time::sleep(PICTURE).await;
        let now = [*company.changed.borrow(), company.published.borrow().first, *company.applied.borrow()];
        let news = company.news.take();
        view.show(now.to_vec(), now[0].saturating_sub(now[2]), &news);
        if now != last || !news.is_empty() {
            (moved, last) = (clock.moment(), now);
        } else if clock.moment() - moved > STALL {
            let [changed, published, applied] = last;
            let seconds = STALL.as_secs();
            return format!(
                "nothing has moved for {seconds} s: {changed} changes, {published} on the bus, {applied} applied"
            );
        }
    }
}
