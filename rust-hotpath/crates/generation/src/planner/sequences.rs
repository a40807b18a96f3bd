//! Where continuations are: each has one slot of the cache, from when its prompt was read until it has ended.

use std::time::Duration;

use super::{Phase, Place, Planner, Prompt, RequestId, SequenceState, capacity::Need};

impl Planner {
    /// Gives each continuation of a prompt that has been read a slot of its own. The first one has the prompt's.
    pub(super) fn fork(&mut self) {
        let Self { requests, admitted, slots, .. } = self;
        for id in admitted.iter() {
            let Some(entry) = requests.get_mut(id) else { continue };
            let tokens = entry.prompt.tokens.len();
            let Phase::Running(sequences) = &mut entry.phase else { continue };
            let Some((SequenceState { place: Place::Slot(first), .. }, others)) = sequences.split_first_mut() else {
                continue; // which has happened before the first one left
            };
            for other in others.iter_mut().filter(|other| other.place == Place::Prompt && !other.finished) {
                let slot = slots.take(None);
                slots.copy(*first, slot, tokens);
                other.place = Place::Slot(slot);
            }
        }
    }

    /// Takes finished continuations out of their slots, and forgets requests that have no other.
    pub(super) fn leave(&mut self) {
        let ids: Vec<RequestId> = self.admitted.iter().copied().collect();
        for id in ids {
            // The first one at last: it has a slot in any case, in which what is cached stays.
            for choice in (0..self.requests[&id].choices).rev() {
                self.leave_slot(id, choice);
            }
            if matches!(&self.requests[&id].phase, Phase::Running(sequences) if sequences.iter().all(SequenceState::has_left))
            {
                self.forget(id);
            }
        }
    }

    /// Takes a continuation out of its slot, if it has finished. The last one of a request leaves its text there.
    fn leave_slot(&mut self, id: RequestId, choice: usize) {
        let Some(entry) = self.requests.get_mut(&id) else { return };
        let Phase::Running(sequences) = &mut entry.phase else { return };
        if !sequences[choice].finished || sequences[choice].has_left() {
            return;
        }
        let place = std::mem::replace(&mut sequences[choice].place, Place::Left);
        let is_last = sequences.iter().all(SequenceState::has_left);
        let need = Need { rows: 1, tokens: entry.reserves };
        self.capacity.give_back(entry.class, &entry.prompt.key, entry.part, need);
        let length = entry.length(choice);
        self.drain.note(entry.reserves.saturating_sub(length), Duration::ZERO); // reserved, and never needed
        let Place::Slot(slot) = place else { return };
        let (text, held) = (entry.text(choice), entry.held(choice));
        if !(is_last && self.cache(slot, text, held)) {
            self.slots.release(slot);
        }
    }

    /// Caches a text that a slot holds, which is about to be free, unless another slot holds all of it. Says whether it does.
    pub(super) fn cache(&mut self, slot: usize, text: Prompt, held: usize) -> bool {
        let tokens = text.tokens.len();
        if tokens < self.limits.reuse_tokens || !self.caches {
            return false;
        }
        let covering = self.slots.cached().find(|(_, cached)| self.common(&text, &cached.text) == tokens);
        if let Some(slot) = covering.map(|(slot, _)| slot) {
            self.slots.touch(slot);
            return false;
        }
        let within =
            self.slots.cached().filter(|(_, cached)| self.common(&text, &cached.text) == cached.text.tokens.len());
        let within: Vec<usize> = within.map(|(slot, _)| slot).collect();
        for slot in within {
            self.slots.release(slot);
        }
        let held = self.round_up(held);
        self.make_room(held, None);
        self.slots.cache(slot, text, held);
        true
    }
}
