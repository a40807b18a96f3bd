//! A state that callers and the threads that work on it share: a lock, a clock, a way to wait for news, and an end.
//!
//! A panic halfway through a change leaves a state that nobody can trust. Then it is dropped, with everything that waits in
//! it, and whoever asks is told why: nobody waits for ever, and nobody goes on with half of a change.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A shared state. Time is told as that since it was made.
#[derive(Debug)]
pub struct Monitor<S> {
    inner: Mutex<Inner<S>>,
    news: Condvar,
    start: Instant,
}

#[derive(Debug)]
struct Inner<S> {
    state: Result<S, Dead>,
    closing: bool,
}

/// The state is gone, and why: for the log, not for callers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Dead(pub Arc<str>);

/// What a thread finds when it looks for something to do.
#[derive(Debug)]
pub enum Look<T> {
    /// This.
    Found(T),
    /// Nothing before this time, or before there is news.
    Wait(Option<Duration>),
    /// Nothing, and nothing is left.
    Idle,
}

impl<S> Monitor<S> {
    /// A state whose time begins now.
    #[must_use]
    pub fn new(state: S) -> Self {
        let inner = Inner { state: Ok(state), closing: false };
        Self { inner: Mutex::new(inner), news: Condvar::new(), start: Instant::now() }
    }

    /// Changes the state, or looks at it. A panic of `work` is its end.
    ///
    /// # Errors
    /// [`Dead`] when the state is gone.
    pub fn change<T>(&self, work: impl FnOnce(&mut S, Duration) -> T) -> Result<T, Dead> {
        self.attempt(&mut self.lock(), work)
    }

    /// Waits until `look` finds something. `None` once the state is closing and nothing is left.
    ///
    /// # Errors
    /// [`Dead`] when the state is gone.
    pub fn take<T>(&self, mut look: impl FnMut(&mut S, Duration) -> Look<T>) -> Result<Option<T>, Dead> {
        let mut inner = self.lock();
        loop {
            let until = match self.attempt(&mut inner, &mut look)? {
                Look::Found(found) => return Ok(Some(found)),
                Look::Idle if inner.closing => return Ok(None),
                Look::Idle => None,
                Look::Wait(until) => until,
            };
            let wait = until.map_or(Duration::MAX, |until| until.saturating_sub(self.start.elapsed()));
            inner = self.news.wait_timeout(inner, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Starts a thread with what it owns. A panic of `work` is the state's end, of which those who wait are told before what
    /// the thread owns is dropped.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn spawn<C: Send + 'static>(
        self: &Arc<Self>,
        name: String,
        mut owned: C,
        work: impl FnOnce(&Arc<Self>, &mut C) + Send + 'static,
    ) -> io::Result<JoinHandle<()>>
    where
        S: Send + 'static,
    {
        let monitor = self.clone();
        thread::Builder::new().name(name).spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(&monitor, &mut owned))) {
                monitor.end(&message(&*panic));
            }
        })
    }

    /// Ends the state, unless it has ended before.
    pub fn end(&self, cause: &str) {
        self.end_locked(&mut self.lock(), cause);
    }

    /// Why the state is gone, if it is.
    #[must_use]
    pub fn dead(&self) -> Option<Dead> {
        self.lock().state.as_ref().err().cloned()
    }

    /// Lets its threads end once nothing is left.
    pub fn close(&self) {
        self.lock().closing = true;
        self.news.notify_all();
    }

    /// Tells one thread that waits that there is news.
    pub fn wake(&self) {
        self.news.notify_one();
    }

    /// Tells every thread that waits.
    pub fn wake_all(&self) {
        self.news.notify_all();
    }

    /// A moment in the state's time.
    #[must_use]
    pub fn time(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.start)
    }

    fn attempt<T>(&self, inner: &mut Inner<S>, work: impl FnOnce(&mut S, Duration) -> T) -> Result<T, Dead> {
        let state = inner.state.as_mut().map_err(|dead| dead.clone())?;
        let outcome = catch_unwind(AssertUnwindSafe(|| work(state, self.start.elapsed())));
        outcome.map_err(|panic| self.end_locked(inner, &message(&*panic)))
    }

    fn end_locked(&self, inner: &mut Inner<S>, cause: &str) -> Dead {
        if inner.state.is_ok() {
            inner.state = Err(Dead(cause.into())); // drops what waits in it
            self.news.notify_all();
        }
        Dead(cause.into())
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        // A panic of whoever changes the state is caught before the lock could be poisoned by it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dead {
    /// Unwinds as the panic did that ended the state: for a thread that cannot go on without it.
    pub fn resume(self) -> ! {
        resume_unwind(Box::new(self.0.to_string()))
    }
}

/// Runs what may panic and leaves nothing half changed that outlives the panic.
///
/// # Errors
/// The panic's message.
pub fn fenced<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| message(&*panic))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
    format!("panic: {text}")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// Waits on its state's channel when it is told to.
    fn waiting(monitor: &Arc<Monitor<Vec<u32>>>) -> mpsc::Receiver<Result<Option<u32>, Dead>> {
        let (tell, told) = mpsc::channel();
        let look = |state: &mut Vec<u32>, _| state.pop().map_or(Look::Idle, Look::Found);
        let work = move |monitor: &Arc<Monitor<Vec<u32>>>, (): &mut ()| tell.send(monitor.take(look)).unwrap();
        monitor.spawn("waits".to_owned(), (), work).unwrap();
        told
    }

    #[test]
    fn who_waits_is_told_of_news_and_of_the_end() {
        let monitor = Arc::new(Monitor::new(Vec::new()));
        let told = waiting(&monitor);
        monitor.change(|state, _| state.push(7)).unwrap();
        monitor.wake();
        assert_eq!(told.recv_timeout(LIMIT).unwrap(), Ok(Some(7)));
        let told = waiting(&monitor);
        monitor.close();
        assert_eq!(told.recv_timeout(LIMIT).unwrap(), Ok(None));
    }

    #[test]
    fn a_panic_halfway_through_a_change_ends_the_state_for_everybody() {
        let monitor = Arc::new(Monitor::new(vec![]));
        let told = waiting(&monitor);
        let dead = Dead("panic: halfway".into());
        let outcome: Result<(), Dead> = monitor.change(|state, _| {
            state.push(1); // nobody may see this
            panic!("halfway")
        });
        assert_eq!(outcome, Err(dead.clone()));
        assert_eq!(told.recv_timeout(LIMIT).unwrap(), Err(dead.clone()), "who waits is woken");
        assert_eq!(monitor.change(|state, _| state.len()), Err(dead.clone()));
        assert_eq!(monitor.dead(), Some(dead));
    }

    #[test]
    fn a_thread_that_panics_ends_the_state_before_it_drops_what_it_owns() {
        /// Says why the state is gone at the moment of its drop.
        struct Owned(Arc<Monitor<Vec<u32>>>, mpsc::Sender<Option<Dead>>);
        impl Drop for Owned {
            fn drop(&mut self) {
                let _ = self.1.send(self.0.dead());
            }
        }
        let monitor = Arc::new(Monitor::new(vec![]));
        let (tell, told) = mpsc::channel();
        let owned = Owned(monitor.clone(), tell);
        monitor.spawn("panics".to_owned(), owned, |_, _| panic!("as a fault would")).unwrap();
        assert_eq!(told.recv_timeout(LIMIT).unwrap(), Some(Dead("panic: as a fault would".into())));
        monitor.end("later");
        assert_eq!(monitor.dead(), Some(Dead("panic: as a fault would".into())), "the first cause stands");
    }
}
