//! What may come next in texts that must parse, found out on a thread beside the loop.
//!
//! Once a token is chosen, its format says on that thread what may follow, while the next step runs. So what a format costs
//! is added to no step; a text whose mask is not there when its logits are waits for it, and others go on. Questions are
//! answered as everything is done: interactive before batch, and keys in turns, so that costly formats are their own
//! key's matter.

use std::{
    io,
    sync::{Arc, Weak},
    thread,
};

use hotpath_fairness::{ByClass, Class, Key, Look, Monitor, Queued, fenced};

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
    key: Key,
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
    key: Key,
    asker: Weak<()>,
}

/// A text, and what may come next in it.
#[derive(Debug)]
pub(crate) struct Answer(Result<(Box<dyn Grammar>, Mask), Failure>);

/// The thread's questions. Dropping this lets it end what it is at, and end.
#[derive(Debug)]
pub(crate) struct Masks(Arc<Monitor<Questions>>);

/// Never more than one of each continuation.
type Questions = ByClass<Asked>;

#[derive(Debug)]
struct Asked(SequenceId, Question);

impl Queued for Asked {
    fn tokens(&self) -> usize {
        1 // what it takes is known afterwards
    }
}

impl Follower {
    /// A text that begins, and whose turn its questions use.
    pub(crate) fn new(format: &Format, class: Class, key: Key) -> Self {
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
        let outcome = fenced(|| {
            let mut text = match self.text {
                Text::Begins(text) => text.fork(),
                Text::GoesOn(text) => text,
            };
            text.push(self.token)?;
            let mask = text.mask()?;
            Ok((text, mask))
        });
        Answer(match outcome {
            Ok(known) => known.map_err(Failure::Format),
            Err(_) => Err(Failure::RunFailed("a format panicked".to_owned())),
        })
    }
}

impl Masks {
    /// Starts the thread, one of those of `shared`, which hands each answer to `tell`.
    pub(crate) fn start<S: Send + 'static>(
        shared: &Arc<Monitor<S>>,
        tell: impl Fn(&Monitor<S>, SequenceId, Answer) + Send + 'static,
    ) -> io::Result<Self> {
        let questions = Arc::new(Monitor::new(Questions::queues(1)));
        let thread = thread::Builder::new().name("formats".to_owned()).stack_size(STACK_BYTES);
        shared.spawn(thread, questions.clone(), move |shared, questions| {
            while let Some(Asked(id, question)) = next(questions) {
                if question.asker.strong_count() > 0 {
                    tell(shared, id, question.answer());
                }
            }
        })?;
        Ok(Self(questions))
    }

    /// Asks what may come next.
    pub(crate) fn ask(&self, id: SequenceId, question: Question) {
        let (class, key) = (question.class, question.key.clone());
        let asked = self.0.change(|questions, _| questions.of_mut(class).push(&key, [Asked(id, question)]));
        asked.unwrap_or_else(|dead| dead.resume());
        self.0.wake();
    }
}

impl Drop for Masks {
    fn drop(&mut self) {
        let _ = self.0.change(|questions, _| *questions = Questions::queues(1)); // nobody waits for their answers
        self.0.close();
    }
}

/// Waits for a question; `None` once there will be no more.
fn next(questions: &Monitor<Questions>) -> Option<Asked> {
    let look = |questions: &mut Questions, _| questions.next_mut().take(0).pop().map_or(Look::Idle, Look::Found);
    questions.take(look).unwrap_or_else(|dead| dead.resume())
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

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
        let tell = move |_: &Monitor<()>, _, answer| told.send(answer).unwrap();
        let masks = Masks::start(&Arc::new(Monitor::new(())), tell).unwrap();
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
