//! Where texts are tokenized: short ones at once, long ones on a few threads, so that neither holds the other up. What else
//! takes long before a request can be queued uses the same threads. Keys take turns at them, as in the queues that follow.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use hotpath_contract::inference::v1::TokenizedText;
use hotpath_fairness::{
    Bounds, Turn,
    turnstile::{self, Turnstile},
};
use hotpath_text::{Found, LOOKED_AT_TEXTS, TokenizeError, Tokens};
use tokio::task::spawn_blocking;

use crate::{error::Error, models::texts::Texts, requests::Input};

/// Up to so many bytes a request is tokenized where it stands: that takes about a millisecond, and going to another
/// thread and back costs some tens of microseconds.
const AT_ONCE_BYTES: usize = 4096;

/// Whatever others have here, a key that has nothing may bring so many bytes.
const SMALL_BYTES: usize = 64 * 1024;

/// Most tokens that a Tokenize request is told of. With their places they are some twelve megabytes.
const MAX_TOKENS_TOLD: usize = 1 << 20;

/// How texts are tokenized that take long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// On so many threads.
    pub threads: usize,
    /// So many bytes of each class may wait or be worked on, of which each key may have its share.
    pub max_bytes: usize,
    /// Longest wait for a thread.
    pub max_wait: Duration,
}

/// Runs tokenization.
#[derive(Debug)]
pub struct Tokenization {
    threads: Arc<Turnstile>,
}

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
    /// No text is here yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let threads = Turnstile::new(&turnstile::Settings {
            permits: settings.threads,
            bounds: Bounds { shared: settings.max_bytes, reserve: usize::MAX, small: SMALL_BYTES },
            // Bytes take time in proportion, but a few of a schema may take as long as many.
            least_cost: AT_ONCE_BYTES,
            max_wait: settings.max_wait,
        });
        Self { threads }
    }

    /// Runs `work` on a text of some bytes. Work whose caller is gone should end early; until it does, it counts as running.
    ///
    /// # Errors
    /// Those of `work`, and those of [`Tokenization::run_apart`].
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
    /// Those of `work`; [`Error::QueueFull`] when too many bytes are here, and [`Error::WaitedTooLong`].
    pub async fn run_apart<T: Send + 'static>(
        &self,
        turn: &Turn,
        bytes: usize,
        work: impl FnOnce(&Caller) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let here = Arc::new(());
        let caller = Caller(Arc::downgrade(&here));
        let pass = self.threads.enter(turn, bytes).await?;
        let working = spawn_blocking(move || {
            caller.check()?;
            let outcome = work(&caller);
            pass.done(); // until now it is held, whether or not somebody waits
            outcome
        });
        working.await.unwrap_or_else(|error| Err(Error::Internal { cause: error.to_string() }))
    }
}

/// So many tokens some inputs have at least, for a small part of what it takes to tokenize them. `None` where one of them has
/// more than it may: it is to be told so.
#[must_use]
pub fn at_least(texts: &Texts, inputs: &[Input], truncate: bool) -> Option<usize> {
    let max_tokens = texts.limits.max_tokens as usize;
    let one = |(i, input): (usize, &Input)| {
        let tokens = match input {
            Input::Text(text) => text_at_least(texts, i, text),
            Input::Ids(ids) => ids.len(),
        };
        if truncate { Some(tokens.min(max_tokens)) } else { Some(tokens).filter(|tokens| *tokens <= max_tokens) }
    };
    inputs.iter().enumerate().map(one).sum()
}

/// So many tokens one of some texts has at least. Of many, the last are not looked at.
pub fn text_at_least(of: &Texts, place: usize, text: &str) -> usize {
    if place < LOOKED_AT_TEXTS { of.tokenizer.at_least(text).max(1) } else { 1 }
}

/// Turns a request's inputs into ids, and holds them against the model's limits.
///
/// # Errors
/// [`Error::TokenIdOutOfRange`], [`Error::InputTooLong`] unless `truncate`, [`Error::EmptyInput`], [`Error::Unbroken`],
/// [`Error::Cancelled`].
pub fn ids(texts: &Texts, inputs: Vec<Input>, truncate: bool, caller: &Caller) -> Result<Tokenized, Error> {
    let limits = &texts.limits;
    let max_tokens = limits.max_tokens as usize;
    let mut tokenized = Tokenized { ids: Vec::with_capacity(inputs.len()), truncated: Vec::new() };
    for (i, input) in (0_u32..).zip(inputs) {
        caller.check()?;
        let field = || format!("inputs[{i}]");
        let Found { tokens: mut ids, is_all } = match input {
            Input::Text(text) => texts.tokenizer.ids(&text, max_tokens).map_err(|error| cannot(field(), error))?,
            Input::Ids(ids) => Found { tokens: ids, is_all: true },
        };
        if let Some(place) = ids.iter().position(|id| *id >= limits.vocabulary_size) {
            let (actual, limit) = (ids[place], limits.vocabulary_size);
            return Err(Error::TokenIdOutOfRange { field: field(), place, actual, limit });
        }
        if ids.is_empty() {
            return Err(Error::EmptyInput { field: field() }); // as of characters that the tokenizer drops
        }
        if ids.len() > max_tokens {
            if !truncate {
                let actual = is_all.then_some(ids.len());
                return Err(Error::InputTooLong { field: field(), actual, limit: max_tokens });
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
/// [`Error::BeyondRequest`], [`Error::Unbroken`], [`Error::Cancelled`].
pub fn tokens(of: &Texts, texts: &[String], caller: &Caller) -> Result<Vec<TokenizedText>, Error> {
    let one = |text: &str, limit| {
        let Found { tokens, is_all } = of.tokenizer.tokens(text, limit)?;
        let Tokens { ids, byte_starts, byte_ends } = tokens;
        Ok((ids.len(), TokenizedText { token_count: 0, ids, byte_starts, byte_ends }, is_all))
    };
    each(texts, caller, one)
}

/// How many tokens each text has.
///
/// # Errors
/// [`Error::BeyondRequest`], [`Error::Unbroken`], [`Error::Cancelled`].
pub fn counts(of: &Texts, texts: &[String], caller: &Caller) -> Result<Vec<TokenizedText>, Error> {
    let one = |text: &str, limit| {
        let Found { tokens, is_all } = of.tokenizer.ids(text, limit)?;
        Ok((tokens.len(), TokenizedText::default(), is_all))
    };
    each(texts, caller, one)
}

/// What `one` gives of each text, with the number of its tokens. It may look at no more of a text than it takes to find so
/// many tokens, and says whether that was all.
fn each(
    texts: &[String],
    caller: &Caller,
    one: impl Fn(&str, usize) -> Result<(usize, TokenizedText, bool), TokenizeError>,
) -> Result<Vec<TokenizedText>, Error> {
    let mut left = MAX_TOKENS_TOLD;
    let counted = |(i, text): (usize, &String)| {
        caller.check()?;
        let field = || format!("texts[{i}]");
        let (tokens, told, is_all) = one(text, left).map_err(|error| cannot(field(), error))?;
        let beyond = || Error::BeyondRequest { field: field(), unit: "tokens", limit: MAX_TOKENS_TOLD };
        left = if is_all { left.checked_sub(tokens) } else { None }.ok_or_else(beyond)?;
        let token_count = u32::try_from(tokens).map_err(|error| Error::Internal { cause: error.to_string() })?;
        Ok(TokenizedText { token_count, ..told })
    };
    texts.iter().enumerate().map(counted).collect()
}

/// Why a text has no tokens.
pub(crate) fn cannot(field: String, error: TokenizeError) -> Error {
    match error {
        TokenizeError::Unbroken { limit } => Error::Unbroken { field, limit },
        TokenizeError::Failed(cause) => Error::Internal { cause },
    }
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
            self.threads.load().free
        }

        /// Bytes that are here.
        fn bytes(&self) -> usize {
            self.threads.load().held
        }
    }

    fn one_thread() -> Tokenization {
        Tokenization::new(Settings { threads: 1, max_bytes: 64 << 20, max_wait: LIMIT })
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
        let (tokenization, turn) = (one_thread(), turn(Interactive, "a"));
        let (short_ran, short_runs) = mpsc::channel();
        let long = tokenization.run(&turn, LONG, move |_| arrives(&short_runs));
        let short = tokenization.run(&turn, AT_ONCE_BYTES, move |_| Ok(short_ran.send(()).is_ok()));
        let (long, short) = tokio::join!(long, short);
        assert_eq!((long, short), (Ok(()), Ok(true)));
    }

    #[tokio::test]
    async fn long_texts_use_no_more_threads_than_allowed() {
        let (tokenization, turn) = (one_thread(), turn(Interactive, "a"));
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
        let tokenization = one_thread();
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

    /// Bytes are here from when they come until the work on them is over, or they are gone.
    #[tokio::test]
    async fn too_many_bytes_are_refused_and_those_that_are_gone_leave_room() {
        let settings = Settings { threads: 1, max_bytes: 100_000, max_wait: LIMIT };
        let (tokenization, a, b) = (Tokenization::new(settings), turn(Interactive, "a"), turn(Interactive, "b"));
        let (let_it_end, may_end) = mpsc::channel();
        let mut works = Box::pin(tokenization.run(&a, 40_000, move |_| arrives(&may_end)));
        let mut waits = Box::pin(tokenization.run(&a, 40_000, |_| Ok(())));
        assert!(poll!(&mut works).is_pending() && poll!(&mut waits).is_pending());
        let refused = tokenization.run(&a, 40_000, |_| Ok(())).await;
        assert_eq!(refused, Err(Error::QueueFull { retry_after: Duration::from_secs(1), waiting: Duration::ZERO }));
        let mut small = Box::pin(tokenization.run(&b, 40_000, |_| Ok(())));
        assert!(poll!(&mut small).is_pending(), "another key's are let in");
        drop(waits);
        assert_eq!(tokenization.bytes(), 80_000);
        let_it_end.send(()).unwrap();
        assert_eq!((works.await, small.await, tokenization.bytes()), (Ok(()), Ok(()), 0));
    }

    #[tokio::test]
    async fn who_waits_too_long_is_refused() {
        let settings = Settings { threads: 1, max_bytes: 1 << 20, max_wait: Duration::from_millis(1) };
        let (tokenization, turn) = (Tokenization::new(settings), turn(Interactive, "a"));
        let (let_it_end, may_end) = mpsc::channel();
        let mut works = Box::pin(tokenization.run(&turn, LONG, move |_| arrives(&may_end)));
        assert!(poll!(&mut works).is_pending());
        let waited = tokenization.run(&turn, LONG, |_| Ok(())).await;
        assert!(matches!(waited, Err(Error::WaitedTooLong { .. })), "{waited:?}");
        assert_eq!(tokenization.bytes(), LONG, "and leaves nothing behind");
        let_it_end.send(()).unwrap();
        assert_eq!(works.await, Ok(()));
    }

    #[tokio::test]
    async fn a_panic_costs_no_thread() {
        let (tokenization, turn) = (one_thread(), turn(Interactive, "a"));
        let panics = tokenization.run(&turn, LONG, |_| -> Result<(), Error> { panic!("as a fault would") });
        let next = tokenization.run(&turn, LONG, |_| Ok(()));
        let (panicked, next) = timeout(LIMIT, async { tokio::join!(panics, next) }).await.unwrap();
        assert!(matches!(&panicked, Err(Error::Internal { .. })), "{panicked:?}");
        assert_eq!((next, tokenization.free()), (Ok(()), 1));
    }

    #[tokio::test]
    async fn work_learns_that_its_caller_is_gone() {
        let (tokenization, turn) = (one_thread(), turn(Interactive, "a"));
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
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (tokenization, turn) = (one_thread(), turn(Interactive, "a"));
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
