//! The transport between the first route's target and the consumer.

use std::{collections::VecDeque, time::Duration};

use super::super::{
    fault::Fault,
    world::{State, World},
};
use crate::clock::Moment;

/// Messages on their way to the consumer.
#[derive(Default)]
pub(in super::super) struct Transport {
    messages: VecDeque<Message>,
}

/// One of them.
#[derive(Clone)]
pub(super) struct Message {
    due: Moment,
    pub(super) body: Vec<u8>,
}

impl World {
    /// A message for the consumer.
    pub(in super::super) fn send(&self, body: Vec<u8>) {
        let now = self.now();
        let mut state = self.state();
        let mut message = Message { due: now, body };
        if let Some((twice, late)) = state.armed_message() {
            message.due = now + late;
            state.strikes(if twice { Fault::DeliveredTwice } else { Fault::DeliveredLate });
            if twice {
                let first = Message { due: now, ..message.clone() };
                state.transport.messages.push_back(first);
            }
        }
        state.transport.messages.push_back(message);
        drop(state);
        self.mail.notify_one();
    }

    /// Whether nothing is on its way.
    pub(in super::super) fn is_delivered(&self) -> bool {
        self.state().transport.messages.is_empty()
    }

    /// The next messages that are due, or when the first one is.
    pub(super) fn receive(&self, most: usize) -> Result<Vec<Message>, Option<Moment>> {
        let now = self.now();
        let mut state = self.state();
        let messages = &mut state.transport.messages;
        let due: Vec<usize> = messages
            .iter()
            .enumerate()
            .filter(|(_, message)| message.due <= now)
            .map(|(index, _)| index)
            .take(most)
            .collect();
        if due.is_empty() {
            return Err(messages.iter().map(|message| message.due).min());
        }
        Ok(due.into_iter().rev().filter_map(|index| messages.remove(index)).rev().collect())
    }

    /// Messages that were not acknowledged come again, before the others.
    pub(super) fn redeliver(&self, messages: Vec<Message>, after: Duration) {
        let due = self.now() + after;
        let mut state = self.state();
        for message in messages.into_iter().rev() {
            state.transport.messages.push_front(Message { due, ..message });
        }
    }
}

impl State {
    fn armed_message(&mut self) -> Option<(bool, Duration)> {
        if self.healed {
            return None;
        }
        let (skip, twice, late) = self.armed.messages.first_mut()?;
        if *skip > 0 {
            *skip -= 1;
            return None;
        }
        let found = (*twice, *late);
        self.armed.messages.remove(0);
        Some(found)
    }
}
