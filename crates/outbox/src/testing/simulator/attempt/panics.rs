//! Panics in a simulated world.

use std::{
    any::Any,
    cell::RefCell,
    io,
    panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind},
    sync::Once,
};

use super::{
    super::{
        rule::{Breach, Rule},
        world::Played,
    },
    broken,
};

thread_local! {
    /// What panicked on this thread since it began to play a schedule; nothing while it plays none.
    static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Has `run` play a schedule on this thread. Whatever panics in it is the first of its breaches, also if somebody caught
/// the panic, as a runtime does of its tasks.
pub(in super::super) fn told(run: impl FnOnce() -> io::Result<Played>) -> io::Result<Played> {
    listen();
    HEARD.set(Some(Vec::new()));
    let ran = catch_unwind(AssertUnwindSafe(run));
    let heard = HEARD.take().unwrap_or_default().into_iter().next();
    let (heard, mut played) = match ran {
        Ok(played) => match heard {
            Some(heard) => (heard, played?),
            None => return played,
        },
        // A panic that is only passed on is not heard a second time.
        Err(panic) => return Ok(broken(breach(heard.unwrap_or_else(|| text(&*panic))))),
    };
    played.breaches.insert(0, breach(heard));
    Ok(played)
}

fn breach(what: String) -> Breach {
    Breach::new(Rule::Panicked, what)
}

/// From now on, what panics on a thread that plays a schedule is kept for its breach. Everything else goes on to whoever
/// was told before.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !hears(panic) {
                others(panic);
            }
        }));
    });
}

/// Keeps the panic, if this thread plays a schedule.
fn hears(panic: &PanicHookInfo<'_>) -> bool {
    let kept = HEARD.try_with(|heard| {
        let mut heard = heard.try_borrow_mut().ok()?;
        let place = panic.location().map_or_else(String::new, |place| format!(" ({place})"));
        heard.as_mut()?.push(text(panic.payload()) + &place);
        Some(())
    });
    matches!(kept, Ok(Some(())))
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("without a word").to_owned()
}
