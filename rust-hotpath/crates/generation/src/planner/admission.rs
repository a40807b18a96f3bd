//! Ways in and out: queueing, admitting, dropping, forgetting.

use std::collections::HashMap;

use hotpath_fairness::Full;

use super::{
    Class, Ended, Phase, Planner, Prompt, Queue, Refusal, Request, RequestId, SequenceId, Time,
    capacity::{Part, Verdict},
    prefixes::{Cached, PrefixHit},
    request::{RequestState, Ticket},
};

/// So many may be admitted before one that lacks room, though their turn is after its own. More use what is free for
/// longer while room is made for a large one, which waits for longer.
const MOST_PASSES: usize = 8;

impl Planner {
    /// Queues a request.
    ///
    /// # Errors
    /// [`Refusal`] when it never fits, or when the key has something waiting and this would be more than its share of
    /// [`Limits::max_queued_tokens`](super::Limits::max_queued_tokens).
    pub fn submit(&mut self, now: Time, request: Request) -> Result<RequestId, Refusal> {
        let reserves = self.reserves(&request)?;
        let tokens = reserves * request.choices;
        self.check_room(request.class, &request.key, tokens).map_err(Refusal::Full)?;
        let Queue { admission, tickets } = self.queues.of_mut(request.class);
        let counted = tokens.min(admission.room(&request.key));
        admission.take(&request.key, counted);
        self.last_id += 1;
        let id = RequestId(self.last_id);
        self.queued_tokens += tokens;
        let numbers = tickets.push(&request.key, [Ticket { id, tokens }]);
        let entry =
            RequestState { numbers, ..RequestState::new(request, reserves, counted, now + self.limits.max_wait) };
        for (time, why) in entry.expiries() {
            self.expiries.insert(time, (id, why));
        }
        self.requests.insert(id, entry);
        Ok(id)
    }

    /// Whether a request of at least so many tokens, prompt included, for each of its choices would be queued now. What is
    /// refused here with the least that it may have, [`Planner::submit`] would refuse with all that it has.
    ///
    /// # Errors
    /// [`Full`] if it would not.
    pub fn check(&self, class: Class, key: &str, at_least: usize, choices: usize) -> Result<(), Full> {
        self.check_room(class, key, self.round_up(at_least).saturating_mul(choices))
    }

    fn check_room(&self, class: Class, key: &str, tokens: usize) -> Result<(), Full> {
        Full::check(&self.queues.of(class).admission, key, tokens, &self.drain, 1)
    }

    /// Tokens that each of a request's continuations would reserve, if it ever fits.
    fn reserves(&self, request: &Request) -> Result<usize, Refusal> {
        let tokens = request.prompt.len() + request.max_tokens;
        if request.prompt.is_empty() || request.max_tokens == 0 || request.choices == 0 {
            return Err(Refusal::Empty);
        }
        if request.choices > self.limits.batch {
            return Err(Refusal::TooManyChoices { choices: request.choices, limit: self.limits.batch });
        }
        let limit = self.limits.longest(request.class, request.choices);
        if tokens > limit { Err(Refusal::TooLong { tokens, limit }) } else { Ok(self.round_up(tokens)) }
    }

    /// Drops a request that waits.
    pub(super) fn unqueue(&mut self, id: RequestId) {
        let Some(entry) = self.requests.remove(&id) else { return };
        self.forget_expiries(id, &entry);
        self.queued_tokens -= entry.tokens();
        let queue = self.queues.of_mut(entry.class);
        queue.admission.give_back(&entry.prompt.key, entry.counted);
        queue.tickets.remove(&entry.prompt.key, entry.numbers);
    }

    /// Ends a request in whatever phase it is. What it has in slots leaves with the next [`Planner::leave`].
    pub(super) fn drop_request(&mut self, id: RequestId) {
        let Some(entry) = self.requests.get(&id) else { return };
        match entry.phase {
            Phase::Waiting => self.unqueue(id),
            Phase::Prefilling { slot, done, held } => {
                let text = Prompt { tokens: entry.prompt.tokens[..done].into(), key: entry.prompt.key.clone() };
                self.forget(id);
                if !self.cache(slot, text, done.max(held)) {
                    self.slots.release(slot);
                }
            }
            Phase::Running(_) => {
                let choices = entry.choices;
                (0..choices).for_each(|choice| self.finish(SequenceId { request: id, choice }));
                let Some(entry) = self.requests.get_mut(&id) else { return };
                self.expiries.remove(entry.deadline.take(), (id, Ended::Deadline));
                self.expiries.remove(entry.parked_until.take(), (id, Ended::SlowReader));
            }
        }
    }

    /// Admits requests in their turns, as long as there is room for the longest that each may become. Batch work does not
    /// overtake interactive work that waits.
    pub(super) fn admit(&mut self) {
        for class in Class::ALL {
            while let Some((id, part)) = self.next_to_admit(class) {
                self.place_prompt(id, part);
            }
            if !self.queues.of(class).tickets.is_empty() {
                return;
            }
        }
    }

    /// Takes the first request in turn that fits out of its queue.
    ///
    /// One whose own key has its share holds up nobody. One that lacks room, since others have it, is passed by a few; then
    /// what is shared is held back for it, and only those that have nothing get something small, of the reserve.
    fn next_to_admit(&mut self, class: Class) -> Option<(RequestId, Part)> {
        let (capacity, requests) = (&self.capacity, &self.requests);
        let tickets = &mut self.queues.of_mut(class).tickets;
        if tickets.is_empty() || capacity.is_full(class) {
            return None;
        }
        let (mut held_back, mut lack_room, mut fit) = (false, Vec::new(), HashMap::new());
        let next = tickets.next_that(|key, ticket| {
            let request = &requests[&ticket.id];
            match capacity.judge(class, key, request.need(), held_back) {
                Verdict::Fits(part) => return fit.insert(ticket.id, (part, lack_room.len())).is_none(),
                Verdict::BeyondShare => (),
                Verdict::NoRoom => {
                    lack_room.push(ticket.id);
                    held_back |= request.passed >= MOST_PASSES;
                }
            }
            false
        })?;
        let (part, passes) = fit[&next.id];
        if part == Part::Shared {
            for id in &lack_room[..passes] {
                self.requests.entry(*id).and_modify(|passed| passed.passed += 1);
            }
        }
        Some((next.id, part))
    }

    /// Gives an admitted request a slot for its prompt, with what it can reuse.
    fn place_prompt(&mut self, id: RequestId, part: Part) {
        let hit = self.longest_prefix(id);
        let entry = &self.requests[&id];
        let (class, reserves) = (entry.class, entry.reserves);
        self.queued_tokens -= entry.tokens();
        self.capacity.take(class, &entry.prompt.key, part, entry.need());
        let hit_slot = hit.filter(|hit| hit.cached.is_some()).map(|hit| hit.slot);
        self.make_room(0, hit_slot);
        let has_room = self.capacity.tokens() + self.slots.cached_tokens() <= self.limits.cache_tokens;
        // A cached text that the prompt continues becomes this request's, and so does one for whose copy there is no room.
        let continues = |hit: &PrefixHit, cached: Cached| hit.tokens + self.limits.reuse_tokens > cached.tokens;
        let takes_over = |hit: &PrefixHit| {
            hit.cached.filter(|cached| cached.held <= reserves && (!has_room || continues(hit, *cached)))
        };
        let (slot, done, held) = match hit.map(|hit| (hit, takes_over(&hit))) {
            Some((hit, Some(cached))) => {
                self.slots.take_over(hit.slot);
                (hit.slot, hit.tokens, cached.held)
            }
            Some((hit, None)) if has_room => {
                let slot = self.slots.take(Some(hit.slot));
                self.slots.copy(hit.slot, slot, hit.tokens);
                self.slots.touch(hit.slot);
                (slot, hit.tokens, hit.tokens)
            }
            _ => {
                self.make_room(0, None);
                (self.slots.take(None), 0, 0)
            }
        };
        if let Some(entry) = self.requests.get_mut(&id) {
            self.queues.of_mut(class).admission.give_back(&entry.prompt.key, entry.counted);
            self.expiries.remove(entry.patience.take(), (id, Ended::MaxWait));
            (entry.part, entry.went_first) = (part, self.prompt_runs);
            entry.phase = Phase::Prefilling { slot, done, held };
            self.admitted.insert(id);
        }
    }

    /// Gives up cached texts until so many more tokens fit, save one.
    pub(super) fn make_room(&mut self, tokens: usize, except: Option<usize>) {
        let reserved = self.capacity.tokens();
        while reserved + self.slots.cached_tokens() + tokens > self.limits.cache_tokens {
            let Some(slot) = self.slots.least_used(except) else { return };
            self.slots.release(slot);
        }
    }

    /// Forgets a request that has nothing in any slot.
    pub(super) fn forget(&mut self, id: RequestId) {
        self.admitted.remove(&id);
        if let Some(entry) = self.requests.remove(&id) {
            if matches!(entry.phase, Phase::Prefilling { .. }) {
                self.capacity.give_back(entry.class, &entry.prompt.key, entry.part, entry.need());
            }
            self.forget_expiries(id, &entry);
        }
    }

    fn forget_expiries(&mut self, id: RequestId, entry: &RequestState) {
        for (time, why) in entry.expiries() {
            self.expiries.remove(time, (id, why));
        }
    }
}
