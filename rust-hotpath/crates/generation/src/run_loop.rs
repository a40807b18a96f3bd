//! The loop: asks the planner what runs, runs it, and tells every continuation's reader what came of it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
    time::{Duration, Instant},
};

use hotpath_cores::Cores;
use hotpath_fairness::{Class, fenced};
use hotpath_runtime::{Decode, RunError, Step};
use hotpath_text::Vocabulary;

use crate::{
    job::Job,
    masks::{MaskReply, Masks},
    planner::{Chunk, Decision, Decoding, Ended, RequestId, RowChange, Run, SequenceId},
    sequence::Sequence,
    state::{self, News, Probe, Shared, plan},
    work::{Delta, Event, Failure},
};

/// Sees every run of the session.
pub trait Observer: Send + Sync {
    /// A run begins. Called by the loop, as the next is: neither may wait.
    fn begins(&self) {}

    /// A run has ended.
    fn ran(&self, run: &Ran);
}

/// One run of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// What it was.
    pub kind: Kind,
    /// Tokens of the chunk, or those that the step is run for.
    pub tokens: usize,
    /// How long it took.
    pub took: Duration,
    /// Why it failed. A step that failed runs again, one row at a time.
    pub error: Option<String>,
}

/// The kinds of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A chunk of a prompt.
    Prefill,
    /// A step of the rows that decode.
    Decode,
    /// A sign of life, of no request.
    Probe,
}

/// Works until the engine is closed and nothing is left.
pub(crate) fn work(run_loop: &mut Loop) {
    while let Some(news) = run_loop.next() {
        match news {
            News::Decision(decision) => run_loop.obey(decision),
            News::Probe(probe) => run_loop.probe(probe),
        }
    }
}

/// The session, and what is known of each request. If the loop dies, streams are told why before this is dropped.
pub(crate) struct Loop {
    shared: Arc<Shared>,
    session: Box<dyn Decode>,
    masks: Masks,
    vocabulary: Arc<Vocabulary>,
    /// Logits after a token.
    vocabulary_size: usize,
    /// A run takes as many of these as the session has threads.
    cores: Arc<Cores>,
    threads: usize,
    observer: Arc<dyn Observer>,
    jobs: HashMap<RequestId, Job>,
}

impl Loop {
    pub(crate) fn new(
        shared: Arc<Shared>,
        session: Box<dyn Decode>,
        masks: Masks,
        vocabulary: Arc<Vocabulary>,
        cores: Arc<Cores>,
        threads: usize,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let vocabulary_size = session.extent().vocabulary;
        Self { shared, session, masks, vocabulary, vocabulary_size, cores, threads, observer, jobs: HashMap::new() }
    }

    fn next(&mut self) -> Option<News> {
        for (id, reply) in state::replies(&self.shared) {
            self.receive(id, reply);
        }
        state::next(&self.shared, &mut self.jobs)
    }

    fn obey(&mut self, decision: Decision) {
        for (id, why) in decision.ended {
            self.end(id, why);
        }
        for change in &decision.changes {
            self.change(change);
        }
        match decision.run {
            Some(Run::Prefill(chunk)) => self.prefill(&chunk),
            Some(Run::Decode { first, rows }) => self.decode(first, &rows),
            None => (),
        }
    }

    fn probe(&mut self, probe: Probe) {
        let (row, tokens) = (self.session.extent().rows - 1, probe.prompt.len()); // no request's row
        let budget = self.cores.clone();
        let _cores = state::cores(&self.shared, &budget, self.threads, Class::Interactive);
        let (outcome, _) = observed(&*self.observer, Kind::Probe, tokens, self.vocabulary_size, || {
            self.session.prefill(row, 0, &probe.prompt, tokens - 1..tokens)
        });
        let outcome = outcome.map(drop);
        self.session.release_row(row);
        let _ = probe.outcome.send(outcome.map_err(|error| Failure::RunFailed(error.0))); // who asks may be gone
    }

    /// Lets a continuation that waits for its format go on.
    fn receive(&mut self, id: SequenceId, reply: MaskReply) {
        let Some(job) = self.jobs.get_mut(&id.request) else { return }; // ended meanwhile
        let failure = match own(|| job.sequences[id.choice].receive(reply)) {
            Ok(None) => return, // it runs, and does not know yet that it need not wait
            Ok(Some(logits)) => {
                plan(&self.shared, |planner, _| planner.go_on(id));
                advance(&self.shared, &self.masks, job, id, &logits).err()
            }
            Err(failure) => Some(failure),
        };
        self.settle(id.request, failure);
    }

    fn end(&mut self, id: RequestId, why: Ended) {
        let Some(job) = self.jobs.remove(&id) else { return };
        let failure = match why {
            Ended::Cancelled => return, // nobody reads
            Ended::Deadline => Failure::DeadlineExceeded,
            Ended::MaxWait => {
                Failure::WaitedTooLong { retry_after: plan(&self.shared, |planner, _| planner.time_to_drain()) }
            }
            Ended::SlowReader => Failure::SlowReader,
        };
        job.tell(Event::Failed(failure));
    }

    fn change(&mut self, change: &RowChange) {
        match *change {
            RowChange::Copy { from, to, tokens } => self.session.copy_row(from, to, tokens),
            RowChange::Release(row) => self.session.release_row(row),
        }
    }

    fn prefill(&mut self, chunk: &Chunk) {
        let Some(job) = self.jobs.get_mut(&chunk.request) else { return self.forget(chunk.request) };
        let budget = self.cores.clone();
        let cores = state::cores(&self.shared, &budget, self.threads, job.params.class);
        if job.began.is_none() {
            job.start(chunk.start);
        }
        let tokens = &job.prompt[chunk.start..chunk.start + chunk.tokens];
        let asked = if chunk.last { chunk.tokens - 1..chunk.tokens } else { 0..0 };
        let logits = asked.len() * self.vocabulary_size;
        let (outcome, took) = observed(&*self.observer, Kind::Prefill, chunk.tokens, logits, || {
            self.session.prefill(chunk.row, chunk.start, tokens, asked)
        });
        drop(cores);
        if outcome.is_ok() {
            plan(&self.shared, |planner, _| planner.ran(took)); // what failed was not read, and must not be reused
        }
        match outcome {
            Ok(_) if !chunk.last => (),
            Ok(logits) => {
                job.first_token = Some(Instant::now());
                let new = |choice| Sequence::new(&job.params, choice, &job.prompt, self.vocabulary.clone());
                let failure = match own(|| Ok((0..job.choices).map(new).collect())) {
                    Ok(sequences) => {
                        job.sequences = sequences;
                        let ids = (0..job.choices).map(|choice| SequenceId { request: chunk.request, choice });
                        let said = ids.map(|id| advance(&self.shared, &self.masks, job, id, logits));
                        said.filter_map(Result::err).last()
                    }
                    Err(failure) => Some(failure),
                };
                self.settle(chunk.request, failure);
            }
            Err(error) => self.settle(chunk.request, Some(Failure::RunFailed(error.0))),
        }
    }

    fn decode(&mut self, first: usize, rows: &[Decoding]) {
        let step = |row: &Decoding| {
            let job = self.jobs.get(&row.sequence.request);
            Step { token: job.map_or(0, |job| job.sequences[row.sequence.choice].last()), length: row.length }
        };
        let steps: Vec<Step> = rows.iter().map(step).collect();
        let class = rows.first().and_then(|row| self.jobs.get(&row.sequence.request)).map(|job| job.params.class);
        let budget = self.cores.clone();
        let cores = state::cores(&self.shared, &budget, self.threads, class.unwrap_or(Class::Interactive));
        let tokens = rows.iter().filter(|row| !row.repeats).count();
        let logits = rows.len() * self.vocabulary_size;
        let (outcome, took) =
            observed(&*self.observer, Kind::Decode, tokens, logits, || self.session.decode(first, &steps));
        let _cores = outcome.is_err().then_some(cores); // or the rows run again, each alone
        plan(&self.shared, |planner, _| planner.ran(took));
        let mut failures: HashMap<RequestId, Option<Failure>> = HashMap::new();
        let mut advance = |row: &Decoding, logits: Result<&[f32], RunError>| {
            let Some(job) = self.jobs.get_mut(&row.sequence.request) else { return };
            let failed = match logits {
                Ok(logits) => advance(&self.shared, &self.masks, job, row.sequence, logits).err(),
                Err(error) => Some(Failure::RunFailed(error.0)),
            };
            let known = failures.entry(row.sequence.request).or_default();
            *known = known.take().or(failed);
        };
        match outcome {
            Ok(logits) => {
                for (row, logits) in
                    rows.iter().zip(logits.chunks(self.vocabulary_size)).filter(|(row, _)| !row.repeats)
                {
                    advance(row, Ok(logits));
                }
            }
            Err(error) if rows.len() == 1 => advance(&rows[0], Err(error)),
            // A bad row fails alone. Rows hold what they held, so each may run again.
            Err(_) => {
                for (place, (row, step)) in rows.iter().zip(&steps).enumerate().filter(|(_, (row, _))| !row.repeats) {
                    let (outcome, _) = observed(&*self.observer, Kind::Decode, 1, self.vocabulary_size, || {
                        self.session.decode(first + place, std::slice::from_ref(step))
                    });
                    advance(row, outcome);
                }
            }
        }
        for (request, failure) in failures {
            self.settle(request, failure);
        }
    }

    /// After a run: ends a request that failed or is complete, and pauses one whose reader leaves no room.
    fn settle(&mut self, id: RequestId, failure: Option<Failure>) {
        let Some(job) = self.jobs.get(&id) else { return };
        if let Some(failure) = failure {
            job.tell(Event::Failed(failure));
            return self.forget(id);
        }
        if job.sequences.iter().all(Sequence::is_finished) {
            job.tell(Event::Done(job.done()));
            self.jobs.remove(&id);
        } else if !job.has_room() {
            plan(&self.shared, |planner, now| planner.pause(now, id));
            job.paused.store(true, Ordering::SeqCst);
            // The reader may have made room before it could see that it is waited for; see `Stream::next`.
            fence(Ordering::SeqCst);
            if job.has_room() && job.paused.swap(false, Ordering::SeqCst) {
                plan(&self.shared, |planner, _| planner.resume(id));
            }
        }
    }

    fn forget(&mut self, id: RequestId) {
        self.jobs.remove(&id);
        plan(&self.shared, |planner, _| planner.cancel(id));
    }
}

/// Lets a continuation say its next token, if it is known which ones may come.
fn advance(shared: &Shared, masks: &Masks, job: &mut Job, id: SequenceId, logits: &[f32]) -> Result<(), Failure> {
    let said = own(|| {
        let sequence = &mut job.sequences[id.choice];
        Ok(sequence.advance(logits)?.map(|said| (said, sequence.ask())))
    })?;
    let Some((said, request)) = said else {
        plan(shared, |planner, _| planner.wait(id));
        return Ok(());
    };
    if let Some(request) = request {
        masks.ask(id, request);
    }
    if said.finish.is_some() {
        plan(shared, |planner, _| planner.finish(id));
    }
    job.tell(Event::Delta(Delta { choice: id.choice, token: said.token, text: said.text, finish: said.finish }));
    Ok(())
}

/// Does what concerns one request alone: a panic is its failure, and what that leaves half changed goes with it.
fn own<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    fenced(work).unwrap_or_else(|panic| Err(Failure::RunFailed(panic)))
}

/// Runs the session for so many logits, and tells the observer, whose panic is no part of the run. The session keeps nothing
/// from one run to the next but rows, which hold what they held: a panic leaves it usable.
fn observed<'a>(
    observer: &dyn Observer,
    kind: Kind,
    tokens: usize,
    logits: usize,
    run: impl FnOnce() -> Result<&'a [f32], RunError>,
) -> (Result<&'a [f32], RunError>, Duration) {
    let _ = fenced(|| observer.begins());
    let began = Instant::now();
    let outcome = match fenced(run) {
        Ok(Ok(found)) if found.len() != logits => Err(RunError(format!("{} logits and not {logits}", found.len()))),
        Ok(outcome) => outcome,
        Err(panic) => Err(RunError(panic)),
    };
    let took = began.elapsed();
    let ran = Ran { kind, tokens, took, error: outcome.as_ref().err().map(ToString::to_string) };
    let _ = fenced(|| observer.ran(&ran));
    (outcome, took)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use hotpath_fairness::{Class, Monitor};
    use tokio::sync::mpsc;

    use super::*;
    use crate::{planner::Limits, sampler::Sampling, sequence::SequenceParams, state::State, work::Stop};

    const LIMITS: Limits = Limits {
        batch: 1,
        cache_tokens: 64,
        granule: 16,
        context_tokens: 64,
        chunk_tokens: 32,
        reuse_tokens: 16,
        max_queued_tokens: 64,
        max_wait: Duration::MAX,
        max_parked: Duration::MAX,
        share_prefixes: false,
    };

    #[test]
    fn a_panic_over_a_continuation_is_its_requests_failure() {
        let shared = Arc::new(Monitor::new(State::new(LIMITS)));
        let masks = Masks::start(&shared, |_, _, _| ()).unwrap();
        let params = SequenceParams {
            sampling: Arc::new(Sampling::default()),
            stop: Stop::default(),
            stop_ids: Arc::from([]),
            max_tokens: 1,
            format: None,
            class: Class::Interactive,
            key: "a".into(),
        };
        let (events, _read) = mpsc::channel(4);
        // It has no continuation yet, so to look for one goes out of bounds.
        let mut job = Job::new(Arc::from([1]), params, 1, events, Arc::new(AtomicBool::new(false)));
        let id = SequenceId { request: RequestId::ANY, choice: 0 };
        let failure = advance(&shared, &masks, &mut job, id, &[0.0]).unwrap_err();
        assert!(matches!(&failure, Failure::RunFailed(cause) if cause.starts_with("panic: index")), "{failure:?}");
        assert_eq!(shared.dead(), None);
    }
}
