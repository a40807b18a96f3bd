//! What comes next in texts that must parse, found out on a thread beside the loop.
//!
//! Once a token is chosen, its format says on that thread what follows, while the next step runs: tokens of which there is no
//! choice, and which ones may come behind them. So what a format costs
//! is added to no step; a text whose mask is not there when its logits are waits for it, and others go on. Requests are
//! answered as everything is done: interactive before batch, and keys in turns, so that costly formats are their own
//! key's matter.

use std::{
    borrow::Cow,
    collections::VecDeque,
    io,
    sync::{Arc, Weak},
    thread,
};

use hotpath_fairness::{ByClass, Class, Key, Look, Monitor, Queued, fenced};

use crate::{
    format::{Ahead, Format, Grammar, Mask},
    planner::SequenceId,
    work::Failure,
};

/// Stack of the thread, of which a text takes what it needs: more than that on which its format was tried out.
const STACK_BYTES: usize = 128 << 20;

/// A text that must parse, as its continuation sees it.
#[derive(Debug)]
pub(crate) struct Constraint {
    state: MaskState,
    class: Class,
    key: Key,
    /// The thread does nothing for a constraint that is gone.
    here: Arc<()>,
}

#[derive(Debug)]
enum MaskState {
    /// What comes next: `forced` tokens, which the text has already, and behind them one of the mask's.
    Next { text: Text, forced: VecDeque<u32>, mask: Mask, likely: Option<u32> },
    /// That it is being found out.
    Nothing,
}

impl MaskState {
    fn next(text: Text, ahead: Ahead) -> Self {
        Self::Next { text, forced: ahead.forced.into(), mask: ahead.mask, likely: ahead.likely }
    }
}

#[derive(Debug)]
enum Text {
    /// Empty, and shared with other continuations.
    Begins(Arc<dyn Grammar>),
    GoesOn(Box<dyn Grammar>),
}

/// A text and the token that was chosen for it.
#[derive(Debug)]
pub(crate) struct MaskRequest {
    text: Text,
    token: u32,
    class: Class,
    key: Key,
    asker: Weak<()>,
}

/// A text, and what comes next in it.
#[derive(Debug)]
pub(crate) struct MaskReply(Result<(Box<dyn Grammar>, Ahead), Failure>);

/// The thread's queue. Dropping this lets it end what it is at, and end.
#[derive(Debug)]
pub(crate) struct Masks(Arc<Monitor<MaskQueue>>);

/// Never more than one of each continuation.
type MaskQueue = ByClass<QueuedRequest>;

#[derive(Debug)]
struct QueuedRequest(SequenceId, MaskRequest);

impl Queued for QueuedRequest {
    fn cost(&self) -> usize {
        1 // what it takes is known afterwards
    }
}

impl Constraint {
    /// A text that begins, and whose turn its requests use.
    pub(crate) fn new(format: &Format, class: Class, key: Key) -> Self {
        let state = MaskState::next(Text::Begins(format.beginning()), format.ahead());
        Self { state, class, key, here: Arc::new(()) }
    }

    /// Which tokens may come next; `None` as long as that is not known.
    pub(crate) fn mask(&self) -> Option<Cow<'_, [u32]>> {
        match &self.state {
            MaskState::Next { forced, mask, .. } => {
                Some(forced.front().map_or(Cow::Borrowed(&**mask), |token| Cow::Owned(alone(*token))))
            }
            MaskState::Nothing => None,
        }
    }

    /// At most so many tokens that come next, as far as that is known, and nearly so.
    pub(crate) fn draft(&self, most: usize) -> Vec<u32> {
        match &self.state {
            MaskState::Next { forced, likely, .. } => forced.iter().chain(likely).copied().take(most).collect(),
            MaskState::Nothing => Vec::new(),
        }
    }

    /// What to ask after a token was chosen, unless it is known what comes next.
    pub(crate) fn ask(&mut self, token: u32) -> Option<MaskRequest> {
        if let MaskState::Next { forced, .. } = &mut self.state
            && forced.pop_front().is_some()
        {
            return None;
        }
        match std::mem::replace(&mut self.state, MaskState::Nothing) {
            MaskState::Next { text, .. } => {
                let (class, key, asker) = (self.class, self.key.clone(), Arc::downgrade(&self.here));
                Some(MaskRequest { text, token, class, key, asker })
            }
            MaskState::Nothing => None,
        }
    }

    /// Takes what came of it.
    pub(crate) fn receive(&mut self, reply: MaskReply) -> Result<(), Failure> {
        let (text, ahead) = reply.0?;
        self.state = MaskState::next(Text::GoesOn(text), ahead);
        Ok(())
    }
}

impl MaskRequest {
    fn reply(self) -> MaskReply {
        let outcome = fenced(|| {
            let mut text = match self.text {
                Text::Begins(text) => text.fork(),
                Text::GoesOn(text) => text,
            };
            text.push(self.token)?;
            let ahead = text.ahead()?;
            Ok((text, ahead))
        });
        MaskReply(match outcome {
            Ok(known) => known.map_err(Failure::Format),
            Err(_) => Err(Failure::RunFailed("a format panicked".to_owned())),
        })
    }
}

impl Masks {
    /// Starts the thread, one of those of `shared`, which hands each reply to `tell`.
    pub(crate) fn start<S: Send + 'static>(
        shared: &Arc<Monitor<S>>,
        tell: impl Fn(&Monitor<S>, SequenceId, MaskReply) + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Arc::new(Monitor::new(MaskQueue::queues(1)));
        let thread = thread::Builder::new().name("formats".to_owned()).stack_size(STACK_BYTES);
        shared.spawn(thread, queue.clone(), move |shared, queue| {
            while let Some(QueuedRequest(id, request)) = next(queue) {
                if request.asker.strong_count() > 0 {
                    tell(shared, id, request.reply());
                }
            }
        })?;
        Ok(Self(queue))
    }

    /// Asks what may come next.
    pub(crate) fn ask(&self, id: SequenceId, request: MaskRequest) {
        let (class, key) = (request.class, request.key.clone());
        let asked = self.0.change(|queue, _| queue.of_mut(class).push(&key, [QueuedRequest(id, request)]));
        asked.unwrap_or_else(|dead| dead.resume());
        self.0.wake();
    }
}

impl Drop for Masks {
    fn drop(&mut self) {
        let _ = self.0.change(|queue, _| *queue = MaskQueue::queues(1)); // nobody waits for their replies
        self.0.close();
    }
}

/// The mask of one token.
fn alone(token: u32) -> Vec<u32> {
    let mut mask = vec![0; token as usize / 32 + 1];
    mask[token as usize / 32] = 1 << (token % 32);
    mask
}

/// Waits for a request; `None` once there will be no more.
fn next(queue: &Monitor<MaskQueue>) -> Option<QueuedRequest> {
    let look = |queue: &mut MaskQueue, _| queue.next_mut().take(0).pop().map_or(Look::Idle, Look::Found);
    queue.take(look).unwrap_or_else(|dead| dead.resume())
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;
    use crate::planner::RequestId;

    /// Tells of each token that it is asked about, and waits for leave to reply.
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

        fn ahead(&mut self) -> Result<Ahead, String> {
            Ok(Ahead { forced: Vec::new(), mask: Arc::from([u32::MAX]), likely: None })
        }

        fn fork(&self) -> Box<dyn Grammar> {
            Box::new(self.clone())
        }
    }

    /// Three tokens must come, and then another one.
    #[derive(Debug, Clone)]
    struct Forcing;

    impl Grammar for Forcing {
        fn push(&mut self, _: u32) -> Result<(), String> {
            Ok(())
        }

        fn ahead(&mut self) -> Result<Ahead, String> {
            Ok(Ahead { forced: vec![3, 70, 5], mask: Arc::from([0b1001]), likely: Some(3) })
        }

        fn fork(&self) -> Box<dyn Grammar> {
            Box::new(self.clone())
        }
    }

    #[test]
    fn what_must_come_is_not_asked_about() {
        let format = Format::new(Box::new(Forcing)).unwrap();
        let mut constraint = Constraint::new(&format, Class::Interactive, "a".into());
        for (round, token) in [3, 70, 5].into_iter().enumerate() {
            assert_eq!(constraint.draft(9), [&[3, 70, 5][round..], &[3]].concat());
            assert_eq!(constraint.draft(1), [token]);
            let mask = constraint.mask().unwrap();
            assert_eq!((mask.len(), mask[mask.len() - 1]), (token as usize / 32 + 1, 1 << (token % 32)));
            assert!(mask[..mask.len() - 1].iter().all(|word| *word == 0));
            assert!(constraint.ask(token).is_none());
        }
        assert_eq!(constraint.draft(9), [3]);
        assert_eq!(&*constraint.mask().unwrap(), [0b1001]);
        let reply = constraint.ask(0).unwrap().reply();
        assert!(constraint.mask().is_none() && constraint.draft(9).is_empty(), "nothing is known");
        constraint.receive(reply).unwrap();
        assert_eq!(constraint.draft(9), [3, 70, 5, 3]);
    }

    #[test]
    fn keys_ask_in_turns_and_interactive_texts_before_batch() {
        let ((asked, order), (go, leave)) = (mpsc::channel(), mpsc::channel());
        let format = Format::new(Box::new(Telling { asked, leave: Arc::new(Mutex::new(leave)) })).unwrap();
        let (replied, replies) = mpsc::channel();
        let tell = move |_: &Monitor<()>, _, reply| replied.send(reply).unwrap();
        let masks = Masks::start(&Arc::new(Monitor::new(())), tell).unwrap();
        let (interactive, batch) = (Class::Interactive, Class::Batch);
        let texts = [(batch, "c"), (interactive, "a"), (interactive, "a"), (interactive, "a"), (interactive, "b")];
        let mut constraints = texts.map(|(class, key)| Constraint::new(&format, class, key.into()));
        let nobody = SequenceId { request: RequestId::ANY, choice: 0 };
        let mut ask = |text: usize| masks.ask(nobody, constraints[text].ask(text.try_into().unwrap()).unwrap());
        ask(1);
        let mut came = vec![order.recv().unwrap()]; // it is at work, and the others wait
        [0, 2, 3, 4].into_iter().for_each(&mut ask);
        for _ in 0..texts.len() {
            go.send(()).unwrap();
            replies.recv().unwrap();
            came.extend(order.try_iter());
        }
        came.extend(order.try_iter());
        assert_eq!(came, [1, 2, 4, 3, 0]);
    }
}
