//! Who may have a schema tried out next: interactive requests before batch, keys in turns, and no more of them waiting than
//! there is room for.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hotpath_fairness::{Admission, Bounds, ByClass, Class, Queued};
use tokio::{sync::oneshot, time::timeout};

/// Requests that may wait, and how many more of keys of which nobody waits.
const WAITING: Bounds = Bounds { shared: 256, reserve: 256, small: 1 };

/// Whose turn something uses.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Its class.
    pub class: Class,
    /// Its key.
    pub key: Arc<str>,
}

/// Why one may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Too many wait.
    Full,
    /// It waited for too long.
    TooLate,
}

#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    max_wait: Duration,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: ByClass<Waiter>,
    admission: Admission,
}

#[derive(Debug)]
struct Waiter(oneshot::Sender<Pass>);

impl Queued for Waiter {
    fn tokens(&self) -> usize {
        1 // what it takes is known afterwards, and bounded
    }
}

/// Leave to go on. Dropping it lets the next one in turn.
#[derive(Debug)]
pub(crate) struct Pass(Arc<Gate>);

/// A place among those that wait, which is left with this.
struct Place<'a> {
    gate: &'a Gate,
    turn: &'a Turn,
    /// Its number in the queue.
    numbers: Range<u64>,
    given: oneshot::Receiver<Pass>,
}

impl Gate {
    /// Lets so many go on at a time.
    pub(crate) fn new(most: usize, max_wait: Duration) -> Arc<Self> {
        let state = State { free: most, waiting: ByClass::queues(1), admission: Admission::new(WAITING) };
        Arc::new(Self { state: Mutex::new(state), max_wait })
    }

    /// Waits for its turn.
    pub(crate) async fn enter(self: &Arc<Self>, turn: &Turn) -> Result<Pass, Closed> {
        let (gives, given) = oneshot::channel();
        let mut place = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Ok(Pass(self.clone()));
            }
            if state.admission.excess(&turn.key, 1) > 0 {
                return Err(Closed::Full);
            }
            state.admission.take(&turn.key, 1);
            let numbers = state.waiting.of_mut(turn.class).push(&turn.key, [Waiter(gives)]);
            Place { gate: self, turn, numbers, given }
        };
        let given = timeout(self.max_wait, &mut place.given).await;
        given.map_err(|_| Closed::TooLate)?.map_err(|_| Closed::TooLate)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.given.close(); // a pass that was given before is dropped with it
        let mut state = self.gate.lock();
        state.waiting.of_mut(self.turn.class).remove(&self.turn.key, self.numbers.clone());
        state.admission.give_back(&self.turn.key, 1);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.lock();
            let next = state.waiting.next_mut().take(1).pop();
            state.free += usize::from(next.is_none());
            next
        };
        if let Some(Waiter(gives)) = next {
            // Who left just now gives it back, and it is dropped once more: without the lock, which that takes.
            let _ = gives.send(Self(self.0.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{future::join_all, poll};

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn turn(class: Class, key: &str) -> Turn {
        Turn { class, key: key.into() }
    }

    #[tokio::test]
    async fn keys_take_turns_and_interactive_goes_first() {
        let gate = Gate::new(1, LONG);
        let first = gate.enter(&turn(Class::Batch, "c")).await.unwrap();
        let order = Mutex::new(Vec::new());
        let turns =
            [(Class::Batch, "c"), (Class::Interactive, "a"), (Class::Interactive, "a"), (Class::Interactive, "b")];
        let entering = turns.map(|(class, key)| {
            let (gate, order) = (&gate, &order);
            async move {
                let _pass = gate.enter(&turn(class, key)).await.unwrap();
                order.lock().unwrap().push(key);
            }
        });
        tokio::join!(join_all(entering), async { drop(first) });
        assert_eq!(*order.lock().unwrap(), ["a", "b", "a", "c"]);
        assert_eq!(gate.lock().free, 1);
    }

    #[tokio::test]
    async fn a_flood_is_refused_and_leaves_room_for_others() {
        let gate = Gate::new(1, LONG);
        let _busy = gate.enter(&turn(Class::Interactive, "flood")).await.unwrap();
        let (flood, other) = (turn(Class::Interactive, "flood"), turn(Class::Interactive, "other"));
        let mut waiting = Vec::new();
        let refused = loop {
            let mut entering = Box::pin(gate.enter(&flood));
            match poll!(&mut entering) {
                std::task::Poll::Pending => waiting.push(entering),
                std::task::Poll::Ready(outcome) => break outcome.map(drop),
            }
        };
        assert_eq!((refused, waiting.len()), (Err(Closed::Full), 204));
        let mut entering = Box::pin(gate.enter(&other));
        assert!(poll!(&mut entering).is_pending(), "it may wait");
        drop(waiting);
        assert_eq!(gate.lock().admission.held(), 1, "who leaves gives its room back");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_the_limit() {
        let gate = Gate::new(1, Duration::from_secs(5));
        let busy = gate.enter(&turn(Class::Interactive, "a")).await.unwrap();
        assert_eq!(gate.enter(&turn(Class::Interactive, "b")).await.map(drop), Err(Closed::TooLate));
        drop(busy);
        let state = gate.lock();
        assert_eq!((state.free, state.admission.held()), (1, 0));
    }
}
