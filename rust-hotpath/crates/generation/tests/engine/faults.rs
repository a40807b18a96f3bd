//! What panics is its own request's error; a loop that dies all the same tells everybody, and why.

use std::{ops::Range, sync::Arc, time::Duration};

use hotpath_generation::{Class, Engine, Event, Failure, Observer, Ran, Sampling, Stop, Stream, Work};
use hotpath_runtime::{Decode, Extent, RunError, Step};
use hotpath_testing::tiny_decoder;

use crate::{Silent, solo::Model};

const LIMIT: Duration = Duration::from_secs(60);

/// Panics whenever it is told of a run.
struct Panics;

impl Observer for Panics {
    fn ran(&self, _: &Ran) {
        panic!("an observer that panics");
    }
}

/// A session that gives no logits of a prompt that begins with [`SHORT`], and that dies of giving memory back if it is to.
struct Faulty {
    session: Box<dyn Decode>,
    keeps_rows: bool,
}

const SHORT: u32 = 9;

impl Decode for Faulty {
    fn extent(&self) -> Extent {
        self.session.extent()
    }

    fn decode(&mut self, first: usize, steps: &[Step]) -> Result<&[f32], RunError> {
        self.session.decode(first, steps)
    }

    fn prefill(&mut self, row: usize, length: usize, tokens: &[u32], logits: Range<usize>) -> Result<&[f32], RunError> {
        let logits = self.session.prefill(row, length, tokens, logits)?;
        Ok(if tokens[0] == SHORT { &logits[..1] } else { logits })
    }

    fn copy_row(&mut self, from: usize, to: usize, tokens: usize) {
        self.session.copy_row(from, to, tokens);
    }

    fn release_row(&mut self, row: usize) {
        assert!(!self.keeps_rows, "a row that stays");
        self.session.release_row(row);
    }
}

fn work(first: u32, max_tokens: usize) -> Work {
    Work {
        class: Class::Interactive,
        key: format!("key-{first}").into(), // one key alone would not have all rows
        deadline: None,
        prompt: vec![first, 3],
        max_tokens,
        choices: 1,
        sampling: Sampling::default(),
        stop: Stop { ignore_eos: true, ..Stop::default() },
        format: None,
    }
}

async fn last(mut stream: Stream) -> Event {
    loop {
        let next = tokio::time::timeout(LIMIT, stream.next()).await;
        match next.expect("nobody tells it").unwrap() {
            Event::Started(_) | Event::Delta(_) => (),
            end => return end,
        }
    }
}

fn start(keeps_rows: bool, observer: impl Observer + 'static) -> Engine {
    let model = Model::new(tiny_decoder(), 32, 256);
    let settings = model.settings(2, 900, 4);
    let session = Box::new(model.session(settings.limits.rows()));
    Engine::start(Box::new(Faulty { session, keeps_rows }), settings, Arc::new(observer)).unwrap()
}

#[tokio::test]
async fn a_run_that_gives_too_little_is_its_requests_error_and_disturbs_no_neighbour() {
    let engine = start(false, Silent);
    let neighbour = engine.submit(work(1, 40)).unwrap();
    let faulty = last(engine.submit(work(SHORT, 40)).unwrap()).await;
    assert!(matches!(&faulty, Event::Failed(Failure::RunFailed(cause)) if cause.contains("1 logits")), "{faulty:?}");
    assert!(matches!(last(neighbour).await, Event::Done(done) if done.completion_tokens == 40));
    assert!(matches!(last(engine.submit(work(3, 4)).unwrap()).await, Event::Done(_)), "the loop lives");
    assert_eq!(engine.dead(), None);
    engine.close();
}

#[tokio::test]
async fn a_panic_of_the_observer_is_nobodys_error() {
    let engine = start(false, Panics);
    assert!(matches!(last(engine.submit(work(1, 4)).unwrap()).await, Event::Done(_)));
    assert!(matches!(last(engine.submit(work(2, 4)).unwrap()).await, Event::Done(_)), "the loop lives");
    engine.close();
}

#[tokio::test]
async fn a_loop_that_dies_ends_what_runs_what_waits_and_what_comes_later_and_says_why() {
    let engine = start(true, Silent);
    // The first one's row is released when it has ended; others run and wait then.
    let streams: Vec<Stream> = [4, 200, 200, 200].map(|tokens| engine.submit(work(1, tokens)).unwrap()).into();
    let died = Event::Failed(Failure::Died("panic: a row that stays".to_owned()));
    for stream in streams.into_iter().skip(1) {
        assert_eq!(last(stream).await, died);
    }
    assert_eq!(last(engine.submit(work(3, 4)).unwrap()).await, died);
    assert_eq!(engine.probe(&[1, 2]).await, Err(Failure::Died("panic: a row that stays".to_owned())));
    assert_eq!(engine.dead().as_deref(), Some("panic: a row that stays"));
    engine.close();
}

/// Readers that do not read hold every place, so that nothing runs and nobody else is admitted.
#[tokio::test]
async fn a_sign_of_life_waits_behind_nobody() {
    let engine = start(false, Silent);
    let unread: Vec<Stream> = (1..3).map(|first| engine.submit(work(first, 200)).unwrap()).collect();
    let waits = engine.submit(work(3, 200)).unwrap(); // nothing small, which would find a place
    while engine.load().parked < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(tokio::time::timeout(LIMIT, engine.probe(&[1, 2, 3])).await, Ok(Ok(())));
    assert_eq!(engine.load().queued_requests, 1, "there was no place");
    drop(unread);
    assert!(matches!(last(waits).await, Event::Done(_)));
    engine.close();
}
