//! Which row holds what. Every change of place becomes a change of memory, in order.

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

/// The beginning of a finished prompt.
#[derive(Debug)]
pub(super) struct Kept {
    pub prompt: Prompt,
    /// Tokens that can be reused.
    pub tokens: usize,
    /// Tokens that the row takes memory for.
    pub held: usize,
    /// When it was last of use, in uses.
    pub used: u64,
}

/// A row beside the areas.
#[derive(Debug)]
enum Side {
    Free,
    /// Holds a prompt or continuations, so many.
    Used(usize),
    Kept(Kept),
}

/// The rows: first an area for each class, then those beside.
#[derive(Debug)]
pub(super) struct Rows {
    batch: usize,
    areas: [Vec<SequenceId>; 2],
    side: Vec<Side>,
    changes: Vec<RowChange>,
    uses: u64,
}

impl Rows {
    pub(super) fn new(batch: usize) -> Self {
        let side = (0..2 * batch).map(|_| Side::Free).collect();
        Self { batch, areas: [Vec::new(), Vec::new()], side, changes: Vec::new(), uses: 0 }
    }

    /// First row of a class' area.
    pub(super) fn first(&self, class: Class) -> usize {
        index(class) * self.batch
    }

    /// Who decodes, row by row.
    pub(super) fn area(&self, class: Class) -> &[SequenceId] {
        &self.areas[index(class)]
    }

    pub(super) fn take_changes(&mut self) -> Vec<RowChange> {
        std::mem::take(&mut self.changes)
    }

    /// A continuation goes from beside into its area.
    pub(super) fn join(&mut self, class: Class, sequence: SequenceId, from: usize, tokens: usize) {
        let to = self.first(class) + self.area(class).len();
        self.changes.push(RowChange::Copy { from, to, tokens });
        self.areas[index(class)].push(sequence);
        self.leave_side(from);
    }

    /// Gives back the row of an area's member. The last one, of so many tokens, moves into the hole.
    pub(super) fn leave_area(&mut self, class: Class, place: usize, last_tokens: usize) {
        let (first, last) = (self.first(class), self.area(class).len() - 1);
        if place != last {
            self.changes.push(RowChange::Copy { from: first + last, to: first + place, tokens: last_tokens });
        }
        self.changes.push(RowChange::Release(first + last));
        self.areas[index(class)].swap_remove(place);
    }

    /// A free row beside the areas, for one user; `None` when only kept beginnings could make way.
    pub(super) fn take_side(&mut self) -> Option<usize> {
        let place = self.side.iter().position(|side| matches!(side, Side::Free))?;
        self.side[place] = Side::Used(1);
        Some(self.row(place))
    }

    /// Makes a side row that holds a prompt that of its continuations.
    pub(super) fn share_side(&mut self, row: usize, users: usize) {
        let place = self.place(row);
        self.side[place] = Side::Used(users);
    }

    /// One of a side row's users leaves; the last one leaves it empty.
    pub(super) fn leave_side(&mut self, row: usize) {
        let place = self.place(row);
        self.side[place] = match self.side[place] {
            Side::Used(users) if users > 1 => Side::Used(users - 1),
            _ => {
                self.changes.push(RowChange::Release(row));
                Side::Free
            }
        };
    }

    /// Copies a row's first tokens elsewhere.
    pub(super) fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        self.changes.push(RowChange::Copy { from, to, tokens });
    }

    /// Keeps a beginning in a side row, which its last user leaves.
    pub(super) fn keep(&mut self, row: usize, prompt: Prompt, tokens: usize, held: usize) {
        let (place, used) = (self.place(row), self.next_use());
        self.side[place] = Side::Kept(Kept { prompt, tokens, held, used });
    }

    /// The kept beginnings with their rows.
    pub(super) fn kept(&self) -> impl Iterator<Item = (usize, &Kept)> {
        self.side.iter().enumerate().filter_map(|(place, side)| match side {
            Side::Kept(kept) => Some((self.row(place), kept)),
            _ => None,
        })
    }

    pub(super) fn kept_tokens(&self) -> usize {
        self.kept().map(|(_, kept)| kept.held).sum()
    }

    /// Takes note that a row was of use, which counts if it holds a kept beginning.
    pub(super) fn touch(&mut self, row: usize) {
        let now = self.next_use();
        if let Some(Side::Kept(kept)) = row.checked_sub(2 * self.batch).map(|place| &mut self.side[place]) {
            kept.used = now;
        }
    }

    /// Gives up a kept beginning.
    pub(super) fn evict(&mut self, row: usize) {
        let place = self.place(row);
        self.side[place] = Side::Free;
        self.changes.push(RowChange::Release(row));
    }

    /// Makes a kept beginning's row that of one user, with what it holds.
    pub(super) fn take_over(&mut self, row: usize) {
        let place = self.place(row);
        self.side[place] = Side::Used(1);
    }

    /// The kept beginning that has been of no use for longest, save one.
    pub(super) fn least_used(&self, except: Option<usize>) -> Option<usize> {
        self.kept().filter(|(row, _)| Some(*row) != except).min_by_key(|(_, kept)| kept.used).map(|(row, _)| row)
    }

    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    fn row(&self, place: usize) -> usize {
        2 * self.batch + place
    }

    fn place(&self, row: usize) -> usize {
        row - 2 * self.batch
    }
}
