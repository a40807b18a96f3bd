//! Who may be admitted: rows and memory of the cache, shared out among keys.
//!
//! Both are physical, and what is admitted keeps them to its end. So most of each is shared: a key that has none of it may
//! take what is free, and more only up to a share of what it leaves free. The rest is a reserve, of which one that has
//! nothing at all may always take something small.

use hotpath_fairness::{Admission, Bounds, Class, Key, PerClass};

use super::Limits;

/// How much a request takes for as long as it is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    pub rows: usize,
    /// Tokens of cache.
    pub tokens: usize,
}

/// The part that a request takes it of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Shared,
    Reserve,
}

/// Whether a request may be admitted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fits(Part),
    /// Its own key has too much.
    BeyondShare,
    /// Others have too much.
    NoRoom,
}

/// What admitted requests hold.
#[derive(Debug)]
pub(super) struct Capacity(PerClass<OfClass>);

/// What those of one class hold.
#[derive(Debug)]
struct OfClass {
    shared: Resources,
    reserve: Resources,
}

#[derive(Debug)]
struct Resources {
    rows: Admission,
    tokens: Admission,
}

impl Capacity {
    pub(super) fn new(limits: &Limits) -> Self {
        // Who has nothing of it may take all that is free: a request is admitted as a whole.
        let shared = |amount| Admission::new(Bounds { shared: amount, reserve: 0, small: usize::MAX });
        let reserve = |amount, small| Admission::new(Bounds { shared: 0, reserve: amount, small });
        Self(PerClass::new(|class| OfClass {
            shared: Resources { rows: shared(limits.batch), tokens: shared(limits.shared_tokens(class)) },
            reserve: Resources {
                rows: reserve(limits.reserve_rows(), limits.small_rows()),
                tokens: reserve(limits.reserve_tokens(class), limits.small_tokens(class)),
            },
        }))
    }

    /// Tokens that admitted requests have reserved.
    pub(super) fn tokens(&self) -> usize {
        let of_class = |class| [&self.0.of(class).shared, &self.0.of(class).reserve];
        // What batch work holds is withheld from interactive work.
        of_class(Class::Interactive).iter().map(|part| part.tokens.held()).sum()
    }

    /// Rows that admitted requests have, of the class that has more.
    pub(super) fn rows(&self) -> usize {
        let of = |class| self.0.of(class).shared.rows.held() + self.0.of(class).reserve.rows.held();
        of(Class::Interactive).max(of(Class::Batch))
    }

    /// Whether nothing at all can be admitted.
    pub(super) fn is_full(&self, class: Class) -> bool {
        let OfClass { shared, reserve } = self.0.of(class);
        let is_full = |rows, tokens| rows == 0 || tokens == 0;
        is_full(shared.rows.left(), self.free_tokens(class)) && is_full(reserve.rows.left(), reserve.tokens.left())
    }

    /// Whether a request may be admitted; only of the reserve if what is shared is `held_back`.
    pub(super) fn judge(&self, class: Class, key: &str, need: Need, held_back: bool) -> Verdict {
        let OfClass { shared, reserve } = self.0.of(class);
        // Batch work takes its memory of what interactive work shares, its reserve too: so it leaves that one's alone.
        let is_there = class == Class::Interactive || need.tokens <= self.free_tokens(Class::Interactive);
        let within = |part: &Resources| need.rows <= part.rows.room(key) && need.tokens <= part.tokens.room(key);
        let has_shared = shared.rows.held_by(key) > 0;
        if is_there && !held_back && within(shared) {
            return Verdict::Fits(Part::Shared);
        }
        if is_there && !has_shared && within(reserve) {
            return Verdict::Fits(Part::Reserve);
        }
        if has_shared { Verdict::BeyondShare } else { Verdict::NoRoom }
    }

    pub(super) fn take(&mut self, class: Class, key: &Key, part: Part, need: Need) {
        let of = self.0.of_mut(class).part(part);
        of.rows.take(key, need.rows);
        of.tokens.take(key, need.tokens);
        if class == Class::Batch {
            self.0.of_mut(Class::Interactive).shared.tokens.withhold(need.tokens);
        }
    }

    pub(super) fn give_back(&mut self, class: Class, key: &str, part: Part, need: Need) {
        let of = self.0.of_mut(class).part(part);
        of.rows.give_back(key, need.rows);
        of.tokens.give_back(key, need.tokens);
        if class == Class::Batch {
            self.0.of_mut(Class::Interactive).shared.tokens.restore(need.tokens);
        }
    }

    /// Tokens of cache that are free of what a class shares.
    fn free_tokens(&self, class: Class) -> usize {
        self.0.of(class).shared.tokens.left()
    }
}

impl OfClass {
    fn part(&mut self, part: Part) -> &mut Resources {
        match part {
            Part::Shared => &mut self.shared,
            Part::Reserve => &mut self.reserve,
        }
    }
}
