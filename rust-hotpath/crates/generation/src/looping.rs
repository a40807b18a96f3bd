//! The loop: asks the planner what runs, runs it, and tells every continuation's reader what came of it.

use std::{
    any::Any,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use hotpath_fairness::Class;
use hotpath_runtime::{Decode, RunError, Step};
use hotpath_text::Vocabulary;

use crate::{
    engine::Shared,
    job::Job,
    masks::{Answer, Masks},
    planner::{Chunk, Decision, Decoding, Ended, RequestId, RowChange, Run, SequenceId},
    sequence::Sequence,
    work::{Delta, Event, Failure},
};

/// Sees every run of the session.
pub trait Observer: Send + Sync {
    /// A run has ended. Called by the loop, between runs: it must not wait.
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
}

/// Works until the engine is closed and nothing is left.
pub(crate) fn work(
    shared: &Shared,
    session: Box<dyn Decode>,
    masks: Masks,
    vocabulary: &Arc<Vocabulary>,
    observer: &dyn Observer,
) {
    let mut of_loop = Loop { shared, session, masks, vocabulary, observer, jobs: HashMap::new() };
    while let Some(decision) = of_loop.next() {
        for (id, why) in decision.ended {
            of_loop.end(id, why);
        }
        for change in &decision.changes {
            of_loop.change(change);
        }
        match decision.run {
            Some(Run::Prefill(chunk)) => of_loop.prefill(&chunk),
            Some(Run::Decode { first, rows }) => of_loop.decode(first, &rows),
            None => (),
        }
    }
}

struct Loop<'a> {
    shared: &'a Shared,
    session: Box<dyn Decode>,
    masks: Masks,
    vocabulary: &'a Arc<Vocabulary>,
    observer: &'a dyn Observer,
    jobs: HashMap<RequestId, Job>,
}

impl Loop<'_> {
    fn next(&mut self) -> Option<Decision> {
        for (id, answer) in self.shared.answers() {
            self.hear(id, answer);
        }
        self.shared.next(&mut self.jobs)
    }

    /// Lets a continuation that waits for its format go on.
    fn hear(&mut self, id: SequenceId, answer: Answer) {
        let Some(job) = self.jobs.get_mut(&id.request) else { return }; // ended meanwhile
        let failure = match job.sequences[id.choice].hear(answer) {
            Ok(None) => return, // it runs, and does not know yet that it need not wait
            Ok(Some(logits)) => {
                self.shared.note(|planner, _| planner.go_on(id));
                advance(self.shared, &self.masks, job, id, &logits).err()
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
                Failure::WaitedTooLong { retry_after: self.shared.note(|planner, _| planner.time_to_drain()) }
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
        let cores = self.shared.cores(job.terms.class);
        let began = Instant::now();
        if job.began.is_none() {
            (job.began, job.cached_tokens) = (Some(began), chunk.start);
        }
        let tokens = &job.prompt[chunk.start..chunk.start + chunk.tokens];
        let asked = if chunk.last { chunk.tokens - 1..chunk.tokens } else { 0..0 };
        let outcome = attempt(|| self.session.prefill(chunk.row, chunk.start, tokens, asked));
        let took = began.elapsed();
        drop(cores);
        self.observer.ran(&Ran { kind: Kind::Prefill, tokens: chunk.tokens, took, error: error(&outcome) });
        if outcome.is_ok() {
            self.shared.note(|planner, _| planner.ran(took)); // what failed was not read, and must not be reused
        }
        match outcome {
            Ok(_) if !chunk.last => (),
            Ok(logits) => {
                job.first_token = Some(Instant::now());
                let new = |choice| Sequence::new(&job.terms, choice, &job.prompt, self.vocabulary.clone());
                job.sequences = (0..job.choices).map(new).collect();
                let ids = (0..job.choices).map(|choice| SequenceId { request: chunk.request, choice });
                let said = ids.map(|id| advance(self.shared, &self.masks, job, id, logits));
                let failure = said.filter_map(Result::err).last();
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
        let vocabulary = self.session.extent().vocabulary;
        let class = rows.first().and_then(|row| self.jobs.get(&row.sequence.request)).map(|job| job.terms.class);
        let cores = self.shared.cores(class.unwrap_or(Class::Interactive));
        let began = Instant::now();
        let outcome = attempt(|| self.session.decode(first, &steps));
        let took = began.elapsed();
        let _cores = outcome.is_err().then_some(cores); // or the rows run again, each alone
        let tokens = rows.iter().filter(|row| !row.repeats).count();
        self.observer.ran(&Ran { kind: Kind::Decode, tokens, took, error: error(&outcome) });
        self.shared.note(|planner, _| planner.ran(took));
        let mut failures: HashMap<RequestId, Option<Failure>> = HashMap::new();
        let mut advance = |row: &Decoding, logits: Result<&[f32], RunError>| {
            let Some(job) = self.jobs.get_mut(&row.sequence.request) else { return };
            let failed = match logits {
                Ok(logits) => advance(self.shared, &self.masks, job, row.sequence, logits).err(),
                Err(error) => Some(Failure::RunFailed(error.0)),
            };
            let known = failures.entry(row.sequence.request).or_default();
            *known = known.take().or(failed);
        };
        match outcome {
            Ok(logits) => {
                for (row, logits) in rows.iter().zip(logits.chunks(vocabulary)).filter(|(row, _)| !row.repeats) {
                    advance(row, Ok(logits));
                }
            }
            Err(error) if rows.len() == 1 => advance(&rows[0], Err(error)),
            // A bad row fails alone. Rows hold what they held, so each may run again.
            Err(_) => {
                for (place, (row, step)) in rows.iter().zip(&steps).enumerate().filter(|(_, (row, _))| !row.repeats) {
                    advance(row, attempt(|| self.session.decode(first + place, std::slice::from_ref(step))));
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
            self.shared.note(|planner, now| planner.pause(now, id));
            job.paused.store(true, Ordering::SeqCst);
            // The reader may have made room before it could see that it is waited for.
            if job.has_room() && job.paused.swap(false, Ordering::SeqCst) {
                self.shared.note(|planner, _| planner.resume(id));
            }
        }
    }

    fn forget(&mut self, id: RequestId) {
        self.jobs.remove(&id);
        self.shared.note(|planner, _| planner.cancel(id));
    }
}

/// Lets a continuation say its next token, if it is known which ones may come.
fn advance(shared: &Shared, masks: &Masks, job: &mut Job, id: SequenceId, logits: &[f32]) -> Result<(), Failure> {
    let sequence = &mut job.sequences[id.choice];
    let Some(said) = sequence.advance(logits)? else {
        shared.note(|planner, _| planner.wait(id));
        return Ok(());
    };
    if let Some(question) = sequence.ask() {
        masks.ask(id, question);
    }
    if said.finish.is_some() {
        shared.note(|planner, _| planner.finish(id));
    }
    job.tell(Event::Delta(Delta { choice: id.choice, token: said.token, text: said.text, finish: said.finish }));
    Ok(())
}

/// Runs the session. It keeps nothing from one run to the next but rows, which hold what they held: a panic leaves it usable.
fn attempt<'a>(run: impl FnOnce() -> Result<&'a [f32], RunError>) -> Result<&'a [f32], RunError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(RunError(format!("panic: {}", message(&*panic)))))
}

fn error(outcome: &Result<&[f32], RunError>) -> Option<String> {
    outcome.as_ref().err().map(ToString::to_string)
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
