//! Where texts are tokenized: short ones at once, long ones on a few threads, so that neither holds the other up. What else
//! takes long before a request can be queued uses the same threads. Keys take turns at them, as in the queues that follow.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use hotpath_contract::inference::v1::TokenizedText;
use hotpath_fairness::{ByClass, Queued};
use tokio::{sync::oneshot, task::spawn_blocking};

use crate::{
    error::Error,
    models::serving::Texts,
    requests::{Input, Turn},
};

/// Up to so many bytes a request is tokenized where it stands: that takes about a millisecond, and going to another
/// thread and back costs some tens of microseconds.
const AT_ONCE_BYTES: usize = 4096;

/// Runs tokenization.
#[derive(Debug)]
pub struct Tokenization {
    threads: Arc<Threads>,
}

/// The threads for what takes long, and who waits for one.
#[derive(Debug)]
struct Threads(Mutex<Queue>);

#[derive(Debug)]
struct Queue {
    /// Threads that nobody has. While there is one, nobody waits.
    free: usize,
    waiting: ByClass<Waiter>,
}

/// One who waits for a thread.
#[derive(Debug)]
struct Waiter {
    bytes: usize,
    gives: oneshot::Sender<Thread>,
}

/// A waiter's place in the queue, which it leaves with this.
#[derive(Debug)]
struct Place<'a> {
    threads: &'a Threads,
    turn: &'a Turn,
    numbers: Range<u64>,
    given: oneshot::Receiver<Thread>,
}

/// A thread that one request has. Whatever becomes of that, the thread goes to the next in turn with this.
#[derive(Debug)]
struct Thread(Arc<Threads>);

/// Who waits for the result.
#[derive(Debug)]
pub struct Caller(Weak<()>);

impl Caller {
    /// Whether somebody waits.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if nobody does.
    pub fn check(&self) -> Result<(), Error> {
        if self.0.strong_count() == 0 { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// The ids of a request's inputs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tokenized {
    /// Those of each input, in their order.
    pub ids: Vec<Vec<u32>>,
    /// Indices of the inputs that were truncated.
    pub truncated: Vec<u32>,
}

impl Tokenization {
    /// Long texts use up to this many threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        // The least that a waiter counts as: longer turns would serve batches, and there are none here.
        let queue = Queue { free: threads, waiting: ByClass::queues(AT_ONCE_BYTES) };
        Self { threads: Arc::new(Threads(Mutex::new(queue))) }
    }

    /// Runs `work` on a text of some bytes. Work whose caller is gone should end early; until it does, it counts as running.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn run<T: Send + 'static>(
        &self,
        turn: &Turn,
        bytes: usize,
        work: impl FnOnce(&Caller) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if bytes <= AT_ONCE_BYTES {
            let here = Arc::new(());
            return work(&Caller(Arc::downgrade(&here)));
        }
        self.run_apart(turn, bytes, work).await
    }

    /// Runs `work` as that of a long text. If its caller goes away before it begins, it does not.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn run_apart<T: Send + 'static>(
        &self,
        turn: &Turn,
        bytes: usize,
        work: impl FnOnce(&Caller) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let here = Arc::new(());
        let caller = Caller(Arc::downgrade(&here));
        let thread = self.threads.clone().next(turn, bytes).await;
        let working = spawn_blocking(move || {
            let _thread = thread; // held until the work is over, whether or not somebody waits
            caller.check()?;
            work(&caller)
        });
        working.await.unwrap_or_else(|error| Err(Error::Internal { cause: error.to_string() }))
    }
}

impl Threads {
    /// A thread, once it is this turn's.
    async fn next(self: Arc<Self>, turn: &Turn, bytes: usize) -> Thread {
        let (gives, given) = oneshot::channel();
        let mut place = {
            let mut queue = self.queue();
            if queue.free > 0 {
                queue.free -= 1;
                return Thread(self.clone());
            }
            let numbers = queue.waiting.of_mut(turn.class).push(&turn.key, [Waiter { bytes, gives }]);
            Place { threads: &self, turn, numbers, given }
        };
        (&mut place.given).await.expect("a waiter whose place is kept stays until it gives a thread")
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that holds the lock leaves it half changed, so a panic elsewhere does no harm to what it guards.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Takes who is next in turn out of the queue, for a thread that nobody has any more.
    fn next(&mut self) -> Option<Waiter> {
        let next = self.waiting.next_mut().take(1).pop(); // a batch of 1 byte is one waiter
        self.free += usize::from(next.is_none());
        next
    }
}

impl Queued for Waiter {
    /// Its bytes, which take time in proportion. Few bytes of a schema may take as long as many.
    fn tokens(&self) -> usize {
        self.bytes.max(AT_ONCE_BYTES)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.given.close(); // a thread that was given before is dropped with it
        self.threads.queue().waiting.of_mut(self.turn.class).remove(&self.turn.key, self.numbers.clone());
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let next = self.0.queue().next();
        if let Some(waiter) = next {
            // Who left just now gives it back, and it is dropped once more: without the lock, which that takes.
            let _ = waiter.gives.send(Self(self.0.clone()));
        }
    }
}

/// Turns a request's inputs into ids, and holds them against the model's limits.
///
/// # Errors
/// [`Error::TokenIdOutOfRange`], [`Error::InputTooLong`] unless `truncate`, [`Error::Cancelled`].
pub fn ids(texts: &Texts, inputs: Vec<Input>, truncate: bool, caller: &Caller) -> Result<Tokenized, Error> {
    let limits = &texts.limits;
    let max_tokens = limits.max_tokens as usize;
    let mut tokenized = Tokenized { ids: Vec::with_capacity(inputs.len()), truncated: Vec::new() };
    for (i, input) in (0_u32..).zip(inputs) {
        caller.check()?;
        let field = || format!("inputs[{i}]");
        let mut ids = match input {
            Input::Text(text) => texts.tokenizer.ids(&text).map_err(|error| Error::Internal { cause: error.0 })?,
            Input::Ids(ids) => ids,
        };
        if let Some(place) = ids.iter().position(|id| *id >= limits.vocabulary_size) {
            let (actual, limit) = (ids[place], limits.vocabulary_size);
            return Err(Error::TokenIdOutOfRange { field: field(), place, actual, limit });
        }
        if ids.len() > max_tokens {
            if !truncate {
                return Err(Error::InputTooLong { field: field(), actual: ids.len(), limit: max_tokens });
            }
            texts.tokenizer.truncate(&mut ids, max_tokens);
            tokenized.truncated.push(i);
        }
        tokenized.ids.push(ids);
    }
    Ok(tokenized)
}

/// The tokens of each text, with their places.
///
/// # Errors
/// [`Error::Cancelled`].
pub fn tokens(of: &Texts, texts: &[String], caller: &Caller) -> Result<Vec<TokenizedText>, Error> {
    let one = |text: &String| {
        caller.check()?;
        let tokens = of.tokenizer.tokens(text).map_err(|error| Error::Internal { cause: error.0 })?;
        Ok(TokenizedText {
            token_count: u32::try_from(tokens.ids.len())
                .map_err(|error| Error::Internal { cause: error.to_string() })?,
            ids: tokens.ids,
            byte_starts: tokens.byte_starts,
            byte_ends: tokens.byte_ends,
        })
    };
    texts.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use futures_util::{future::join_all, poll};
    use hotpath_fairness::Class::{self, Batch, Interactive};
    use tokio::time::timeout;

    use super::*;

    impl Tokenization {
        fn free(&self) -> usize {
            self.threads.queue().free
        }

        /// Of those that are [`LONG`].
        fn waiting(&self) -> usize {
            let queue = self.threads.queue();
            [Interactive, Batch].map(|class| queue.waiting.of(class).tokens()).iter().sum::<usize>() / LONG
        }
    }

    const LIMIT: Duration = Duration::from_secs(30);
    const LONG: usize = AT_ONCE_BYTES + 1;
    const LONGEST: usize = 8 << 20;

    fn arrives<T>(channel: &mpsc::Receiver<T>) -> Result<T, Error> {
        channel.recv_timeout(LIMIT).map_err(|error| Error::Internal { cause: error.to_string() })
    }

    fn turn(class: Class, key: &str) -> Turn {
        Turn { class, key: key.into() }
    }

    /// The runtime of this test has one thread: a long text that took it would keep the short one from running.
    #[tokio::test]
    async fn a_long_text_does_not_hold_up_a_short_one() {
        let (tokenization, turn) = (Tokenization::new(1), turn(Interactive, "a"));
        let (short_ran, short_runs) = mpsc::channel();
        let long = tokenization.run(&turn, LONG, move |_| arrives(&short_runs));
        let short = tokenization.run(&turn, AT_ONCE_BYTES, move |_| Ok(short_ran.send(()).is_ok()));
        let (long, short) = tokio::join!(long, short);
        assert_eq!((long, short), (Ok(()), Ok(true)));
    }

    #[tokio::test]
    async fn long_texts_use_no_more_threads_than_allowed() {
        let (tokenization, turn) = (Tokenization::new(1), turn(Interactive, "a"));
        let (first_runs, first_ran) = mpsc::channel();
        let (let_first_end, first_may_end) = mpsc::channel();
        let first = tokenization.run(&turn, LONG, move |_| {
            let _ = first_runs.send(());
            arrives(&first_may_end)
        });
        let second = tokenization.run(&turn, LONG, move |_| Ok(first_ran.try_recv().is_ok()));
        let meanwhile = async {
            tokio::task::yield_now().await;
            assert_eq!(tokenization.free(), 0);
            let_first_end.send(()).unwrap();
        };
        let (first, second, ()) = tokio::join!(first, second, meanwhile);
        assert_eq!((first, second), (Ok(()), Ok(true)), "the second ran after the first");
        assert_eq!(tokenization.free(), 1);
    }

    /// The keys of long texts in the order in which they run, if they come while the only thread is busy.
    async fn order(texts: &[(Class, &'static str, usize)]) -> Vec<&'static str> {
        let tokenization = Tokenization::new(1);
        let (let_first_end, first_may_end) = mpsc::channel();
        let busy = turn(Interactive, texts[0].1);
        let first = tokenization.run(&busy, LONG, move |_| arrives(&first_may_end));
        let (runs, ran) = mpsc::channel();
        let rest = texts.iter().map(|&(class, key, bytes)| {
            let (tokenization, runs) = (&tokenization, runs.clone());
            async move { tokenization.run_apart(&turn(class, key), bytes, move |_| Ok(runs.send(key).is_ok())).await }
        });
        let (first, rest, sent) = tokio::join!(first, join_all(rest), async { let_first_end.send(()) });
        assert_eq!((first, rest, sent), (Ok(()), vec![Ok(true); texts.len()], Ok(())));
        ran.try_iter().collect()
    }

    #[tokio::test]
    async fn keys_take_turns() {
        let (a, b) = ((Interactive, "a", LONG), (Interactive, "b", LONG));
        assert_eq!(order(&[a, a, a, b]).await, ["a", "b", "a", "a"]);
        assert_eq!(order(&[a, a, a, b, b]).await, ["a", "b", "a", "b", "a"]);
        let longest = (Interactive, "a", LONGEST);
        assert_eq!(order(&[longest, longest, b, b, b]).await, ["b", "b", "b", "a", "a"], "turns go by bytes");
        let schema = (Interactive, "a", 1);
        assert_eq!(order(&[schema, schema, schema, b]).await, ["a", "a", "b", "a"], "a few bytes count as a turn");
    }

    #[tokio::test]
    async fn interactive_work_goes_before_batch_work() {
        let (batch, interactive) = ((Batch, "a", LONG), (Interactive, "b", LONGEST));
        assert_eq!(order(&[batch, batch, interactive, interactive]).await, ["b", "b", "a", "a"]);
    }

    /// A caller may go while it waits, and after it was given a thread that it does not know of yet.
    #[tokio::test]
    async fn who_goes_away_leaves_the_queue_and_takes_no_thread_along() {
        let (tokenization, turn) = (Tokenization::new(1), turn(Interactive, "a"));
        let (let_first_end, first_may_end) = mpsc::channel();
        let mut first = Box::pin(tokenization.run(&turn, LONG, move |_| arrives(&first_may_end)));
        let waiting = || Box::pin(tokenization.run(&turn, LONG, |_| Ok(())));
        let (mut leaves, mut given, mut stays) = (waiting(), waiting(), waiting());
        assert!(poll!(&mut first).is_pending());
        for waiting in [&mut leaves, &mut given, &mut stays] {
            assert!(poll!(waiting).is_pending());
        }
        assert_eq!(tokenization.waiting(), 3);
        drop(leaves);
        assert_eq!(tokenization.waiting(), 2);

        let_first_end.send(()).unwrap();
        assert_eq!(first.await, Ok(()));
        assert_eq!((tokenization.free(), tokenization.waiting()), (0, 1), "the thread was given to one who waited");
        drop(given);
        assert_eq!((tokenization.free(), tokenization.waiting()), (0, 0), "and then to the next one");
        assert_eq!(timeout(LIMIT, stays).await, Ok(Ok(())));
        assert_eq!(tokenization.free(), 1);
    }

    #[tokio::test]
    async fn a_thread_that_is_given_to_one_who_left_just_then_comes_back() {
        let (tokenization, turn) = (Tokenization::new(1), turn(Interactive, "a"));
        let (gives, _) = oneshot::channel();
        tokenization.threads.queue().waiting.of_mut(turn.class).push(&turn.key, [Waiter { bytes: LONG, gives }]);
        assert_eq!(tokenization.run(&turn, LONG, |_| Ok(())).await, Ok(()));
        assert_eq!((tokenization.free(), tokenization.waiting()), (1, 0));
    }

    #[tokio::test]
    async fn a_panic_costs_no_thread() {
        let (tokenization, turn) = (Tokenization::new(1), turn(Interactive, "a"));
        let panics = tokenization.run(&turn, LONG, |_| -> Result<(), Error> { panic!("as a fault would") });
        let next = tokenization.run(&turn, LONG, |_| Ok(()));
        let (panicked, next) = timeout(LIMIT, async { tokio::join!(panics, next) }).await.unwrap();
        assert!(matches!(&panicked, Err(Error::Internal { .. })), "{panicked:?}");
        assert_eq!((next, tokenization.free()), (Ok(()), 1));
    }

    #[tokio::test]
    async fn work_learns_that_its_caller_is_gone() {
        let (tokenization, turn) = (Tokenization::new(1), turn(Interactive, "a"));
        let (let_it_go_on, may_go_on) = mpsc::channel();
        let (tells, told) = mpsc::channel();
        let work = tokenization.run(&turn, LONG, move |caller| {
            let _ = tells.send(caller.check());
            arrives(&may_go_on)?;
            let _ = tells.send(caller.check());
            Ok(())
        });
        {
            let mut work = Box::pin(work);
            assert!(poll!(&mut work).is_pending());
            assert_eq!(arrives(&told).unwrap(), Ok(()));
        } // the caller goes away
        let_it_go_on.send(()).unwrap();
        assert_eq!(arrives(&told).unwrap(), Err(Error::Cancelled));
    }

    /// All threads of this runtime are busy with something else when the work is given to one.
    #[test]
    fn work_for_nobody_does_not_begin() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (tokenization, turn) = (Tokenization::new(1), turn(Interactive, "a"));
            let (let_it_go_on, may_go_on) = mpsc::channel();
            let elsewhere = spawn_blocking(move || arrives(&may_go_on));
            let (runs, ran) = mpsc::channel();
            let mut work = Box::pin(tokenization.run(&turn, LONG, move |_| Ok(runs.send(()).is_ok())));
            assert!(poll!(&mut work).is_pending());
            drop(work);
            let_it_go_on.send(()).unwrap();
            assert_eq!(elsewhere.await.unwrap(), Ok(()));
            assert_eq!(tokenization.run(&turn, LONG, |_| Ok(())).await, Ok(()));
            assert!(ran.try_recv().is_err());
        });
    }
}
