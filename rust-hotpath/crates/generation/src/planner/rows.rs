//! Which row holds what. Every change of row becomes a change of memory, in order.

use super::{Class, Prompt, SequenceId, index};

/// A change to the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowChange {
    /// The first tokens of a row become those of another one.
    Copy {
        /// From this row.
        from: usize,
        /// To this row.
        to: usize,
        /// So many tokens.
        tokens: usize,
    },
    /// A row is empty now.
    Release(usize),
}

/// The prefix of a finished prompt.
#[derive(Debug)]
pub(super) struct CachedPrefix {
    pub prompt: Prompt,
    /// Tokens that can be reused.
    pub tokens: usize,
    /// Tokens that the row takes memory for.
    pub held: usize,
    /// When it was last of use, in uses.
    pub used: u64,
}

/// A staging row.
#[derive(Debug)]
enum StagingRow {
    Free,
    /// Holds a prompt or continuations, so many.
    Used(usize),
    Cached(CachedPrefix),
}

/// The rows: first a batch for each class, then the staging rows.
#[derive(Debug)]
pub(super) struct Rows {
    batch: usize,
    batches: [Vec<SequenceId>; 2],
    staging: Vec<StagingRow>,
    changes: Vec<RowChange>,
    uses: u64,
}

impl Rows {
    pub(super) fn new(batch: usize) -> Self {
        let staging = (0..2 * batch).map(|_| StagingRow::Free).collect();
        Self { batch, batches: [Vec::new(), Vec::new()], staging, changes: Vec::new(), uses: 0 }
    }

    /// First row of a class' batch.
    pub(super) fn first(&self, class: Class) -> usize {
        index(class) * self.batch
    }

    /// Who decodes, row by row.
    pub(super) fn batch(&self, class: Class) -> &[SequenceId] {
        &self.batches[index(class)]
    }

    pub(super) fn take_changes(&mut self) -> Vec<RowChange> {
        std::mem::take(&mut self.changes)
    }

    /// A continuation goes from its staging row into the batch.
    pub(super) fn join(&mut self, class: Class, sequence: SequenceId, from: usize, tokens: usize) {
        let to = self.first(class) + self.batch(class).len();
        self.changes.push(RowChange::Copy { from, to, tokens });
        self.batches[index(class)].push(sequence);
        self.leave_staging(from);
    }

    /// Gives back the row of a batch's member. The last one, of so many tokens, moves into the hole.
    pub(super) fn leave_batch(&mut self, class: Class, slot: usize, last_tokens: usize) {
        let (first, last) = (self.first(class), self.batch(class).len() - 1);
        if slot != last {
            self.changes.push(RowChange::Copy { from: first + last, to: first + slot, tokens: last_tokens });
        }
        self.changes.push(RowChange::Release(first + last));
        self.batches[index(class)].swap_remove(slot);
    }

    /// A free staging row, for one user; `None` when only cached prefixes could make way.
    pub(super) fn take_staging(&mut self) -> Option<usize> {
        let slot = self.staging.iter().position(|staging| matches!(staging, StagingRow::Free))?;
        self.staging[slot] = StagingRow::Used(1);
        Some(self.row(slot))
    }

    /// Makes a staging row that holds a prompt that of its continuations.
    pub(super) fn share_staging(&mut self, row: usize, users: usize) {
        let slot = self.slot(row);
        self.staging[slot] = StagingRow::Used(users);
    }

    /// One of a staging row's users leaves; the last one leaves it empty.
    pub(super) fn leave_staging(&mut self, row: usize) {
        let slot = self.slot(row);
        self.staging[slot] = match self.staging[slot] {
            StagingRow::Used(users) if users > 1 => StagingRow::Used(users - 1),
            _ => {
                self.changes.push(RowChange::Release(row));
                StagingRow::Free
            }
        };
    }

    /// Copies a row's first tokens elsewhere.
    pub(super) fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        self.changes.push(RowChange::Copy { from, to, tokens });
    }

    /// Caches a prefix in a staging row, which its last user leaves.
    pub(super) fn cache(&mut self, row: usize, prompt: Prompt, tokens: usize, held: usize) {
        let (slot, used) = (self.slot(row), self.next_use());
        self.staging[slot] = StagingRow::Cached(CachedPrefix { prompt, tokens, held, used });
    }

    /// The cached prefixes with their rows.
    pub(super) fn cached(&self) -> impl Iterator<Item = (usize, &CachedPrefix)> {
        self.staging.iter().enumerate().filter_map(|(slot, staging)| match staging {
            StagingRow::Cached(cached) => Some((self.row(slot), cached)),
            _ => None,
        })
    }

    pub(super) fn cached_tokens(&self) -> usize {
        self.cached().map(|(_, cached)| cached.held).sum()
    }

    /// Takes note that a row was of use, which counts if it holds a cached prefix.
    pub(super) fn touch(&mut self, row: usize) {
        let now = self.next_use();
        if let Some(StagingRow::Cached(cached)) = row.checked_sub(2 * self.batch).map(|slot| &mut self.staging[slot]) {
            cached.used = now;
        }
    }

    /// Gives up a cached prefix.
    pub(super) fn evict(&mut self, row: usize) {
        let slot = self.slot(row);
        self.staging[slot] = StagingRow::Free;
        self.changes.push(RowChange::Release(row));
    }

    /// Makes a cached prefix's row that of one user, with what it holds.
    pub(super) fn take_over(&mut self, row: usize) {
        let slot = self.slot(row);
        self.staging[slot] = StagingRow::Used(1);
    }

    /// The cached prefix that has been of no use for longest, save one.
    pub(super) fn least_used(&self, except: Option<usize>) -> Option<usize> {
        self.cached().filter(|(row, _)| Some(*row) != except).min_by_key(|(_, cached)| cached.used).map(|(row, _)| row)
    }

    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    fn row(&self, slot: usize) -> usize {
        2 * self.batch + slot
    }

    fn slot(&self, row: usize) -> usize {
        row - 2 * self.batch
    }
}
