//! A number of permits, and who waits for one: interactive work before batch work, keys in turns by what they cost, and no more
//! of either class than there is room for.

mod queue;

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{Bounds, Turn};
use queue::Queue;

/// Who is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// So many at a time.
    pub permits: usize,
    /// What all of a class may cost that wait or have a permit, of which each key may have its share.
    pub bounds: Bounds,
    /// What a key's turn gives, and the least that one who waits counts as; at least 1.
    pub least_cost: usize,
    /// Longest wait for a permit.
    pub max_wait: Duration,
}

/// What is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Permits that nobody has. While there is one, nobody waits.
    pub free: usize,
    /// What those count as that wait.
    pub waiting: usize,
    /// What all cost that wait or have a permit.
    pub held: usize,
}

/// Why somebody gets no permit. The delay goes by the measured rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too much is here.
    Full {
        /// When enough of it will be gone.
        retry_after: Duration,
    },
    /// The wait was too long.
    TooLate {
        /// When all that waits will be gone.
        retry_after: Duration,
    },
}

/// Permits, and who waits for one.
#[derive(Debug)]
pub struct Turnstile {
    queue: Mutex<Queue<oneshot::Sender<()>>>,
    max_wait: Duration,
}

/// A permit. Whatever becomes of who has it, it goes to the next in turn with this.
#[derive(Debug)]
pub struct Pass {
    of: Arc<Turnstile>,
    turn: Turn,
    cost: usize,
    /// Those under which it waited for its permit, or still does.
    numbers: Range<u64>,
    since: Instant,
}

impl Turnstile {
    /// Nobody is here yet.
    #[must_use]
    pub fn new(settings: &Settings) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::new(Queue::new(settings)), max_wait: settings.max_wait })
    }

    /// Waits for a permit. Dropping this leaves the queue.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn enter(self: &Arc<Self>, turn: &Turn, cost: usize) -> Result<Pass, Refused> {
        let (tell, told) = oneshot::channel();
        let numbers = self.queue().enter(turn, cost, tell).map_err(|retry_after| Refused::Full { retry_after })?;
        // From here on its drop takes back whatever was given, a place in the queue or a permit.
        let mut pass = Pass { of: self.clone(), turn: turn.clone(), cost, numbers, since: Instant::now() };
        if !pass.numbers.is_empty() {
            if timeout(self.max_wait, told).await.is_err() {
                let retry_after = self.queue().time_to_drain();
                return Err(Refused::TooLate { retry_after });
            }
            pass.since = Instant::now();
        }
        Ok(pass)
    }

    /// What is here now.
    #[must_use]
    pub fn load(&self) -> Load {
        self.queue().load()
    }

    fn queue(&self) -> MutexGuard<'_, Queue<oneshot::Sender<()>>> {
        // Nothing that holds the lock leaves it half changed, so a panic elsewhere does no harm to what it guards.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Gives the permit back after work of its cost, and takes note of how long that took. One that is dropped was used for
    /// less, and says nothing about the rate.
    pub fn done(self) {
        self.of.queue().took(self.cost, self.since.elapsed());
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let next = self.of.queue().leave(&self.turn, self.cost, self.numbers.clone());
        if let Some(next) = next {
            let _ = next.send(()); // who has left since then has passed its permit on
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{future::join_all, poll};
    use tokio::time::advance;

    use super::*;
    use crate::Class::{self, Batch, Interactive};

    const BOUNDS: Bounds = Bounds { shared: 256, reserve: 256, small: 1 };
    const ONE: Settings = Settings { permits: 1, bounds: BOUNDS, least_cost: 1, max_wait: Duration::from_secs(5) };

    fn turn(class: Class, key: &str) -> Turn {
        Turn { class, key: key.into() }
    }

    #[tokio::test]
    async fn keys_take_turns_and_interactive_goes_first() {
        let turnstile = Turnstile::new(&ONE);
        let first = turnstile.enter(&turn(Batch, "c"), 1).await.unwrap();
        let order = Mutex::new(Vec::new());
        let turns = [(Batch, "c"), (Interactive, "a"), (Interactive, "a"), (Interactive, "b")];
        let entering = turns.map(|(class, key)| {
            let (turnstile, order) = (&turnstile, &order);
            async move {
                let _pass = turnstile.enter(&turn(class, key), 1).await.unwrap();
                order.lock().unwrap().push(key);
            }
        });
        tokio::join!(join_all(entering), async { drop(first) });
        assert_eq!(*order.lock().unwrap(), ["a", "b", "a", "c"]);
        assert_eq!(turnstile.load(), Load { free: 1, waiting: 0, held: 0 });
    }

    #[tokio::test]
    async fn a_flood_is_refused_and_leaves_room_for_others() {
        let turnstile = Turnstile::new(&ONE);
        for (class, another) in [(Interactive, Batch), (Batch, Interactive)] {
            let flood = turn(class, "flood");
            let busy = turnstile.enter(&flood, 1).await.unwrap();
            let mut waiting = Vec::new();
            let refused = loop {
                let mut entering = Box::pin(turnstile.enter(&flood, 1));
                match poll!(&mut entering) {
                    std::task::Poll::Pending => waiting.push(entering),
                    std::task::Poll::Ready(outcome) => break outcome.unwrap_err(),
                }
            };
            assert_eq!(refused, Refused::Full { retry_after: Duration::from_secs(1) });
            assert_eq!(turnstile.load(), Load { free: 0, waiting: 203, held: 204 }, "four fifths");
            let others = [turn(class, "other"), turn(another, "flood")];
            let mut others = others.each_ref().map(|turn| Box::pin(turnstile.enter(turn, 1)));
            for entering in &mut others {
                assert!(poll!(entering).is_pending(), "it may wait");
            }
            drop(waiting);
            assert_eq!(turnstile.load(), Load { free: 0, waiting: 2, held: 3 }, "who leaves gives its room back");
            drop((others, busy));
        }
    }

    /// It may go while it waits, and after it was given a permit that it does not know of yet.
    #[tokio::test]
    async fn who_goes_away_leaves_the_queue_and_takes_no_permit_along() {
        let (turnstile, turn) = (Turnstile::new(&ONE), turn(Interactive, "a"));
        let first = turnstile.enter(&turn, 1).await.unwrap();
        let waiting = || Box::pin(turnstile.enter(&turn, 1));
        let (mut leaves, mut given, mut stays) = (waiting(), waiting(), waiting());
        for waiting in [&mut leaves, &mut given, &mut stays] {
            assert!(poll!(waiting).is_pending());
        }
        assert_eq!(turnstile.load(), Load { free: 0, waiting: 3, held: 4 });
        drop(leaves);
        assert_eq!(turnstile.load(), Load { free: 0, waiting: 2, held: 3 });
        drop(first);
        assert_eq!(turnstile.load(), Load { free: 0, waiting: 1, held: 2 }, "one who waited has the permit");
        drop(given);
        assert_eq!(turnstile.load(), Load { free: 0, waiting: 0, held: 1 }, "and then the next one");
        drop(stays.await.unwrap());
        assert_eq!(turnstile.load(), Load { free: 1, waiting: 0, held: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_the_limit() {
        let turnstile = Turnstile::new(&ONE);
        let busy = turnstile.enter(&turn(Interactive, "a"), 1).await.unwrap();
        let began = Instant::now();
        let refused = turnstile.enter(&turn(Interactive, "b"), 1).await.unwrap_err();
        assert_eq!(refused, Refused::TooLate { retry_after: Duration::from_secs(1) });
        assert_eq!(began.elapsed(), ONE.max_wait);
        drop(busy);
        assert_eq!(turnstile.load(), Load { free: 1, waiting: 0, held: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_goes_by_what_work_took_without_its_wait_and_not_by_what_was_left() {
        let (turnstile, turn, took) = (Turnstile::new(&ONE), turn(Interactive, "a"), Duration::from_secs(2));
        let first = turnstile.enter(&turn, 1).await.unwrap();
        let mut waits = Box::pin(turnstile.enter(&turn, 1));
        assert!(poll!(&mut waits).is_pending());
        advance(took).await;
        first.done();
        let second = waits.await.unwrap();
        advance(took).await;
        second.done();
        let left = turnstile.enter(&turn, 1).await.unwrap();
        advance(took * 10).await;
        drop(left);
        let _busy = turnstile.enter(&turn, 1).await.unwrap();
        let refused = turnstile.enter(&turn, 1).await.unwrap_err();
        assert_eq!(refused, Refused::TooLate { retry_after: took });
    }
}
