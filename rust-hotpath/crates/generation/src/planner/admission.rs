//! Ways in and out: queueing, admitting, dropping, forgetting.

use super::{
    Class, Phase, Planner, Refusal, Request, RequestId, SequenceId, Time, index,
    request::{Known, Ticket},
};

impl Planner {
    /// Queues a request.
    ///
    /// # Errors
    /// [`Refusal`] when it never fits, or when the key has something waiting and this would be more than its share of
    /// [`Limits::max_queued_tokens`](super::Limits::max_queued_tokens).
    pub fn submit(&mut self, now: Time, request: Request) -> Result<RequestId, Refusal> {
        let reserves = self.check(&request)?;
        let tokens = reserves * request.choices;
        let admission = &mut self.queues[index(request.class)].admission;
        let excess = admission.excess(&request.key, tokens);
        if excess > 0 && admission.held_by(&request.key) > 0 {
            return Err(Refusal::Full { retry_after: self.drain.time_for(excess.min(admission.held()), 1) });
        }
        let admitted = tokens.min(admission.room(&request.key));
        admission.take(&request.key, admitted);
        self.last_id += 1;
        let id = RequestId(self.last_id);
        self.queued_tokens += tokens;
        self.queues[index(request.class)].turns.push(&request.key, [Ticket { id, tokens }]);
        let known = Known::new(request, reserves, admitted, now + self.limits.max_wait);
        self.expiries.extend(known.expiries().map(|time| (time, id)));
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
        let queue = &mut self.queues[index(known.class)];
        queue.admission.give_back(&known.prompt.key, known.admitted);
        if queue.head == Some(id) {
            queue.head = None;
        } else {
            queue.turns.remove(&known.prompt.key, |ticket| ticket.id == id);
        }
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
                for time in [known.deadline.take(), known.parked_until.take()].into_iter().flatten() {
                    self.expiries.remove(&(time, id));
                }
            }
        }
    }

    /// Admits requests in their turns, as long as there is room for the longest that each may become.
    pub(super) fn admit(&mut self) {
        for class in [Class::Interactive, Class::Batch] {
            while let Some(id) = self.head(class) {
                if !self.fits(id) {
                    return; // batch does not overtake interactive work that waits for room
                }
                self.queues[index(class)].head = None;
                self.place_prompt(id);
            }
        }
    }

    /// The request whose turn it is.
    fn head(&mut self, class: Class) -> Option<RequestId> {
        let queue = &mut self.queues[index(class)];
        if queue.head.is_none() {
            queue.head = queue.turns.take(0).pop().map(|ticket| ticket.id);
        }
        queue.head
    }

    fn fits(&self, id: RequestId) -> bool {
        let request = &self.known[&id];
        let (class, tokens) = (request.class, request.tokens());
        let of_class = self.admitted().filter(|(_, known)| known.class == class);
        let places: usize = of_class.map(|(_, known)| known.places()).sum();
        let reserved: usize = self.reserved.iter().sum();
        places + request.choices <= self.limits.batch
            && reserved + tokens <= self.limits.cache_tokens
            && self.reserved[index(class)] + tokens <= self.limits.share(class)
    }

    /// Gives an admitted request a row for its prompt, with what it can reuse.
    fn place_prompt(&mut self, id: RequestId) {
        let donor = self.donor(id);
        let known = &self.known[&id];
        let (class, tokens) = (known.class, known.tokens());
        self.queued_tokens -= tokens;
        self.reserved[index(class)] += tokens;
        let donor_row = donor.filter(|donor| donor.held.is_some()).map(|donor| donor.row);
        self.make_room(0, donor_row);
        let over = self.reserved.iter().sum::<usize>() + self.rows.kept_tokens() > self.limits.cache_tokens;
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
            self.queues[index(class)].admission.give_back(&known.prompt.key, known.admitted);
            if let Some(patience) = known.patience.take() {
                self.expiries.remove(&(patience, id));
            }
            known.held = held;
            known.phase = Phase::Prefilling { row, done };
            self.admitted.insert(id);
        }
    }

    /// Gives up kept beginnings until so many more tokens fit, save one.
    pub(super) fn make_room(&mut self, tokens: usize, except: Option<usize>) {
        let reserved: usize = self.reserved.iter().sum();
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
                self.reserved[index(known.class)] -= known.tokens();
            }
            self.forget_expiries(id, &known);
        }
    }

    fn forget_expiries(&mut self, id: RequestId, known: &Known) {
        for time in known.expiries() {
            self.expiries.remove(&(time, id));
        }
    }
}
