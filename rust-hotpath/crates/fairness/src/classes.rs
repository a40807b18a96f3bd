//! Classes of work, and a queue of turns for each.

use crate::turns::{Queued, Turns};

/// Order of classes of work: a lower class runs only when no higher one waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Somebody is waiting.
    Interactive,
    /// Fills idle capacity.
    Batch,
}

/// The queues of both classes.
#[derive(Debug)]
pub struct ByClass<T> {
    interactive: Turns<T>,
    batch: Turns<T>,
}

impl<T: Queued> ByClass<T> {
    /// Empty queues whose turns give `quantum` tokens.
    #[must_use]
    pub fn new(quantum: usize) -> Self {
        Self { interactive: Turns::new(quantum), batch: Turns::new(quantum) }
    }

    /// Whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.interactive.is_empty() && self.batch.is_empty()
    }

    /// The queue of a class.
    #[must_use]
    pub fn of(&self, class: Class) -> &Turns<T> {
        match class {
            Class::Interactive => &self.interactive,
            Class::Batch => &self.batch,
        }
    }

    /// The queue of a class.
    pub fn of_mut(&mut self, class: Class) -> &mut Turns<T> {
        match class {
            Class::Interactive => &mut self.interactive,
            Class::Batch => &mut self.batch,
        }
    }

    /// The queue from which to take next: the highest class that has anything.
    pub fn next_mut(&mut self) -> &mut Turns<T> {
        if self.interactive.is_empty() { &mut self.batch } else { &mut self.interactive }
    }
}
