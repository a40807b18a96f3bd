//! Formats that take their time, or fail: they are their own texts' matter.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use hotpath_generation::{Ahead, Class, Engine, Event, Failure, Format, Grammar, Sampling, Stop, Stream, Work};
use hotpath_testing::tiny_decoder;

use crate::{
    Silent,
    solo::{Model, Random},
};

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Every token; more words than any vocabulary here.
fn everything() -> Ahead {
    Ahead { forced: Vec::new(), mask: vec![u32::MAX; 4096].into(), likely: None }
}

/// Allows every token, after a while that depends on chance: what is said is what would be said without it.
#[derive(Debug)]
pub struct Dawdling(pub u64);

impl Grammar for Dawdling {
    fn push(&mut self, token: u32) -> Result<(), String> {
        self.0 = self.0.wrapping_add(u64::from(token));
        Ok(())
    }

    fn ahead(&mut self) -> Result<Ahead, String> {
        let micros = u64::try_from(Random(self.0).below(3000)).unwrap();
        let until = Instant::now() + Duration::from_micros(micros.saturating_sub(1500));
        while Instant::now() < until {
            std::thread::yield_now();
        }
        Ok(everything())
    }

    fn fork(&self) -> Box<dyn Grammar> {
        Box::new(Self(self.0))
    }
}

/// What a gated format does after its first token, once its gate is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Allow,
    Fail,
    Panic,
}

/// A gate that formats wait at.
#[derive(Debug, Default)]
struct Gate {
    open: Mutex<bool>,
    opens: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opens.notify_all();
    }

    fn pass(&self) {
        let waiting = self.opens.wait_timeout_while(self.open.lock().unwrap(), LIMIT, |open| !*open);
        assert!(!waiting.unwrap().1.timed_out(), "nobody opens");
    }
}

#[derive(Debug, Clone)]
struct Gated {
    gate: Arc<Gate>,
    does: Does,
    begun: bool,
}

impl Gated {
    fn format(gate: &Arc<Gate>, does: Does) -> Format {
        Format::new(Box::new(Self { gate: gate.clone(), does, begun: false })).unwrap()
    }
}

impl Grammar for Gated {
    fn push(&mut self, _: u32) -> Result<(), String> {
        self.begun = true;
        Ok(())
    }

    fn ahead(&mut self) -> Result<Ahead, String> {
        if self.begun {
            self.gate.pass();
            match self.does {
                Does::Allow => (),
                Does::Fail => return Err("costs too much".to_owned()),
                Does::Panic => panic!("a format that panics"),
            }
        }
        Ok(everything())
    }

    fn fork(&self) -> Box<dyn Grammar> {
        Box::new(self.clone())
    }
}

fn engine(model: &Model) -> Engine {
    let settings = model.settings(4, 1200, 4); // of which one key has three at a time
    Engine::start(Box::new(model.session(settings.limits.slots())), settings, Arc::new(Silent)).unwrap()
}

fn work(first: u32, choices: usize, format: Option<Format>) -> Work {
    Work {
        class: Class::Interactive,
        key: "a".into(),
        deadline: None,
        prompt: (first..first + 9).collect(),
        max_tokens: 8,
        choices,
        sampling: Sampling::default(),
        stop: Stop { ignore_eos: true, ..Stop::default() },
        format,
    }
}

/// Reads a stream to its end: the tokens of its first choice, and its last event.
async fn hear(mut stream: Stream) -> (Vec<u32>, Event) {
    let mut tokens = Vec::new();
    let hearing = async {
        loop {
            match stream.next().await.expect("a stream ends with an event that says so") {
                Event::Delta(delta) if delta.choice == 0 => tokens.push(delta.token.token),
                Event::Started(_) | Event::Delta(_) => (),
                last => return last,
            }
        }
    };
    let last = tokio::time::timeout(LIMIT, hearing).await.expect("it is held up");
    (tokens, last)
}

/// Reads on to a stream's first token.
async fn first_token(stream: &mut Stream) {
    assert!(matches!(stream.next().await, Some(Event::Started(_))));
    assert!(matches!(stream.next().await, Some(Event::Delta(_))));
}

async fn tokens(stream: Stream) -> Vec<u32> {
    let (tokens, last) = hear(stream).await;
    assert!(matches!(last, Event::Done(_)), "{last:?}");
    tokens
}

/// Waits until a load is as expected.
async fn until(engine: &Engine, holds: impl Fn(&hotpath_generation::Load) -> bool) {
    let looking = async {
        while !holds(&engine.load()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, looking).await.unwrap_or_else(|_| panic!("{:?}", engine.load()));
}

#[tokio::test]
async fn a_format_that_takes_its_time_holds_up_nobody_else_and_changes_nothing() {
    let model = Model::new(tiny_decoder(), 32, 256);
    let engine = engine(&model);
    let alone = [
        tokens(engine.submit(work(20, 1, None)).unwrap()).await,
        tokens(engine.submit(work(50, 1, None)).unwrap()).await,
    ];
    let gate = Arc::new(Gate::default());
    let mut slow = engine.submit(work(20, 2, Some(Gated::format(&gate, Does::Allow)))).unwrap();
    first_token(&mut slow).await; // it needs no wait
    for _ in 0..3 {
        let other = engine.submit(work(50, 1, None)).unwrap();
        assert_eq!(tokens(other).await, alone[1], "another is told all of its text meanwhile");
    }
    assert_eq!((engine.load().parked, engine.load().decoding), (2, 0));
    gate.open();
    let (rest, last) = hear(slow).await;
    assert_eq!(rest, alone[0][1..]);
    assert!(matches!(last, Event::Done(done) if done.completion_tokens == 16), "{last:?}");
    engine.close();
}

#[tokio::test]
async fn who_goes_away_while_its_format_is_asked_is_free_at_once_and_the_thread_ends_with_the_engine() {
    let model = Model::new(tiny_decoder(), 32, 256);
    let engine = engine(&model);
    let gate = Arc::new(Gate::default());
    let mut slow = engine.submit(work(20, 1, Some(Gated::format(&gate, Does::Allow)))).unwrap();
    first_token(&mut slow).await;
    drop(slow);
    until(&engine, |load| load.reserved_tokens == 0).await;
    gate.open();
    engine.close();
    assert_eq!(Arc::strong_count(&gate), 1, "somebody still has the format");
}

#[tokio::test]
async fn nothing_is_held_for_who_went_away_while_queued() {
    let model = Model::new(tiny_decoder(), 32, 256);
    let settings = model.settings(1, 900, 4);
    let engine = Engine::start(Box::new(model.session(settings.limits.slots())), settings, Arc::new(Silent)).unwrap();
    let mut first = engine.submit(Work { max_tokens: 100, ..work(20, 1, None) }).unwrap();
    assert!(first.next().await.is_some());
    let gate = Arc::new(Gate::default());
    let queued = engine.submit(work(50, 1, Some(Gated::format(&gate, Does::Allow)))).unwrap();
    for _ in 0..20 {
        assert!(matches!(first.next().await, Some(Event::Delta(_)))); // the loop has seen it by now
    }
    assert_eq!(engine.load().queued_requests, 1);
    drop(queued);
    tokens(first).await;
    until(&engine, |load| load.reserved_tokens == 0 && Arc::strong_count(&gate) == 1).await;
    engine.close();
}

#[tokio::test]
async fn a_format_that_fails_ends_its_own_text_and_says_so() {
    let model = Model::new(tiny_decoder(), 32, 256);
    let engine = engine(&model);
    let gate = Arc::new(Gate::default());
    gate.open();
    let with = |does| engine.submit(work(20, 1, Some(Gated::format(&gate, does)))).unwrap();
    let (failing, panicking, fine) = (with(Does::Fail), with(Does::Panic), with(Does::Allow));
    assert_eq!(hear(failing).await.1, Event::Failed(Failure::Format("costs too much".to_owned())));
    assert!(matches!(hear(panicking).await.1, Event::Failed(Failure::RunFailed(_))));
    assert_eq!(tokens(fine).await.len(), 8);
    until(&engine, |load| load.reserved_tokens == 0).await;
    engine.close();
}
