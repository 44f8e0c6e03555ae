use super::*;
use crate::{
    bookkeeping::Bookkeeping,
    memory::{MemoryBookkeeping, SeededEntropy},
    route::RouteName,
};

fn memory() -> Arc<MemoryBookkeeping> {
    Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(1)))
}

async fn pause(bookkeeping: Arc<dyn Operator>, name: &str) {
    bookkeeping.pause(&RouteName::new(name).unwrap(), true).await.unwrap();
}

#[tokio::test]
async fn a_counting_gate_counts_two_steps_an_io_and_stops_nothing() {
    let gate = StepGate::counting();
    pause(gate.bookkeeping(memory()), "a").await;
    let trace: Vec<_> = gate.trace().iter().map(|step| (step.number, step.io, step.side)).collect();
    assert_eq!(trace, [(1, Io::Pause, Side::Before), (2, Io::Pause, Side::After)]);
}

#[tokio::test]
async fn a_crash_before_an_io_leaves_no_effect_and_stops_every_other_task() {
    let memory = memory();
    let gate = StepGate::crash_at(3);
    let gated = gate.bookkeeping(memory.clone());
    pause(gated.clone(), "a").await;
    let first = tokio::spawn(pause(gated.clone(), "b"));
    assert_eq!(gate.crashed().await, Step { number: 3, io: Io::Pause, side: Side::Before });
    let second = tokio::spawn(pause(gated, "c"));
    tokio::task::yield_now().await;
    assert!(!first.is_finished() && !second.is_finished());
    assert_eq!(memory.paused().await.unwrap(), [RouteName::new("a").unwrap()]);
    assert_eq!(gate.steps(), 3);
}

#[tokio::test]
async fn a_crash_can_be_told_by_the_kind_of_io() {
    let memory = memory();
    let gate = StepGate::crash_at_io(Io::Pause, Side::After, 2);
    let gated = gate.bookkeeping(memory.clone());
    let relay = tokio::spawn(async move {
        gated.paused().await.unwrap();
        pause(gated.clone(), "a").await;
        pause(gated.clone(), "b").await;
    });
    assert_eq!(gate.crashed().await, Step { number: 6, io: Io::Pause, side: Side::After });
    assert!(!relay.is_finished());
    assert_eq!(memory.paused().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_stalled_io_holds_up_no_other_until_everything_stops() {
    let memory = memory();
    let gate = StepGate::stall_at(1);
    let stalled = tokio::spawn(pause(gate.bookkeeping(memory.clone()), "a"));
    assert_eq!(gate.stalled().await.number, 1);
    pause(gate.bookkeeping(memory.clone()), "b").await;
    assert!(!stalled.is_finished());
    gate.crash();
    let late = tokio::spawn(pause(gate.bookkeeping(memory.clone()), "c"));
    tokio::task::yield_now().await;
    assert!(!late.is_finished());
    assert_eq!(memory.paused().await.unwrap(), [RouteName::new("b").unwrap()]);
}

#[tokio::test]
async fn by_hand_an_io_goes_on_only_when_it_is_passed() {
    let memory = memory();
    let gate = StepGate::by_hand();
    let call = tokio::spawn(pause(gate.bookkeeping(memory.clone()), "a"));
    let before = gate.standing().await;
    assert_eq!(memory.paused().await.unwrap(), []);
    gate.pass(before);
    let after = gate.standing_at(Io::Pause, Side::After).await;
    assert_eq!(memory.paused().await.unwrap().len(), 1);
    assert!(!call.is_finished());
    gate.pass(after);
    call.await.unwrap();
}

#[tokio::test]
async fn a_dropped_call_stands_at_the_gate_no_more() {
    let gate = StepGate::by_hand();
    let memory = memory();
    let call = tokio::spawn(pause(gate.bookkeeping(memory.clone()), "a"));
    let dropped = gate.standing().await;
    call.abort();
    call.await.unwrap_err();
    let _other = tokio::spawn(pause(gate.bookkeeping(memory.clone()), "b"));
    assert_ne!(gate.standing().await, dropped);
    assert_eq!(memory.operator_changes().await.unwrap(), 0);
}
