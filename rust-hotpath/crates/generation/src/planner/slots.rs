//! Where continuations are: joining the batch, waiting in a staging row, leaving.

use std::time::Duration;

use super::{Class, Phase, Planner, RequestId, SequenceId, SequenceState, capacity::Need};

impl Planner {
    /// Takes finished continuations out of their rows, and forgets requests that have no other.
    pub(super) fn leave(&mut self) {
        for class in [Class::Interactive, Class::Batch] {
            // From the end, so that nothing that leaves is moved first.
            for slot in (0..self.rows.batch(class).len()).rev() {
                let SequenceId { request, choice } = self.rows.batch(class)[slot];
                if let Some(SequenceState::Leaving { length }) = self.sequence(request, choice) {
                    let row = self.rows.first(class) + slot;
                    self.gone(request, choice, row, length, false);
                    self.leave_batch(class, slot);
                }
            }
        }
        let ids: Vec<RequestId> = self.admitted.iter().copied().collect();
        for id in ids {
            for choice in 0..self.requests[&id].choices {
                if let Some(SequenceState::LeavingStaged { row, length }) = self.sequence(id, choice)
                    && !self.gone(id, choice, row, length, true)
                {
                    self.rows.leave_staging(row);
                }
            }
            if matches!(&self.requests[&id].phase, Phase::Running(sequences) if sequences.iter().all(|sequence| *sequence == SequenceState::Gone))
            {
                self.forget(id);
            }
        }
    }

    /// Moves continuations whose reader is slow out of their batch. Those that do not know what may come next stay: that is
    /// a matter of milliseconds, and to move a row there and back may take longer than many steps.
    pub(super) fn park(&mut self) {
        for class in [Class::Interactive, Class::Batch] {
            for slot in (0..self.rows.batch(class).len()).rev() {
                let SequenceId { request, choice } = self.rows.batch(class)[slot];
                let slow = self.requests[&request].parked_until.is_some();
                if slow && let Some(SequenceState::Decoding { length }) = self.sequence(request, choice) {
                    let row = self.staging_row(None).expect("each admitted continuation has one");
                    self.rows.copy(self.rows.first(class) + slot, row, length);
                    self.leave_batch(class, slot);
                    self.put(request, choice, SequenceState::Staged { row, length });
                }
            }
        }
    }

    pub(super) fn can_go_on(&self, sequence: SequenceId) -> bool {
        self.requests[&sequence.request].can_go_on(sequence.choice)
    }

    /// Moves continuations that can go on into their batch.
    pub(super) fn join(&mut self) {
        let running = self.admitted().flat_map(|(id, entry)| match &entry.phase {
            Phase::Running(sequences) => {
                sequences.iter().enumerate().map(|(choice, state)| (id, choice, *state)).collect()
            }
            _ => Vec::new(),
        });
        for (request, choice, state) in running.collect::<Vec<_>>() {
            if let SequenceState::Staged { row, length } = state
                && self.can_go_on(SequenceId { request, choice })
            {
                let class = self.requests[&request].class;
                self.rows.join(class, SequenceId { request, choice }, row, length);
                self.put(request, choice, SequenceState::Decoding { length });
                if let Some(entry) = self.requests.get_mut(&request) {
                    entry.held = 0;
                }
            }
        }
    }

    /// Takes note that a finished continuation leaves a row, and caches the prefix of its prompt if no other row holds it.
    /// Says whether it stays in that row.
    fn gone(&mut self, id: RequestId, choice: usize, row: usize, length: usize, in_place: bool) -> bool {
        self.put(id, choice, SequenceState::Gone);
        let entry = &self.requests[&id];
        let need = Need { rows: 1, tokens: entry.reserves };
        self.capacity.give_back(entry.class, &entry.prompt.key, entry.part, need);
        self.drain.note(entry.reserves.saturating_sub(length), Duration::ZERO); // reserved, and never needed
        let prompt = entry.prompt.clone();
        let alone = matches!(&entry.phase, Phase::Running(sequences) if sequences.iter().all(|sequence| *sequence == SequenceState::Gone));
        let (done, held) = (prompt.tokens.len(), length.max(entry.held));
        alone && self.cache(prompt, row, done, held, in_place)
    }

    fn leave_batch(&mut self, class: Class, slot: usize) {
        let last = self.rows.batch(class).last().copied().expect("somebody leaves");
        let tokens = self.requests[&last.request].length(last.choice);
        self.rows.leave_batch(class, slot, tokens);
    }

    /// The row of a continuation that is in its batch.
    pub(super) fn batch_row(&self, request: RequestId, choice: usize) -> Option<usize> {
        let class = self.requests[&request].class;
        let slot = self.rows.batch(class).iter().position(|sequence| *sequence == SequenceId { request, choice })?;
        Some(self.rows.first(class) + slot)
    }

    fn sequence(&self, id: RequestId, choice: usize) -> Option<SequenceState> {
        match &self.requests.get(&id)?.phase {
            Phase::Running(sequences) => Some(sequences[choice]),
            _ => None,
        }
    }

    fn put(&mut self, id: RequestId, choice: usize, state: SequenceState) {
        if let Some(Phase::Running(sequences)) = self.requests.get_mut(&id).map(|entry| &mut entry.phase) {
            sequences[choice] = state;
        }
    }
}
