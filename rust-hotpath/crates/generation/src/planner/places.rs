//! Where continuations are: joining a step, waiting beside it, leaving.

use std::time::Duration;

use super::{Class, Phase, Place, Planner, RequestId, SequenceId, capacity::Need};

impl Planner {
    /// Takes finished continuations out of their rows, and forgets requests that have no other.
    pub(super) fn leave(&mut self) {
        for class in [Class::Interactive, Class::Batch] {
            // From the end, so that nothing that leaves is moved first.
            for place in (0..self.rows.area(class).len()).rev() {
                let SequenceId { request, choice } = self.rows.area(class)[place];
                if let Some(Place::Leaving { length }) = self.place(request, choice) {
                    let row = self.rows.first(class) + place;
                    self.gone(request, choice, row, length, false);
                    self.leave_area(class, place);
                }
            }
        }
        let ids: Vec<RequestId> = self.admitted.iter().copied().collect();
        for id in ids {
            for choice in 0..self.known[&id].choices {
                if let Some(Place::LeavingFrom { row, length }) = self.place(id, choice)
                    && !self.gone(id, choice, row, length, true)
                {
                    self.rows.leave_side(row);
                }
            }
            if matches!(&self.known[&id].phase, Phase::Running(places) if places.iter().all(|place| *place == Place::Gone))
            {
                self.forget(id);
            }
        }
    }

    /// Moves continuations whose reader is slow out of their area. Those that do not know what may come next stay: that is
    /// a matter of milliseconds, and to move a row there and back may take longer than many steps.
    pub(super) fn park(&mut self) {
        for class in [Class::Interactive, Class::Batch] {
            for place in (0..self.rows.area(class).len()).rev() {
                let SequenceId { request, choice } = self.rows.area(class)[place];
                let slow = self.known[&request].parked_until.is_some();
                if slow && let Some(Place::Decoding { length }) = self.place(request, choice) {
                    let row = self.side_row(None).expect("each admitted continuation has one");
                    self.rows.copy(self.rows.first(class) + place, row, length);
                    self.leave_area(class, place);
                    self.put(request, choice, Place::Beside { row, length });
                }
            }
        }
    }

    pub(super) fn can_go_on(&self, sequence: SequenceId) -> bool {
        self.known[&sequence.request].can_go_on(sequence.choice)
    }

    /// Moves continuations that can go on into their area.
    pub(super) fn join(&mut self) {
        let beside = self.admitted().flat_map(|(id, known)| match &known.phase {
            Phase::Running(places) => places.iter().enumerate().map(|(choice, place)| (id, choice, *place)).collect(),
            _ => Vec::new(),
        });
        for (request, choice, place) in beside.collect::<Vec<_>>() {
            if let Place::Beside { row, length } = place
                && self.can_go_on(SequenceId { request, choice })
            {
                let class = self.known[&request].class;
                self.rows.join(class, SequenceId { request, choice }, row, length);
                self.put(request, choice, Place::Decoding { length });
                if let Some(known) = self.known.get_mut(&request) {
                    known.held = 0;
                }
            }
        }
    }

    /// Takes note that a finished continuation leaves a row, and keeps the beginning of its prompt if no other holds it.
    /// Says whether it is kept in that row.
    fn gone(&mut self, id: RequestId, choice: usize, row: usize, length: usize, in_place: bool) -> bool {
        self.put(id, choice, Place::Gone);
        let known = &self.known[&id];
        let need = Need { rows: 1, tokens: known.reserves };
        self.capacity.give_back(known.class, &known.prompt.key, known.part, need);
        self.drain.note(known.reserves.saturating_sub(length), Duration::ZERO); // reserved, and never needed
        let prompt = known.prompt.clone();
        let alone = matches!(&known.phase, Phase::Running(places) if places.iter().all(|place| *place == Place::Gone));
        let (done, held) = (prompt.tokens.len(), length.max(known.held));
        alone && self.keep(prompt, row, done, held, in_place)
    }

    fn leave_area(&mut self, class: Class, place: usize) {
        let last = self.rows.area(class).last().copied().expect("somebody leaves");
        let tokens = self.known[&last.request].length(last.choice);
        self.rows.leave_area(class, place, tokens);
    }

    /// The row of a continuation that is in its area.
    pub(super) fn row_in_area(&self, request: RequestId, choice: usize) -> Option<usize> {
        let class = self.known[&request].class;
        let place = self.rows.area(class).iter().position(|sequence| *sequence == SequenceId { request, choice })?;
        Some(self.rows.first(class) + place)
    }

    fn place(&self, id: RequestId, choice: usize) -> Option<Place> {
        match &self.known.get(&id)?.phase {
            Phase::Running(places) => Some(places[choice]),
            _ => None,
        }
    }

    fn put(&mut self, id: RequestId, choice: usize, place: Place) {
        if let Some(Phase::Running(places)) = self.known.get_mut(&id).map(|known| &mut known.phase) {
            places[choice] = place;
        }
    }
}
