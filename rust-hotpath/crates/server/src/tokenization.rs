//! Where texts are tokenized: short ones at once, long ones on a few threads, so that neither holds the other up. What else
//! takes long before a request can be queued uses the same threads.

use std::sync::{Arc, Weak};

use hotpath_contract::inference::v1::TokenizedText;
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{error::Error, models::serving::Texts, requests::Input};

/// Up to so many bytes a request is tokenized where it stands: that takes about a millisecond, and going to another
/// thread and back costs some tens of microseconds.
const AT_ONCE_BYTES: usize = 4096;

/// Runs tokenization.
#[derive(Debug)]
pub struct Tokenization {
    threads: Arc<Semaphore>,
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
    /// Long texts use up to this many threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self { threads: Arc::new(Semaphore::new(threads)) }
    }

    /// Runs `work` on a text of some bytes. Work whose caller is gone should end early; until it does, it counts as running.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Caller) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if bytes <= AT_ONCE_BYTES {
            let here = Arc::new(());
            return work(&Caller(Arc::downgrade(&here)));
        }
        self.run_apart(work).await
    }

    /// Runs `work` as that of a long text.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn run_apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Caller) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let here = Arc::new(());
        let caller = Caller(Arc::downgrade(&here));
        let permit = self.threads.clone().acquire_owned().await;
        let working = spawn_blocking(move || {
            let _permit = permit; // held until the work is over, whether or not somebody waits
            work(&caller)
        });
        working.await.unwrap_or_else(|error| Err(Error::Internal { cause: error.to_string() }))
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

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);
    const LONG: usize = AT_ONCE_BYTES + 1;

    fn arrives<T>(channel: &mpsc::Receiver<T>) -> Result<T, Error> {
        channel.recv_timeout(LIMIT).map_err(|error| Error::Internal { cause: error.to_string() })
    }

    /// The runtime of this test has one thread: a long text that took it would keep the short one from running.
    #[tokio::test]
    async fn a_long_text_does_not_hold_up_a_short_one() {
        let tokenization = Tokenization::new(1);
        let (short_ran, short_runs) = mpsc::channel();
        let long = tokenization.run(LONG, move |_| arrives(&short_runs));
        let short = tokenization.run(AT_ONCE_BYTES, move |_| Ok(short_ran.send(()).is_ok()));
        let (long, short) = tokio::join!(long, short);
        assert_eq!((long, short), (Ok(()), Ok(true)));
    }

    #[tokio::test]
    async fn long_texts_use_no_more_threads_than_allowed() {
        let tokenization = Tokenization::new(1);
        let (first_runs, first_ran) = mpsc::channel();
        let (let_first_end, first_may_end) = mpsc::channel();
        let first = tokenization.run(LONG, move |_| {
            let _ = first_runs.send(());
            arrives(&first_may_end)
        });
        let second = tokenization.run(LONG, move |_| Ok(first_ran.try_recv().is_ok()));
        let meanwhile = async {
            tokio::task::yield_now().await;
            assert_eq!(tokenization.threads.available_permits(), 0);
            let_first_end.send(()).unwrap();
        };
        let (first, second, ()) = tokio::join!(first, second, meanwhile);
        assert_eq!((first, second), (Ok(()), Ok(true)), "the second ran after the first");
    }

    #[tokio::test]
    async fn work_learns_that_its_caller_is_gone() {
        let tokenization = Tokenization::new(1);
        let (let_it_go_on, may_go_on) = mpsc::channel();
        let (tells, told) = mpsc::channel();
        let work = tokenization.run(LONG, move |caller| {
            let _ = tells.send(caller.check());
            arrives(&may_go_on)?;
            let _ = tells.send(caller.check());
            Ok(())
        });
        {
            let mut work = Box::pin(work);
            assert!(futures_util::poll!(&mut work).is_pending());
            assert_eq!(arrives(&told).unwrap(), Ok(()));
        } // the caller goes away
        let_it_go_on.send(()).unwrap();
        assert_eq!(arrives(&told).unwrap(), Err(Error::Cancelled));
    }
}
