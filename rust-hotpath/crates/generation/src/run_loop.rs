//! The loop: asks the planner what runs, runs it, and tells every continuation's reader what came of it.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
    time::{Duration, Instant},
};

use hotpath_cores::{Cores, Permit};
use hotpath_fairness::{Class, fenced};
use hotpath_runtime::{Decode, Row, RunError};
use hotpath_text::Vocabulary;

use crate::{
    chunks::ChunkRun,
    job::Job,
    masks::{MaskReply, Masks},
    planner::{Chunk, Counts, Decision, Ended, RequestId, Run, SequenceId, SlotChange, Step},
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

    /// So many tokens of a draft were run, of which so many were accepted.
    fn drafted(&self, _drafted: usize, _accepted: usize) {}
}

/// One run of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// What for.
    pub kind: Kind,
    /// How long it took.
    pub took: Duration,
    /// Why it failed. What failed runs again in parts, until what is at fault is alone.
    pub error: Option<String>,
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Requests.
    Work {
        /// Tokens of prompts.
        prompt_tokens: usize,
        /// Continuations that go on.
        rows: usize,
    },
    /// A sign of life, of no request.
    Probe,
}

/// Works until the engine is closed and nothing is left.
pub(crate) fn work(run_loop: &mut Loop) {
    while let Some(news) = run_loop.next() {
        match news {
            News::Settled(decision, can_run) => {
                run_loop.obey(&decision);
                if can_run {
                    run_loop.go_on();
                }
            }
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
    /// Logits after a row.
    vocabulary_size: usize,
    /// A run takes as many of these as the session has threads.
    cores: Arc<Cores>,
    threads: usize,
    observer: Arc<dyn Observer>,
    jobs: HashMap<RequestId, Job>,
}

/// One request's part in a run.
#[derive(Clone, Copy)]
enum Part {
    Chunk(Chunk),
    Step(Step),
}

/// What a run takes: rows and those of them whose logits are wanted, with the stretch of both that each part has.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    logits: Vec<usize>,
    /// Of `logits`, by part.
    asked: Vec<Range<usize>>,
    /// What was drafted, by part.
    drafts: Vec<Vec<u32>>,
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

    fn obey(&mut self, decision: &Decision) {
        for (id, why) in &decision.ended {
            self.end(*id, *why);
        }
        for change in &decision.changes {
            self.change(change);
        }
    }

    /// Runs what is to run once there are cores for it: who came while it waited for them may go first.
    fn go_on(&mut self) {
        let budget = self.cores.clone();
        let mut cores = state::cores(&self.shared, &budget, self.threads);
        let decision = state::choose(&self.shared, &mut self.jobs, &cores);
        self.obey(&decision);
        if let Some(run) = decision.run {
            if run.class == Class::Interactive {
                cores.will_come_back();
                budget.interactive_arrived(self.is_anonymous(&run));
            }
            self.run(&run, cores);
        }
    }

    /// Whether a run is for signs of life alone.
    fn is_anonymous(&self, run: &Run) -> bool {
        let chunks = run.chunks.iter().map(|chunk| chunk.request);
        let mut requests = chunks.chain(run.steps.iter().map(|step| step.sequence.request));
        requests.all(|id| self.jobs.get(&id).is_none_or(|job| job.params.key.is_anonymous()))
    }

    fn probe(&mut self, probe: Probe) {
        let slot = self.session.extent().slots - 1; // no request's
        let budget = self.cores.clone();
        let _cores = state::cores_for_probe(&budget, self.threads);
        let tokens = probe.prompt.iter().enumerate();
        let rows: Vec<Row> = tokens.map(|(position, token)| Row { token: *token, slot, position }).collect();
        let last = [rows.len() - 1];
        let (outcome, _) =
            observed(&*self.observer, Kind::Probe, self.vocabulary_size, || self.session.run(&rows, &last));
        let outcome = outcome.map(drop);
        self.session.release(slot);
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

    fn change(&mut self, change: &SlotChange) {
        match *change {
            SlotChange::Copy { from, to, tokens } => self.session.copy(from, to, tokens),
            SlotChange::Release(slot) => self.session.release(slot),
        }
    }

    /// Runs what the planner says. What fails runs again in halves, so that what is at fault fails alone, and then without a
    /// draft: slots hold what they held, so each may run again.
    fn run(&mut self, run: &Run, cores: Permit<'_>) {
        let chunks = run.chunks.iter().map(|chunk| Part::Chunk(*chunk));
        let parts: Vec<Part> = chunks.chain(run.steps.iter().map(|step| Part::Step(*step))).collect();
        let mut cores = Some(cores);
        for chunk in &run.chunks {
            if let Some(job) = self.jobs.get_mut(&chunk.request).filter(|job| job.began.is_none()) {
                job.start(chunk.start);
            }
        }
        let mut outcomes: HashMap<RequestId, Option<Failure>> = HashMap::new();
        let mut left = vec![parts];
        while let Some(mut parts) = left.pop() {
            let batch = self.batch(&parts);
            let (logits, kind) = (batch.logits.len() * self.vocabulary_size, kind(&parts));
            let began = Instant::now();
            let (outcome, took) =
                observed(&*self.observer, kind, logits, || self.session.run(&batch.rows, &batch.logits));
            let is_least = parts.len() == 1 && batch.drafts.iter().all(Vec::is_empty);
            if left.is_empty() && (outcome.is_ok() || is_least) {
                cores = None; // nothing runs again
            }
            match outcome {
                Ok(logits) => {
                    let Kind::Work { prompt_tokens, rows } = kind else { continue };
                    let mut counts = Counts { prompt_tokens, steps: rows, ..Counts::default() };
                    for ((part, asked), draft) in parts.iter().zip(batch.asked).zip(&batch.drafts) {
                        let logits = &logits[asked.start * self.vocabulary_size..asked.end * self.vocabulary_size];
                        let Some(job) = self.jobs.get_mut(&part.request()) else { continue };
                        let taken = match part {
                            Part::Chunk(chunk) => {
                                let others = prompt_tokens + rows - chunk.tokens;
                                job.chunks.note(ChunkRun { began, took, tokens: chunk.tokens, others, runs: 1 });
                                read(&self.shared, &self.masks, &self.vocabulary, job, chunk, logits).map(|()| 0)
                            }
                            Part::Step(step) => verify(&self.shared, &self.masks, job, step.sequence, draft, logits),
                        };
                        if let Ok(accepted) = taken
                            && !draft.is_empty()
                        {
                            counts.drafted += draft.len();
                            counts.accepted += accepted;
                            let _ = fenced(|| self.observer.drafted(draft.len(), accepted));
                        }
                        let failure = taken.err();
                        let known = outcomes.entry(part.request()).or_default();
                        *known = known.take().or(failure);
                    }
                    plan(&self.shared, |planner, _| planner.ran(run.class, counts, took));
                }
                Err(error) => match parts[..] {
                    [part] if is_least => _ = outcomes.insert(part.request(), Some(Failure::RunFailed(error.0))),
                    [Part::Step(step)] => {
                        if let Some(job) = self.jobs.get_mut(&step.sequence.request) {
                            job.sequences[step.sequence.choice].verified(batch.drafts[0].len(), 0);
                        }
                        left.push(vec![Part::Step(Step { draft: 0, ..step })]);
                    }
                    _ => {
                        let behind = parts.split_off(parts.len() / 2);
                        left.extend([parts, behind]);
                    }
                },
            }
        }
        drop(cores);
        for (request, failure) in outcomes {
            self.settle(request, failure);
        }
    }

    fn batch(&mut self, parts: &[Part]) -> Batch {
        let mut batch = Batch::default();
        for part in parts {
            let job = self.jobs.get_mut(&part.request()).expect("what runs is of a request that is here");
            let (asked, mut draft) = (batch.logits.len(), Vec::new());
            match part {
                Part::Chunk(chunk) => {
                    let tokens = &job.prompt[chunk.start..chunk.start + chunk.tokens];
                    let row = |(position, token): (usize, &u32)| Row { token: *token, slot: chunk.slot, position };
                    batch.rows.extend((chunk.start..).zip(tokens).map(row));
                    batch.logits.extend(chunk.last.then_some(batch.rows.len() - 1));
                }
                Part::Step(step) => {
                    draft = job.draft(step.sequence.choice, step.draft);
                    let last = job.sequences[step.sequence.choice].last();
                    for (position, token) in (step.position..).zip([last].iter().chain(&draft)) {
                        batch.logits.push(batch.rows.len());
                        batch.rows.push(Row { token: *token, slot: step.slot, position });
                    }
                }
            }
            batch.asked.push(asked..batch.logits.len());
            batch.drafts.push(draft);
        }
        batch
    }

    /// After a run: ends a request that failed or is complete, and pauses one whose reader leaves no room.
    fn settle(&mut self, id: RequestId, failure: Option<Failure>) {
        let Some(job) = self.jobs.get(&id) else { return };
        if let Some(failure) = failure {
            job.tell(Event::Failed(failure));
            return self.forget(id);
        }
        if job.is_done() {
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

impl Part {
    fn request(&self) -> RequestId {
        match self {
            Self::Chunk(chunk) => chunk.request,
            Self::Step(step) => step.sequence.request,
        }
    }
}

fn kind(parts: &[Part]) -> Kind {
    let of_chunk = |part: &Part| match part {
        Part::Chunk(chunk) => Some(chunk.tokens),
        Part::Step(_) => None,
    };
    let chunks: Vec<usize> = parts.iter().filter_map(of_chunk).collect();
    Kind::Work { prompt_tokens: chunks.iter().sum(), rows: parts.len() - chunks.len() }
}

/// Takes note that a part of a prompt was read. After the last one its continuations begin.
fn read(
    shared: &Shared,
    masks: &Masks,
    vocabulary: &Arc<Vocabulary>,
    job: &mut Job,
    chunk: &Chunk,
    logits: &[f32],
) -> Result<(), Failure> {
    plan(shared, |planner, _| planner.read(chunk));
    if !chunk.last {
        return Ok(());
    }
    job.first_token = Some(Instant::now());
    let new = |choice| Sequence::new(&job.params, choice, &job.prompt, vocabulary.clone());
    job.sequences = own(|| Ok((0..job.choices).map(new).collect()))?;
    let ids = (0..job.choices).map(|choice| SequenceId { request: chunk.request, choice });
    ids.map(|id| advance(shared, masks, job, id, logits).map(drop)).fold(Ok(()), Result::and)
}

/// Lets a continuation say what comes after its last token, and after those that were drafted as long as it says them too. Gives
/// how many these were. Each is chosen by the logits that it would be chosen by without a draft.
fn verify(
    shared: &Shared,
    masks: &Masks,
    job: &mut Job,
    id: SequenceId,
    draft: &[u32],
    logits: &[f32],
) -> Result<usize, Failure> {
    let vocabulary = logits.len() / (draft.len() + 1);
    let mut accepted = 0;
    for (place, logits) in logits.chunks_exact(vocabulary).enumerate() {
        if !advance(shared, masks, job, id, logits)? {
            break; // what comes next is not known yet
        }
        let sequence = &job.sequences[id.choice];
        let goes_on = draft.get(place) == Some(&sequence.last());
        accepted += usize::from(goes_on);
        if !goes_on || sequence.is_finished() {
            break;
        }
    }
    job.sequences[id.choice].verified(draft.len(), accepted);
    Ok(accepted)
}

/// Lets a continuation say its next token, if it is known which ones may come. Gives whether it is.
fn advance(shared: &Shared, masks: &Masks, job: &mut Job, id: SequenceId, logits: &[f32]) -> Result<bool, Failure> {
    let said = own(|| {
        let sequence = &mut job.sequences[id.choice];
        Ok(sequence.advance(logits)?.map(|said| (said, sequence.ask())))
    })?;
    let Some((said, request)) = said else {
        plan(shared, |planner, _| planner.wait(id));
        return Ok(false);
    };
    if let Some(request) = request {
        masks.ask(id, request);
    }
    plan(shared, |planner, _| {
        planner.said(id, &[said.token.token]);
        if said.finish.is_some() {
            planner.finish(id);
        }
    });
    job.tell(Event::Delta(Delta { choice: id.choice, token: said.token, text: said.text, finish: said.finish }));
    Ok(true)
}

/// Does what concerns one request alone: a panic is its failure, and what that leaves half changed goes with it.
fn own<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    fenced(work).unwrap_or_else(|panic| Err(Failure::RunFailed(panic)))
}

/// Runs the session for so many logits, and tells the observer, whose panic is no part of the run. The session keeps nothing
/// from one run to the next but slots, which hold what they held: a panic leaves it usable.
fn observed<'a>(
    observer: &dyn Observer,
    kind: Kind,
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
    let ran = Ran { kind, took, error: outcome.as_ref().err().map(ToString::to_string) };
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
        draft_tokens: 0,
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
            draft_tokens: 0,
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
