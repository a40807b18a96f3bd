//! Schemas that were compiled lately, or refused, and those that are at it: each is worked on once at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::schema::Refusal;

/// How long a refusal is remembered.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// What an entry takes beside what it holds.
const ENTRY_BYTES: usize = 1024;

/// Which vocabulary, and the hash of the schema.
pub(crate) type Key = (u64, [u8; 32]);

#[derive(Debug)]
pub(crate) struct Cache<T> {
    state: Mutex<State<T>>,
    most_bytes: usize,
}

#[derive(Debug)]
struct State<T> {
    entries: HashMap<Key, Entry<T>>,
    bytes: usize,
    /// Counts uses.
    now: u64,
}

#[derive(Debug)]
enum Entry<T> {
    Running(watch::Receiver<()>),
    Done { outcome: Result<T, Refusal>, bytes: usize, used: u64, until: Option<Instant> },
}

/// What is known of a schema.
#[derive(Debug)]
pub(crate) enum Known<T> {
    Outcome(Result<T, Refusal>),
    /// Somebody is at it. This ends when that one is done, or gives up.
    Running(watch::Receiver<()>),
    Nothing,
}

/// Work on a schema. Dropping it without a word lets another begin.
pub(crate) struct Running<T> {
    cache: Arc<Cache<T>>,
    key: Key,
    done: bool,
    _ends: watch::Sender<()>,
}

impl<T: Clone> Cache<T> {
    pub(crate) fn new(most_bytes: usize) -> Arc<Self> {
        let state = State { entries: HashMap::new(), bytes: 0, now: 0 };
        Arc::new(Self { state: Mutex::new(state), most_bytes })
    }

    /// What is known of a schema.
    pub(crate) fn look(&self, key: &Key) -> Known<T> {
        let mut state = self.lock();
        state.now += 1;
        let now = state.now;
        match state.entries.get_mut(key) {
            Some(Entry::Running(ends)) => Known::Running(ends.clone()),
            Some(Entry::Done { until: Some(until), .. }) if *until <= Instant::now() => {
                state.remove(key);
                Known::Nothing
            }
            Some(Entry::Done { outcome, used, .. }) => {
                *used = now;
                Known::Outcome(outcome.clone())
            }
            None => Known::Nothing,
        }
    }

    /// Begins with a schema of which nothing is known.
    pub(crate) fn begin(self: &Arc<Self>, key: Key) -> Result<Running<T>, Known<T>> {
        match self.look(&key) {
            Known::Nothing => (),
            known => return Err(known),
        }
        let (ends, ended) = watch::channel(());
        self.lock().entries.insert(key, Entry::Running(ended));
        Ok(Running { cache: self.clone(), key, done: false, _ends: ends })
    }

    /// Forgets all of a vocabulary.
    pub(crate) fn forget(&self, vocabulary: u64) {
        let mut state = self.lock();
        let done = |entry: &(&Key, &Entry<T>)| entry.0.0 == vocabulary && matches!(entry.1, Entry::Done { .. });
        let keys: Vec<Key> = state.entries.iter().filter(done).map(|(key, _)| *key).collect();
        for key in &keys {
            state.remove(key);
        }
    }

    /// Bytes of all that is kept.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn remove(&mut self, key: &Key) {
        if let Some(Entry::Done { bytes, .. }) = self.entries.remove(key) {
            self.bytes -= bytes;
        }
    }

    fn oldest(&self) -> Option<Key> {
        let used = |entry: &Entry<T>| match entry {
            Entry::Done { used, .. } => Some(*used),
            Entry::Running(_) => None,
        };
        let done = self.entries.iter().filter_map(|(key, entry)| Some((used(entry)?, *key)));
        done.min().map(|(_, key)| key)
    }
}

impl<T: Clone> Running<T> {
    /// Keeps what came of it, which takes some bytes.
    pub(crate) fn end(mut self, outcome: &Result<T, Refusal>, bytes: usize) {
        let until = outcome.is_err().then(|| Instant::now() + REFUSED_FOR);
        let bytes = ENTRY_BYTES + bytes;
        let mut state = self.cache.lock();
        (state.now, state.bytes) = (state.now + 1, state.bytes + bytes);
        let entry = Entry::Done { outcome: outcome.clone(), bytes, used: state.now, until };
        state.entries.insert(self.key, entry);
        while state.bytes > self.cache.most_bytes {
            let Some(oldest) = state.oldest() else { break };
            state.remove(&oldest);
        }
        drop(state);
        self.done = true;
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        if !self.done {
            self.cache.state.lock().unwrap_or_else(PoisonError::into_inner).entries.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Key {
        (u64::from(number % 2), [number; 32])
    }

    fn keep(cache: &Arc<Cache<u8>>, number: u8, bytes: usize) {
        cache.begin(key(number)).ok().unwrap().end(&Ok(number), bytes);
    }

    fn has(cache: &Cache<u8>, number: u8) -> bool {
        matches!(cache.look(&key(number)), Known::Outcome(Ok(kept)) if kept == number)
    }

    #[test]
    fn what_was_used_last_is_kept_and_the_bytes_are_bounded() {
        let cache = Cache::new(10 * ENTRY_BYTES);
        for number in 0..3 {
            keep(&cache, number, 2 * ENTRY_BYTES);
        }
        assert!(has(&cache, 0));
        keep(&cache, 3, 2 * ENTRY_BYTES);
        assert_eq!([0, 1, 2, 3].map(|number| has(&cache, number)), [true, false, true, true]);
        keep(&cache, 4, 100 * ENTRY_BYTES);
        assert_eq!(cache.bytes(), 0, "what is larger than all of it is not kept");
        keep(&cache, 5, 0);
        keep(&cache, 6, 0);
        cache.forget(1);
        assert!(!has(&cache, 5) && has(&cache, 6));
        assert_eq!(cache.bytes(), ENTRY_BYTES);
    }

    #[tokio::test]
    async fn who_gives_up_lets_another_begin() {
        let cache = Cache::<u8>::new(1 << 20);
        let first = cache.begin(key(1)).ok().unwrap();
        let Err(Known::Running(mut ends)) = cache.begin(key(1)) else { panic!("two at once") };
        drop(first);
        assert!(ends.changed().await.is_err(), "it is known that the first one ended");
        keep(&cache, 1, 0);
        assert!(has(&cache, 1));
    }
}
