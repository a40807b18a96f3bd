//! The workers, with sessions that wait, fail and panic on demand. No test sleeps: each step waits for what it needs.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use hotpath_cores::Cores;
use hotpath_encoding::{Failure, Limits, Load, Observer, Pending, Run, Scheduler, Work};
use hotpath_fairness::Class;
use hotpath_runtime::{Encode, RunError};

const FAILS: u32 = 666;
const PANICS: u32 = 667;

const LIMIT: Duration = Duration::from_secs(30);

const LIMITS: Limits =
    Limits { workers: 0, batch_tokens: 100, max_queued_tokens: 10_000, max_wait: Duration::from_mins(10) };

/// Says which batch begins, and then waits until it may run. Its vectors tell which text they are of.
struct Gated {
    begins: mpsc::Sender<Vec<Vec<u32>>>,
    may_run: mpsc::Receiver<()>,
}

impl Encode for Gated {
    fn encode(&mut self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        let _ = self.begins.send(texts.iter().map(|text| text.to_vec()).collect());
        let _ = self.may_run.recv();
        Echo.encode(texts)
    }
}

/// Runs at once.
struct Echo;

impl Encode for Echo {
    fn encode(&mut self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        assert!(!texts.iter().any(|text| text.contains(&PANICS)), "a session that panics");
        if texts.iter().any(|text| text.contains(&FAILS)) {
            return Err(RunError("a session that fails".to_owned()));
        }
        Ok(texts.iter().map(|text| echo(text)).collect())
    }
}

#[allow(clippy::cast_precision_loss)]
fn echo(text: &[u32]) -> Vec<f32> {
    text.iter().map(|id| *id as f32).collect()
}

/// Keeps every run.
#[derive(Default)]
struct Runs(Mutex<Vec<Run>>);

impl Observer for Runs {
    fn ran(&self, run: &Run) {
        self.0.lock().unwrap().push(run.clone());
    }
}

fn many_cores() -> Arc<Cores> {
    Arc::new(Cores::new(16))
}

/// A scheduler whose sessions run only when they are let.
struct Gate {
    scheduler: Scheduler,
    begun: mpsc::Receiver<Vec<Vec<u32>>>,
    let_run: Vec<mpsc::Sender<()>>,
}

impl Gate {
    fn new(workers: usize, limits: Limits) -> Self {
        let (begins, begun) = mpsc::channel();
        let mut let_run = Vec::new();
        let mut sessions: Vec<Box<dyn Encode>> = Vec::new();
        for _ in 0..workers {
            let (sender, may_run) = mpsc::channel();
            let_run.push(sender);
            sessions.push(Box::new(Gated { begins: begins.clone(), may_run }));
        }
        Self {
            scheduler: Scheduler::start(sessions, limits, many_cores(), Arc::new(Runs::default())).unwrap(),
            begun,
            let_run,
        }
    }

    /// Waits until a batch begins.
    fn begun(&self) -> Vec<Vec<u32>> {
        self.begun.recv_timeout(LIMIT).expect("a batch begins")
    }

    /// Lets every session run from now on.
    fn open(&mut self) {
        self.let_run.clear();
    }
}

fn echo_scheduler(workers: usize) -> (Scheduler, Arc<Runs>) {
    let runs = Arc::new(Runs::default());
    let sessions = (0..workers).map(|_| Box::new(Echo) as Box<dyn Encode>).collect();
    (Scheduler::start(sessions, LIMITS, many_cores(), runs.clone()).unwrap(), runs)
}

fn work(inputs: &[&[u32]]) -> Work {
    let inputs = inputs.iter().map(|input| input.to_vec()).collect();
    Work { class: Class::Interactive, key: "a".into(), deadline: None, inputs }
}

fn wait(pending: Pending) -> Result<Vec<Vec<f32>>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let result = runtime.block_on(async { tokio::time::timeout(LIMIT, pending.result()).await });
    result.expect("nobody tells it").map(|done| done.vectors)
}

/// A panic whose payload panics when it is dropped, which is after the fence around a run.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb");
    }
}

/// Waits until it may, and then dies of each run.
struct Dies(mpsc::Receiver<()>);

impl Encode for Dies {
    fn encode(&mut self, _: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        let _ = self.0.recv();
        std::panic::panic_any(Bomb)
    }
}

/// Panics whenever it is told of a run.
struct Panics;

impl Observer for Panics {
    fn ran(&self, _: &Run) {
        panic!("an observer that panics");
    }
}

#[test]
fn every_vector_comes_back_to_its_input() {
    let (scheduler, runs) = echo_scheduler(3);
    let ask = |client: u32| {
        for round in 0..50 {
            let inputs: Vec<Vec<u32>> = (0..=round % 7).map(|i| vec![client, round, i]).collect();
            let texts: Vec<&[u32]> = inputs.iter().map(Vec::as_slice).collect();
            let expected: Vec<Vec<f32>> = texts.iter().map(|text| echo(text)).collect();
            assert_eq!(wait(scheduler.submit(work(&texts)).unwrap()).unwrap(), expected);
        }
    };
    thread::scope(|scope| (0..8).for_each(|client| drop(scope.spawn(move || ask(client)))));
    assert_eq!(scheduler.load(), Load::default());
    let ran: usize = runs.0.lock().unwrap().iter().map(|run| run.inputs).sum();
    assert_eq!(ran, 8 * (0..50).map(|round| round % 7 + 1).sum::<usize>(), "each input ran once");
}

#[test]
fn a_large_request_spreads_over_the_workers() {
    let mut gate = Gate::new(2, LIMITS);
    let text = [1; 60];
    let pending = gate.scheduler.submit(work(&[&text, &text, &text])).unwrap();
    let (first, second) = (gate.begun(), gate.begun());
    assert_eq!((first.len(), second.len()), (1, 1), "both workers have some of it before either is done");
    gate.open();
    assert_eq!(wait(pending).unwrap().len(), 3);
}

#[test]
fn a_bad_input_fails_with_its_index_and_disturbs_no_neighbour() {
    for (bad, cause) in [(FAILS, "a session that fails"), (PANICS, "panic: a session that panics")] {
        let mut gate = Gate::new(1, LIMITS);
        let first = gate.scheduler.submit(work(&[&[9]])).unwrap();
        gate.begun();
        let neighbour = gate.scheduler.submit(work(&[&[1], &[2]])).unwrap();
        let faulty = gate.scheduler.submit(work(&[&[3], &[bad], &[4]])).unwrap();
        gate.open();
        assert!(wait(first).is_ok());
        assert_eq!(gate.begun().len(), 5, "all of them were in one batch");
        assert_eq!(wait(neighbour).unwrap(), [[1.0], [2.0]]);
        assert_eq!(wait(faulty), Err(Failure::RunFailed { input: 1, cause: cause.to_owned() }));
        assert_eq!(wait(gate.scheduler.submit(work(&[&[5]])).unwrap()).unwrap(), [[5.0]], "the worker lives");
        assert_eq!(gate.scheduler.load(), Load::default());
    }
}

#[test]
fn a_panic_of_the_observer_is_nobodys_error() {
    let scheduler = Scheduler::start(vec![Box::new(Echo)], LIMITS, many_cores(), Arc::new(Panics)).unwrap();
    for _ in 0..3 {
        assert_eq!(wait(scheduler.submit(work(&[&[1], &[2]])).unwrap()).unwrap(), [[1.0], [2.0]]);
        assert_eq!(scheduler.load(), Load::default());
    }
    assert_eq!(scheduler.dead(), None);
    scheduler.close();
}

#[test]
fn a_worker_that_dies_ends_what_runs_what_waits_and_what_comes_later_and_says_why() {
    let ((go, may_go), (begins, _begun), (let_run, may_run)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
    let sessions: Vec<Box<dyn Encode>> = vec![Box::new(Dies(may_go)), Box::new(Gated { begins, may_run })];
    let scheduler = Scheduler::start(sessions, LIMITS, many_cores(), Arc::new(Runs::default())).unwrap();
    let text = [1; 100]; // a batch of its own
    let pending: Vec<Pending> = (0..3).map(|_| scheduler.submit(work(&[&text])).unwrap()).collect();
    while scheduler.load().running_inputs < 2 {
        thread::yield_now();
    }
    go.send(()).unwrap();
    let died = Err(Failure::Died("panic: a bomb".to_owned()));
    let began = Instant::now();
    while scheduler.dead().is_none() {
        assert!(began.elapsed() < LIMIT, "it is told by nobody");
        thread::yield_now();
    }
    assert_eq!(wait(scheduler.submit(work(&[&[2]])).unwrap()), died);
    let_run.send(()).unwrap();
    let results: Vec<_> = pending.into_iter().map(wait).collect();
    assert_eq!(results.iter().filter(|result| **result == died).count(), 2, "{results:?}");
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "the other worker finished what it had");
    assert_eq!(scheduler.dead().as_deref(), Some("panic: a bomb"));
    scheduler.close();
}

#[test]
fn cancelled_work_does_not_run() {
    let mut gate = Gate::new(1, LIMITS);
    let first = gate.scheduler.submit(work(&[&[1]])).unwrap();
    gate.begun();
    let cancelled = gate.scheduler.submit(work(&[&[2], &[2]])).unwrap();
    let last = gate.scheduler.submit(work(&[&[3]])).unwrap();
    let running = Load { running_inputs: 1, running_tokens: 1, running_batches: 1, ..Load::default() };
    assert_eq!(gate.scheduler.load(), Load { queued_tokens: 3, queued_inputs: 3, waiting_requests: 2, ..running });
    drop(cancelled);
    assert_eq!(gate.scheduler.load(), Load { queued_tokens: 1, queued_inputs: 1, waiting_requests: 1, ..running });
    gate.open();
    assert!(wait(first).is_ok() && wait(last).is_ok());
    assert_eq!(gate.begun(), [[3]]);
}

#[test]
fn a_request_that_is_cancelled_while_it_runs_is_forgotten() {
    let mut gate = Gate::new(1, LIMITS);
    let cancelled = gate.scheduler.submit(work(&[&[1]])).unwrap();
    gate.begun();
    drop(cancelled);
    gate.open();
    assert!(wait(gate.scheduler.submit(work(&[&[2]])).unwrap()).is_ok());
    assert_eq!(gate.scheduler.load(), Load::default());
}

#[test]
fn expired_work_does_not_run() {
    let mut gate = Gate::new(1, LIMITS);
    let first = gate.scheduler.submit(work(&[&[1]])).unwrap();
    gate.begun();
    let expired = gate.scheduler.submit(Work { deadline: Some(Instant::now()), ..work(&[&[2]]) }).unwrap();
    let last = gate.scheduler.submit(work(&[&[3]])).unwrap();
    gate.open();
    assert_eq!(wait(expired), Err(Failure::DeadlineExceeded));
    assert!(wait(first).is_ok() && wait(last).is_ok());
    assert_eq!(gate.begun(), [[3]]);
}

#[test]
fn work_that_waited_too_long_does_not_run() {
    let mut gate = Gate::new(1, Limits { max_wait: Duration::ZERO, ..LIMITS });
    // With no patience at all even the first request is dropped: there is always some time until a worker looks.
    let pending = gate.scheduler.submit(work(&[&[1]])).unwrap();
    gate.open();
    assert!(matches!(wait(pending), Err(Failure::WaitedTooLong { .. })));
    assert_eq!(gate.scheduler.load(), Load::default());
}

#[test]
fn a_full_queue_refuses_until_it_has_drained() {
    let mut gate = Gate::new(1, Limits { max_queued_tokens: 3, ..LIMITS });
    let first = gate.scheduler.submit(work(&[&[1]])).unwrap();
    gate.begun();
    let second = gate.scheduler.submit(work(&[&[2, 2, 2]])).unwrap();
    let full = gate.scheduler.submit(work(&[&[3]])).unwrap_err();
    assert!(full.retry_after > Duration::ZERO);
    gate.open();
    assert!(wait(first).is_ok() && wait(second).is_ok());
    assert!(wait(gate.scheduler.submit(work(&[&[3]])).unwrap()).is_ok());
}

#[test]
fn closing_finishes_what_is_queued() {
    let mut gate = Gate::new(2, LIMITS);
    let pending: Vec<Pending> = (0..20).map(|i| gate.scheduler.submit(work(&[&[i; 70]])).unwrap()).collect();
    gate.begun();
    gate.open();
    gate.scheduler.close();
    for (i, pending) in (0..20).zip(pending) {
        assert_eq!(wait(pending).unwrap(), [echo(&[i; 70])]);
    }
}

#[test]
fn timings_do_not_overlap_and_fit_the_call() {
    let (scheduler, _) = echo_scheduler(1);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let began = Instant::now();
    let done = runtime.block_on(scheduler.submit(work(&[&[1], &[2]])).unwrap().result()).unwrap();
    assert!(done.queue + done.inference <= began.elapsed());
    assert_eq!(done.vectors.len(), 2);
}

/// Three models on one core. The first one is at a batch text, which holds it.
struct Models {
    cores: Arc<Cores>,
    schedulers: Vec<Scheduler>,
    begun: mpsc::Receiver<Vec<Vec<u32>>>,
    gates: Vec<mpsc::Sender<()>>,
    pending: Vec<Pending>,
}

impl Models {
    fn busy() -> Self {
        let cores = Arc::new(Cores::new(1));
        let (begins, begun) = mpsc::channel();
        let (gates, may_run): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::channel()).unzip();
        let schedulers = may_run.into_iter().map(|may_run| {
            let session: Box<dyn Encode> = Box::new(Gated { begins: begins.clone(), may_run });
            Scheduler::start(vec![session], LIMITS, cores.clone(), Arc::new(Runs::default())).unwrap()
        });
        let schedulers = schedulers.collect();
        let mut models = Self { cores, schedulers, begun, gates, pending: Vec::new() };
        models.submit(0, Class::Batch, 0, 0);
        assert_eq!(models.begun.recv().unwrap(), [[0]]);
        models
    }

    /// Queues a text, and waits until so many wait for the core.
    fn submit(&mut self, model: usize, class: Class, id: u32, waiting: usize) {
        let work = Work { class, key: "a".into(), deadline: None, inputs: vec![vec![id]] };
        self.pending.push(self.schedulers[model].submit(work).unwrap());
        while self.cores.waiting() < waiting {
            thread::yield_now();
        }
    }

    /// Lets the core go: which texts run, in which order.
    async fn order(self) -> Vec<u32> {
        for gate in &self.gates {
            (0..3).for_each(|_| gate.send(()).unwrap());
        }
        for pending in self.pending {
            pending.result().await.unwrap();
        }
        self.begun.try_iter().map(|texts| texts[0][0]).collect()
    }
}

#[tokio::test]
async fn interactive_work_of_one_model_goes_before_batch_work_of_another_that_came_first() {
    let mut models = Models::busy();
    models.submit(1, Class::Batch, 1, 1);
    models.submit(2, Class::Interactive, 2, 2);
    assert_eq!(models.order().await, [2, 1]);
}

/// A worker that waits for a core has nothing in its hands yet.
#[tokio::test]
async fn interactive_work_goes_before_batch_work_of_its_own_model_that_waits_for_a_core() {
    let mut models = Models::busy();
    models.submit(1, Class::Batch, 1, 1);
    models.submit(1, Class::Interactive, 2, 1);
    models.submit(2, Class::Interactive, 3, 2);
    assert_eq!(models.order().await, [2, 3, 1]);
}

/// Two workers, two cores, and more batch work than both do.
#[tokio::test]
async fn beside_batch_work_a_core_is_free_for_interactive_work_once_some_was_there() {
    let (cores, (begins, begun)) = (Arc::new(Cores::new(2)), mpsc::channel());
    let (gates, may_run): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel()).unzip();
    let gated = |may_run| Box::new(Gated { begins: begins.clone(), may_run }) as Box<dyn Encode>;
    let sessions = may_run.into_iter().map(gated).collect();
    let scheduler = Scheduler::start(sessions, LIMITS, cores.clone(), Arc::new(Runs::default())).unwrap();
    let submit = |class, id| {
        let work = Work { class, key: "a".into(), deadline: None, inputs: vec![vec![id; LIMITS.batch_tokens]] };
        scheduler.submit(work).unwrap()
    };
    cores.interactive_arrived(false);
    let mut pending: Vec<Pending> = (0..4).map(|id| submit(Class::Batch, id)).collect();
    assert_eq!(begun.recv_timeout(LIMIT).unwrap()[0][0], 0);
    while cores.waiting() < 1 {
        thread::yield_now(); // the other worker would have the next one, and may not
    }
    pending.push(submit(Class::Interactive, 9));
    assert_eq!(begun.recv_timeout(LIMIT).unwrap()[0][0], 9, "while batch work runs");
    drop(gates);
    for pending in pending {
        assert_eq!(pending.result().await.unwrap().vectors.len(), 1);
    }
}
