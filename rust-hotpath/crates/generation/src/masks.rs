//! What may come next in texts that must parse, found out on a thread beside the loop.
//!
//! Once a token is chosen, its format says on that thread what may follow, while the next step runs. So what a format costs
//! is added to no step; a text whose mask is not there when its logits are waits for it, and others go on. Questions are
//! answered as everything is done: interactive before batch, and keys in turns, so that costly formats are their own
//! key's matter.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, JoinHandle},
};

use hotpath_fairness::{ByClass, Class, Queued};

use crate::{
    format::{Format, Grammar, Mask},
    planner::SequenceId,
    work::Failure,
};

/// Stack of the thread, of which a text takes what it needs: more than that on which its format was tried out.
const STACK_BYTES: usize = 128 << 20;

/// A text that must parse, as its continuation sees it.
#[derive(Debug)]
pub(crate) struct Follower {
    knows: Knows,
    class: Class,
    key: Arc<str>,
    /// The thread does nothing for a follower that is gone.
    here: Arc<()>,
}

#[derive(Debug)]
enum Knows {
    /// What may come next.
    Next { text: Text, mask: Mask },
    /// That it is being found out.
    Nothing,
}

#[derive(Debug)]
enum Text {
    /// Empty, and shared with other continuations.
    Begins(Arc<dyn Grammar>),
    GoesOn(Box<dyn Grammar>),
}

/// A text and the token that was chosen for it.
#[derive(Debug)]
pub(crate) struct Question {
    text: Text,
    token: u32,
    class: Class,
    key: Arc<str>,
    asker: Weak<()>,
}

/// A text, and what may come next in it.
#[derive(Debug)]
pub(crate) struct Answer(Result<(Box<dyn Grammar>, Mask), Failure>);

/// The thread. Dropping it lets it end what it is at, and waits for that.
#[derive(Debug)]
pub(crate) struct Masks {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    questions: Mutex<Questions>,
    came: Condvar,
}

/// Never holds more than one question of each continuation.
#[derive(Debug)]
struct Questions {
    asked: ByClass<Asked>,
    closed: bool,
}

#[derive(Debug)]
struct Asked(SequenceId, Question);

impl Queued for Asked {
    fn tokens(&self) -> usize {
        1 // what it takes is known afterwards
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Questions> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a question; `None` once there will be no more.
    fn next(&self) -> Option<Asked> {
        let idle = |questions: &mut Questions| !questions.closed && questions.asked.is_empty();
        let waited = self.came.wait_while(self.lock(), idle);
        let mut questions = waited.unwrap_or_else(PoisonError::into_inner);
        if questions.closed { None } else { questions.asked.next_mut().take(0).pop() }
    }
}

impl Follower {
    /// A text that begins, and whose turn its questions use.
    pub(crate) fn new(format: &Format, class: Class, key: Arc<str>) -> Self {
        let (text, mask) = (Text::Begins(format.beginning()), format.mask());
        Self { knows: Knows::Next { text, mask }, class, key, here: Arc::new(()) }
    }

    /// Which tokens may come next; `None` as long as that is not known.
    pub(crate) fn mask(&self) -> Option<&Mask> {
        match &self.knows {
            Knows::Next { mask, .. } => Some(mask),
            Knows::Nothing => None,
        }
    }

    /// What to ask after a token was chosen.
    pub(crate) fn ask(&mut self, token: u32) -> Option<Question> {
        match std::mem::replace(&mut self.knows, Knows::Nothing) {
            Knows::Next { text, .. } => {
                let (class, key, asker) = (self.class, self.key.clone(), Arc::downgrade(&self.here));
                Some(Question { text, token, class, key, asker })
            }
            Knows::Nothing => None,
        }
    }

    /// Takes what came of it.
    pub(crate) fn hear(&mut self, answer: Answer) -> Result<(), Failure> {
        let (text, mask) = answer.0?;
        self.knows = Knows::Next { text: Text::GoesOn(text), mask };
        Ok(())
    }
}

impl Question {
    fn answer(self) -> Answer {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut text = match self.text {
                Text::Begins(text) => text.fork(),
                Text::GoesOn(text) => text,
            };
            text.push(self.token)?;
            let mask = text.mask()?;
            Ok((text, mask))
        }));
        Answer(match outcome {
            Ok(Ok(known)) => Ok(known),
            Ok(Err(problem)) => Err(Failure::Format(problem)),
            Err(_) => Err(Failure::RunFailed("a format panicked".to_owned())),
        })
    }
}

impl Masks {
    /// Starts the thread, which hands each answer to `tell`.
    pub(crate) fn start(tell: impl Fn(SequenceId, Answer) + Send + 'static) -> io::Result<Self> {
        let questions = Questions { asked: ByClass::queues(1), closed: false };
        let shared = Arc::new(Shared { questions: Mutex::new(questions), came: Condvar::new() });
        let asked = shared.clone();
        let thread = thread::Builder::new().name("formats".to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn(move || {
            while let Some(Asked(id, question)) = asked.next() {
                if question.asker.strong_count() > 0 {
                    tell(id, question.answer());
                }
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Asks what may come next.
    pub(crate) fn ask(&self, id: SequenceId, question: Question) {
        let (class, key) = (question.class, question.key.clone());
        self.shared.lock().asked.of_mut(class).push(&key, [Asked(id, question)]);
        self.shared.came.notify_one();
    }
}

impl Drop for Masks {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.came.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::planner::RequestId;

    /// Tells of each token that it is asked about, and waits for leave to answer.
    #[derive(Debug, Clone)]
    struct Telling {
        asked: mpsc::Sender<u32>,
        leave: Arc<Mutex<mpsc::Receiver<()>>>,
    }

    impl Grammar for Telling {
        fn push(&mut self, token: u32) -> Result<(), String> {
            self.asked.send(token).unwrap();
            self.leave.lock().unwrap().recv().unwrap();
            Ok(())
        }

        fn mask(&mut self) -> Result<Mask, String> {
            Ok(Arc::from([u32::MAX]))
        }

        fn fork(&self) -> Box<dyn Grammar> {
            Box::new(self.clone())
        }
    }

    #[test]
    fn keys_ask_in_turns_and_interactive_texts_before_batch() {
        let ((asked, order), (go, leave)) = (mpsc::channel(), mpsc::channel());
        let format = Format::new(Box::new(Telling { asked, leave: Arc::new(Mutex::new(leave)) })).unwrap();
        let (told, answers) = mpsc::channel();
        let masks = Masks::start(move |_, answer| told.send(answer).unwrap()).unwrap();
        let (interactive, batch) = (Class::Interactive, Class::Batch);
        let texts = [(batch, "c"), (interactive, "a"), (interactive, "a"), (interactive, "a"), (interactive, "b")];
        let mut followers = texts.map(|(class, key)| Follower::new(&format, class, key.into()));
        let nobody = SequenceId { request: RequestId::ANY, choice: 0 };
        let mut ask = |text: usize| masks.ask(nobody, followers[text].ask(text.try_into().unwrap()).unwrap());
        ask(1);
        let mut came = vec![order.recv().unwrap()]; // it is at work, and the others wait
        [0, 2, 3, 4].into_iter().for_each(&mut ask);
        for _ in 0..texts.len() {
            go.send(()).unwrap();
            answers.recv().unwrap();
            came.extend(order.try_iter());
        }
        came.extend(order.try_iter());
        assert_eq!(came, [1, 2, 4, 3, 0]);
    }
}
