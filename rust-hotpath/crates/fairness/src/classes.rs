//! Classes of work, and what there is one of for each.

use crate::{
    Key,
    drr_queue::{DrrQueue, Queued},
};

/// Order of classes of work: a lower class runs when no higher one waits, or it has waited for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Somebody is waiting.
    Interactive,
    /// Fills idle capacity.
    Batch,
}

impl Class {
    /// Both, the higher one first.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Batch];
}

/// Whose turn something uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Its class.
    pub class: Class,
    /// Its fairness key.
    pub key: Key,
}

/// One thing for each class.
#[derive(Debug)]
pub struct PerClass<T> {
    interactive: T,
    batch: T,
}

impl<T> PerClass<T> {
    /// One for each.
    pub fn new(mut of: impl FnMut(Class) -> T) -> Self {
        Self { interactive: of(Class::Interactive), batch: of(Class::Batch) }
    }

    /// A class'.
    #[must_use]
    pub fn of(&self, class: Class) -> &T {
        match class {
            Class::Interactive => &self.interactive,
            Class::Batch => &self.batch,
        }
    }

    /// A class'.
    pub fn of_mut(&mut self, class: Class) -> &mut T {
        match class {
            Class::Interactive => &mut self.interactive,
            Class::Batch => &mut self.batch,
        }
    }
}

/// The queues of both classes.
pub type ByClass<T> = PerClass<DrrQueue<T>>;

impl<T: Queued> ByClass<T> {
    /// Empty queues whose turns give `quantum` tokens.
    #[must_use]
    pub fn queues(quantum: usize) -> Self {
        Self::new(|_| DrrQueue::new(quantum))
    }

    /// Whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.interactive.is_empty() && self.batch.is_empty()
    }

    /// The queue from which to take next: the highest class that has anything.
    pub fn next_mut(&mut self) -> &mut DrrQueue<T> {
        if self.interactive.is_empty() { &mut self.batch } else { &mut self.interactive }
    }
}
