//! Which slot of the cache holds what. Every change of that becomes a change of memory, in order.

use super::Prompt;

/// A change to the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotChange {
    /// The first tokens of a slot become those of another one.
    Copy {
        /// From this slot.
        from: usize,
        /// To this slot.
        to: usize,
        /// So many tokens.
        tokens: usize,
    },
    /// A slot is empty now.
    Release(usize),
}

/// What was read and said in a request that has ended.
#[derive(Debug)]
pub(super) struct CachedPrefix {
    pub text: Prompt,
    /// Tokens that the slot takes memory for.
    pub held: usize,
    /// When it was last of use, in uses.
    pub used: u64,
}

#[derive(Debug)]
enum Slot {
    Free,
    /// Holds a prompt that is read, or a continuation.
    Used,
    Cached(CachedPrefix),
}

/// The slots.
#[derive(Debug)]
pub(super) struct Slots {
    all: Vec<Slot>,
    changes: Vec<SlotChange>,
    uses: u64,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Self { all: (0..count).map(|_| Slot::Free).collect(), changes: Vec::new(), uses: 0 }
    }

    pub(super) fn take_changes(&mut self) -> Vec<SlotChange> {
        std::mem::take(&mut self.changes)
    }

    /// An empty slot, at the price of a cached prefix if need be, save one: there are more than continuations may be.
    pub(super) fn take(&mut self, except: Option<usize>) -> usize {
        let free = self.all.iter().position(|slot| matches!(slot, Slot::Free));
        let slot = free.or_else(|| self.least_used(except)).expect("there is one for each admitted continuation");
        if free.is_none() {
            self.release(slot);
        }
        self.all[slot] = Slot::Used;
        slot
    }

    /// Empties a slot.
    pub(super) fn release(&mut self, slot: usize) {
        self.all[slot] = Slot::Free;
        self.changes.push(SlotChange::Release(slot));
    }

    /// Copies a slot's first tokens to another one.
    pub(super) fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        self.changes.push(SlotChange::Copy { from, to, tokens });
    }

    /// Caches what is in a slot, which its user leaves.
    pub(super) fn cache(&mut self, slot: usize, text: Prompt, held: usize) {
        let used = self.next_use();
        self.all[slot] = Slot::Cached(CachedPrefix { text, held, used });
    }

    /// The cached prefixes with their slots.
    pub(super) fn cached(&self) -> impl Iterator<Item = (usize, &CachedPrefix)> {
        self.all.iter().enumerate().filter_map(|(slot, holds)| match holds {
            Slot::Cached(cached) => Some((slot, cached)),
            _ => None,
        })
    }

    pub(super) fn cached_tokens(&self) -> usize {
        self.cached().map(|(_, cached)| cached.held).sum()
    }

    /// Takes note that a slot was of use, which counts if it holds a cached prefix.
    pub(super) fn touch(&mut self, slot: usize) {
        let now = self.next_use();
        if let Slot::Cached(cached) = &mut self.all[slot] {
            cached.used = now;
        }
    }

    /// Makes a cached prefix's slot that of a request, with what it holds.
    pub(super) fn take_over(&mut self, slot: usize) {
        self.all[slot] = Slot::Used;
    }

    /// The cached prefix that has been of no use for longest, save one.
    pub(super) fn least_used(&self, except: Option<usize>) -> Option<usize> {
        self.cached()
            .filter(|(slot, _)| Some(*slot) != except)
            .min_by_key(|(_, cached)| cached.used)
            .map(|(slot, _)| slot)
    }

    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }
}
