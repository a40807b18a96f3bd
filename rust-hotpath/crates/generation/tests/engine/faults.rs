//! What panics is its own request's error; a loop that dies all the same tells everybody, and why.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hotpath_generation::{Class, Engine, Event, Failure, Observer, Ran, Sampling, Stop, Stream, Work};
use hotpath_runtime::{Decode, Extent, Row, RunError};
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

/// A session that fails with a run in which [`BAD`] is, and with one that has a draft behind [`ALONE`], and gives too few logits of one in which [`SHORT`] is; and that dies of
/// giving memory back if it is to.
struct Faulty {
    session: Box<dyn Decode>,
    keeps_slots: bool,
}

const SHORT: u32 = 9;
const BAD: u32 = 8;
const ALONE: u32 = 7;

impl Decode for Faulty {
    fn extent(&self) -> Extent {
        self.session.extent()
    }

    fn run(&mut self, rows: &[Row], logits: &[usize]) -> Result<&[f32], RunError> {
        let has = |token| rows.iter().any(|row| row.position == 0 && row.token == token);
        if has(BAD) {
            return Err(RunError("a bad token".to_owned()));
        }
        if rows.windows(2).any(|pair| pair[0].slot == pair[1].slot && pair.iter().all(|row| row.token == ALONE)) {
            return Err(RunError("a draft".to_owned()));
        }
        let found = self.session.run(rows, logits)?;
        Ok(if has(SHORT) { &found[..1] } else { found })
    }

    fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        self.session.copy(from, to, tokens);
    }

    fn release(&mut self, slot: usize) {
        assert!(!self.keeps_slots, "a slot that stays");
        self.session.release(slot);
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

fn start(keeps_slots: bool, observer: impl Observer + 'static) -> Engine {
    let model = Model::new(tiny_decoder(), 32, 256);
    let settings = model.settings(2, 900, 4);
    let session = Box::new(model.session(settings.limits.slots()));
    Engine::start(Box::new(Faulty { session, keeps_slots }), settings, Arc::new(observer)).unwrap()
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

/// Of all that are in one run the one at fault fails, whichever it is, and what others say is what they would say without it.
#[tokio::test]
async fn a_run_that_fails_runs_again_in_parts_until_what_is_at_fault_is_alone() {
    let model = Model::new(tiny_decoder(), 32, 256);
    let settings = model.settings(8, 4000, 64);
    let session = Box::new(model.session(settings.limits.slots()));
    let engine = Engine::start(Box::new(Faulty { session, keeps_slots: false }), settings, Arc::new(Silent)).unwrap();
    let tokens = async |mut stream: Stream| {
        let mut tokens = Vec::new();
        while let Some(event) = stream.next().await {
            match event {
                Event::Delta(delta) => tokens.push(delta.token.token),
                Event::Failed(failure) => return Err(failure),
                _ => (),
            }
        }
        Ok(tokens)
    };
    let mut alone = Vec::new();
    for first in 1..5 {
        alone.push(tokens(engine.submit(work(first, 30)).unwrap()).await.unwrap());
    }
    for place in 0..5 {
        let mut firsts = vec![1, 2, 3, 4];
        firsts.insert(place, BAD);
        let streams: Vec<Stream> = firsts.iter().map(|first| engine.submit(work(*first, 30)).unwrap()).collect();
        for (first, stream) in firsts.into_iter().zip(streams) {
            match tokens(stream).await {
                Ok(tokens) => assert_eq!(tokens, alone[first as usize - 1]),
                Err(failure) => {
                    assert_eq!((first, failure), (BAD, Failure::RunFailed("a bad token".to_owned())));
                }
            }
        }
    }
    engine.close();
}

/// Counts runs that fail.
struct Failures(Arc<AtomicUsize>);

impl Observer for Failures {
    fn ran(&self, ran: &Ran) {
        self.0.fetch_add(usize::from(ran.error.is_some()), Ordering::Relaxed);
    }
}

/// A draft is what a stream can do without.
#[tokio::test]
async fn a_run_that_fails_with_a_draft_runs_again_without_it() {
    let failures = Arc::new(AtomicUsize::new(0));
    let engine = start(false, Failures(failures.clone()));
    let repeats = Sampling { logit_bias: vec![(ALONE, 100.0)], ..Sampling::default() };
    let repeats = Work { sampling: repeats, ..work(1, 40) };
    let last = last(engine.submit(repeats).unwrap()).await;
    assert!(matches!(&last, Event::Done(done) if done.completion_tokens == 40), "{last:?}");
    // 40 tokens with a rest after each draft that is not accepted: after 4 tokens, 8, 16.
    let failures = failures.load(Ordering::Relaxed);
    assert!((1..=4).contains(&failures), "{failures} runs failed");
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
    // The first one's slot is released when it has ended; others run and wait then.
    let [_first, others @ ..] = [2, 200, 200, 200].map(|tokens| engine.submit(work(1, tokens)).unwrap());
    let died = Event::Failed(Failure::Died("panic: a slot that stays".to_owned()));
    for stream in others {
        assert_eq!(last(stream).await, died);
    }
    assert_eq!(last(engine.submit(work(3, 4)).unwrap()).await, died);
    assert_eq!(engine.probe(&[1, 2]).await, Err(Failure::Died("panic: a slot that stays".to_owned())));
    assert_eq!(engine.dead().as_deref(), Some("panic: a slot that stays"));
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
