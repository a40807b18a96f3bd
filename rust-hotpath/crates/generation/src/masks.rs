//! What may come next in texts that must parse, found out on a thread beside the loop.
//!
//! Once a token is chosen, its format says on that thread what may follow, while the next step runs. So what a format costs
//! is added to no step; a text whose mask is not there when its logits are waits for it, and others go on.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak, mpsc},
    thread::{self, JoinHandle},
};

use crate::{
    format::{Format, Grammar, Mask},
    planner::SequenceId,
    work::Failure,
};

/// A text that must parse, as its continuation sees it.
#[derive(Debug)]
pub(crate) struct Follower {
    knows: Knows,
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
    asker: Weak<()>,
}

/// A text, and what may come next in it.
#[derive(Debug)]
pub(crate) struct Answer(Result<(Box<dyn Grammar>, Mask), Failure>);

/// The thread. Dropping it lets it end what it is at, and waits for that.
#[derive(Debug)]
pub(crate) struct Masks {
    /// Never holds more than one question of each continuation.
    questions: Option<mpsc::Sender<(SequenceId, Question)>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// A text that begins.
    pub(crate) fn new(format: &Format) -> Self {
        let (text, mask) = (Text::Begins(format.beginning()), format.mask());
        Self { knows: Knows::Next { text, mask }, here: Arc::new(()) }
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
            Knows::Next { text, .. } => Some(Question { text, token, asker: Arc::downgrade(&self.here) }),
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
        let (questions, asked) = mpsc::channel::<(SequenceId, Question)>();
        let thread = thread::Builder::new().name("formats".to_owned()).spawn(move || {
            for (id, question) in asked {
                if question.asker.strong_count() > 0 {
                    tell(id, question.answer());
                }
            }
        })?;
        Ok(Self { questions: Some(questions), thread: Some(thread) })
    }

    /// Asks what may come next.
    pub(crate) fn ask(&self, id: SequenceId, question: Question) {
        if let Some(questions) = &self.questions {
            let _ = questions.send((id, question)); // the thread outlives this, and catches panics
        }
    }
}

impl Drop for Masks {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
