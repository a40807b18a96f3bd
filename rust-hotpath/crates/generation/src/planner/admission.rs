//! Ways in and out: queueing, admitting, dropping, forgetting.

use std::collections::HashMap;

use super::{
    Class, Ended, Phase, Planner, Queue, Refusal, Request, RequestId, SequenceId, Time,
    capacity::{Part, Verdict},
    request::{Known, Ticket},
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
        let reserves = self.check(&request)?;
        let tokens = reserves * request.choices;
        let Queue { admission, tickets } = self.queues.of_mut(request.class);
        let excess = admission.excess(&request.key, tokens);
        if excess > 0 && admission.held_by(&request.key) > 0 {
            return Err(Refusal::Full { retry_after: self.drain.time_for(excess.min(admission.held()), 1) });
        }
        let counted = tokens.min(admission.room(&request.key));
        admission.take(&request.key, counted);
        self.last_id += 1;
        let id = RequestId(self.last_id);
        self.queued_tokens += tokens;
        let numbers = tickets.push(&request.key, [Ticket { id, tokens }]);
        let known = Known { numbers, ..Known::new(request, reserves, counted, now + self.limits.max_wait) };
        for (time, why) in known.expiries() {
            self.expiries.insert(time, (id, why));
        }
        self.known.insert(id, known);
        Ok(id)
    }

    /// Tokens that each of a request's continuations would reserve, if it ever fits.
    fn check(&self, request: &Request) -> Result<usize, Refusal> {
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
        let Some(known) = self.known.remove(&id) else { return };
        self.forget_expiries(id, &known);
        self.queued_tokens -= known.tokens();
        let queue = self.queues.of_mut(known.class);
        queue.admission.give_back(&known.prompt.key, known.counted);
        queue.tickets.remove(&known.prompt.key, known.numbers);
    }

    /// Ends a request in whatever phase it is. What it has in rows leaves with the next [`Planner::leave`].
    pub(super) fn drop_request(&mut self, id: RequestId) {
        let Some(known) = self.known.get(&id) else { return };
        match known.phase {
            Phase::Waiting => self.unqueue(id),
            Phase::Prefilling { row, done } => {
                let (prompt, held) = (known.prompt.clone(), done.max(known.held));
                self.forget(id);
                if !self.keep(prompt, row, done, held, true) {
                    self.rows.leave_side(row);
                }
            }
            Phase::Running(_) => {
                let choices = known.choices;
                (0..choices).for_each(|choice| self.finish(SequenceId { request: id, choice }));
                let Some(known) = self.known.get_mut(&id) else { return };
                self.expiries.remove(known.deadline.take(), (id, Ended::Deadline));
                self.expiries.remove(known.parked_until.take(), (id, Ended::SlowReader));
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
        let (capacity, known) = (&self.capacity, &self.known);
        let tickets = &mut self.queues.of_mut(class).tickets;
        if tickets.is_empty() || capacity.is_full(class) {
            return None;
        }
        let (mut held_back, mut lack_room, mut fit) = (false, Vec::new(), HashMap::new());
        let next = tickets.next_that(|key, ticket| {
            let request = &known[&ticket.id];
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
                self.known.entry(*id).and_modify(|passed| passed.passed += 1);
            }
        }
        Some((next.id, part))
    }

    /// Gives an admitted request a row for its prompt, with what it can reuse.
    fn place_prompt(&mut self, id: RequestId, part: Part) {
        let donor = self.donor(id);
        let known = &self.known[&id];
        let (class, tokens) = (known.class, known.tokens());
        self.queued_tokens -= tokens;
        self.capacity.take(class, &known.prompt.key, part, known.need());
        let donor_row = donor.filter(|donor| donor.held.is_some()).map(|donor| donor.row);
        self.make_room(0, donor_row);
        let over = self.capacity.tokens() + self.rows.kept_tokens() > self.limits.cache_tokens;
        let beside = if over { None } else { self.side_row(donor_row) };
        let mut held = 0;
        let (row, done) = match (beside, donor) {
            (Some(row), Some(donor)) => {
                self.rows.copy(donor.row, row, donor.tokens);
                self.rows.touch(donor.row);
                (row, donor.tokens)
            }
            // No room beside the donor: its row becomes this request's.
            (None, Some(donor)) if donor.held.is_some_and(|held| held <= tokens) => {
                self.rows.take_over(donor.row);
                held = donor.held.unwrap_or(0);
                (donor.row, donor.tokens)
            }
            (beside, _) => {
                self.make_room(0, None);
                (beside.or_else(|| self.side_row(None)).expect("each admitted continuation has one"), 0)
            }
        };
        if let Some(known) = self.known.get_mut(&id) {
            self.queues.of_mut(class).admission.give_back(&known.prompt.key, known.counted);
            self.expiries.remove(known.patience.take(), (id, Ended::MaxWait));
            (known.part, known.latest_chunk) = (part, self.chunks);
            known.held = held;
            known.phase = Phase::Prefilling { row, done };
            self.admitted.insert(id);
        }
    }

    /// Gives up kept beginnings until so many more tokens fit, save one.
    pub(super) fn make_room(&mut self, tokens: usize, except: Option<usize>) {
        let reserved = self.capacity.tokens();
        while reserved + self.rows.kept_tokens() + tokens > self.limits.cache_tokens {
            let Some(row) = self.rows.least_used(except) else { return };
            self.rows.evict(row);
        }
    }

    /// A row beside the areas, at the price of a kept beginning if need be.
    pub(super) fn side_row(&mut self, except: Option<usize>) -> Option<usize> {
        if let Some(row) = self.rows.take_side() {
            return Some(row);
        }
        let row = self.rows.least_used(except)?;
        self.rows.evict(row);
        self.rows.take_side()
    }

    /// Forgets a request that has nothing in any row.
    pub(super) fn forget(&mut self, id: RequestId) {
        self.admitted.remove(&id);
        if let Some(known) = self.known.remove(&id) {
            if matches!(known.phase, Phase::Prefilling { .. }) {
                self.capacity.give_back(known.class, &known.prompt.key, known.part, known.need());
            }
            self.forget_expiries(id, &known);
        }
    }

    fn forget_expiries(&mut self, id: RequestId, known: &Known) {
        for (time, why) in known.expiries() {
            self.expiries.remove(time, (id, why));
        }
    }
}
