//! A hot path: its planners, asked as its threads ask them, and runs that take as long as the costs say.

use std::collections::{BTreeMap, BTreeSet};

use hotpath_cores::planner::{self as cores, AskId, Grant};
use hotpath_encoding::planner as encoding;
use hotpath_fairness::{Class, Key};
use hotpath_generation::planner as generation;

use crate::{
    Time,
    costs::{Costs, DecoderWork, number},
    random::mix,
    scenario::Settings,
    traffic::{Call, What},
};

/// Names a request to the fleet.
pub(crate) type FlightId = usize;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Its first token is there. So many of its prompt's were reused.
    First {
        reused: usize,
    },
    Done,
    /// It waited for too long.
    Waited,
    /// Its time was over.
    Late,
}

/// Which of a replica's threads.
pub(crate) type Thread = usize;

/// What a replica says after it was asked for anything.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub progress: Vec<(FlightId, Progress)>,
    /// Runs that began, by thread, and when they will end.
    pub runs: Vec<(Thread, Time)>,
    /// When it wants to be asked again, if nothing happens before.
    pub wake: Option<Time>,
}

/// A hot path.
#[derive(Debug)]
pub(crate) struct Replica {
    costs: Costs,
    limits: generation::Limits,
    threads: usize,
    generation: generation::Planner,
    encoding: encoding::Planner,
    cores: cores::Planner,
    texts: BTreeMap<generation::RequestId, Text>,
    embeddings: BTreeMap<encoding::RequestId, (FlightId, usize)>,
    /// The decoder's loop, and then the encoder's workers.
    work: Vec<Doing>,
    /// How many times as long runs take.
    pub pace: f64,
    /// Core-seconds of runs.
    pub busy: f64,
}

#[derive(Debug)]
enum Doing {
    Nothing,
    Asking(AskId),
    Generating { run: generation::Run, took: Time, grant: Grant },
    Encoding { batch: Vec<encoding::Item>, took: Time, grant: Grant },
}

/// A generation.
#[derive(Debug)]
struct Text {
    flight: FlightId,
    conversation: u64,
    prompt: usize,
    output: usize,
    said: usize,
    /// Tokens of the prompt that were not read; `None` before it is begun.
    reused: Option<usize>,
}

impl Replica {
    pub fn new(costs: &Costs, settings: &Settings) -> Self {
        Self {
            costs: costs.clone(),
            limits: settings.generation(),
            threads: settings.generation_threads.min(settings.cores),
            generation: generation::Planner::new(settings.generation()),
            encoding: encoding::Planner::new(settings.encoding()),
            cores: cores::Planner::new(settings.cores),
            texts: BTreeMap::new(),
            embeddings: BTreeMap::new(),
            work: (0..=settings.workers).map(|_| Doing::Nothing).collect(),
            pace: 1.0,
            busy: 0.0,
        }
    }

    /// Takes a request, or says how long what its key has waiting takes.
    pub fn submit(&mut self, now: Time, flight: FlightId, call: &Call, deadline: Time) -> Result<(), Time> {
        let (class, key) = (call.class, Key::from(format!("tenant-{}", call.tenant)));
        match &call.what {
            What::Generate { prompt, output, most } => {
                let tokens = (0..*prompt).map(|place| token(call.conversation, place)).collect();
                let request = generation::Request {
                    class,
                    key,
                    deadline: Some(deadline),
                    prompt: tokens,
                    max_tokens: *most,
                    choices: 1,
                };
                let id = self.generation.submit(now, request).map_err(|refusal| match refusal {
                    generation::Refusal::Full(full) => full.waiting,
                    _ => Time::ZERO, // it never fits
                })?;
                let (conversation, prompt, output) = (call.conversation, *prompt, *output);
                self.texts.insert(id, Text { flight, conversation, prompt, output, said: 0, reused: None });
            }
            What::Embed { inputs } => {
                let count = inputs.len();
                let request = encoding::Request { class, key, deadline: Some(deadline), inputs: inputs.clone() };
                let id = self.encoding.submit(now, request).map_err(|full| full.waiting)?;
                self.embeddings.insert(id, (flight, count));
            }
        }
        if class == Class::Interactive {
            self.cores.interactive_arrived(now);
        }
        Ok(())
    }

    /// Tokens that it has to do, as it tells them.
    pub fn load(&self) -> usize {
        let (generation, encoding) = (self.generation.load(), self.encoding.load());
        generation.queued_tokens + generation.reserved_tokens + encoding.queued_tokens + encoding.running_tokens
    }

    /// Those that it has.
    pub fn flights(&self) -> impl Iterator<Item = FlightId> {
        let texts = self.texts.values().map(|text| text.flight);
        texts.chain(self.embeddings.values().map(|(flight, _)| *flight))
    }

    /// A run has ended.
    pub fn end(&mut self, now: Time, thread: Thread, output: &mut Output) {
        match std::mem::replace(&mut self.work[thread], Doing::Nothing) {
            Doing::Generating { run, took, grant } => {
                self.generated(&run, took, output);
                self.cores.give_back(now, grant, run.class == Class::Interactive);
            }
            Doing::Encoding { batch, took, grant } => {
                self.cores.give_back(now, grant, false);
                self.encoding.finished(batch.len(), batch.iter().map(|item| item.tokens).sum(), took);
                for item in batch {
                    let Some((flight, left)) = self.embeddings.get_mut(&item.request) else { continue };
                    *left -= 1;
                    if *left == 0 {
                        output.progress.push((*flight, Progress::Done));
                        self.embeddings.remove(&item.request);
                    }
                }
            }
            other => self.work[thread] = other, // nothing ran
        }
    }

    /// What every continuation of a run said.
    fn generated(&mut self, run: &generation::Run, took: Time, output: &mut Output) {
        let mut counts = generation::Counts { steps: run.steps.len(), ..generation::Counts::default() };
        let mut speaks = Vec::new();
        for chunk in &run.chunks {
            counts.prompt_tokens += chunk.tokens;
            self.generation.read(chunk);
            if chunk.last {
                speaks.push(chunk.request);
            }
        }
        speaks.extend(run.steps.iter().map(|step| step.sequence.request));
        for id in speaks {
            let Some(text) = self.texts.get_mut(&id) else { continue };
            let sequence = generation::SequenceId { request: id, choice: 0 };
            self.generation.said(sequence, &[token(text.conversation, text.prompt + text.said)]);
            text.said += 1;
            if text.said == 1 {
                output.progress.push((text.flight, Progress::First { reused: text.reused.unwrap_or(0) }));
            }
            if text.said == text.output {
                output.progress.push((text.flight, Progress::Done));
                self.generation.finish(sequence);
                self.texts.remove(&id);
            }
        }
        self.generation.ran(run.class, counts, took);
    }

    /// Lets every thread go on that can.
    pub fn go_on(&mut self, now: Time, output: &mut Output) {
        loop {
            self.ask_for_cores(now, output);
            // Who is first has its cores first, whichever thread it is.
            let asking = self.work.iter().enumerate().find_map(|(thread, doing)| match doing {
                Doing::Asking(id) => Some((thread, self.cores.take(now, *id)?)),
                _ => None,
            });
            let Some((thread, grant)) = asking else { break };
            self.work[thread] = Doing::Nothing;
            if thread == 0 { self.generate(now, grant, output) } else { self.encode(now, thread, grant, output) }
        }
        for doing in &self.work {
            if let Doing::Asking(id) = doing
                && let Some(wake) = self.cores.wake(now, *id)
            {
                output.wake = Some(output.wake.map_or(wake, |other| other.min(wake)));
            }
        }
    }

    /// Threads that have something to do ask for cores, for the class that it is of now.
    fn ask_for_cores(&mut self, now: Time, output: &mut Output) {
        match self.work[0] {
            Doing::Nothing => {
                let settled = self.generation.settle(now);
                self.texts_ended(&settled.ended, output);
                if self.generation.can_run() {
                    let class = if self.generation.is_urgent() { Class::Interactive } else { Class::Batch };
                    self.work[0] = Doing::Asking(self.cores.ask(now, class, self.threads));
                } else if let Some(wake) = settled.wake {
                    output.wake = Some(output.wake.map_or(wake, |other| other.min(wake)));
                }
            }
            Doing::Asking(id) => {
                let class = if self.generation.is_urgent() { Class::Interactive } else { Class::Batch };
                self.cores.classify(id, class);
            }
            _ => (),
        }
        let highest = self.encoding.highest().unwrap_or(Class::Batch);
        let mut waiting = self.encoding.load().queued_inputs; // a worker for each is enough
        for doing in &mut self.work[1..] {
            match doing {
                Doing::Nothing if waiting == 0 => continue,
                Doing::Nothing => *doing = Doing::Asking(self.cores.ask(now, highest, 1)),
                Doing::Asking(id) => self.cores.classify(*id, highest),
                _ => continue,
            }
            waiting = waiting.saturating_sub(1);
        }
    }

    fn generate(&mut self, now: Time, grant: Grant, output: &mut Output) {
        let decision = self.generation.next(now, grant.is_brief.then_some(generation::TIME_SLICE));
        self.texts_ended(&decision.ended, output);
        let Some(run) = decision.run else {
            self.cores.give_back(now, grant, false);
            return;
        };
        self.check(&run);
        let mut work = DecoderWork { rows: run.steps.len(), ..DecoderWork::default() };
        work.cached = run.steps.iter().map(|step| step.position).sum();
        for chunk in &run.chunks {
            work.prompt += chunk.tokens;
            work.prompt_cached += chunk.tokens * chunk.start + chunk.tokens * (chunk.tokens - 1) / 2;
            if let Some(text) = self.texts.get_mut(&chunk.request) {
                text.reused.get_or_insert(chunk.start);
            }
        }
        for change in &decision.changes {
            if let generation::SlotChange::Copy { tokens, .. } = change {
                work.copied += tokens;
            }
        }
        if run.class == Class::Interactive {
            self.cores.interactive_arrived(now);
        }
        let took = self.costs.decoder.time(&work).mul_f64(self.pace);
        self.busy += took.as_secs_f64() * number(grant.cores);
        self.work[0] = Doing::Generating { run, took, grant };
        output.runs.push((0, now + took));
    }

    fn encode(&mut self, now: Time, thread: Thread, grant: Grant, output: &mut Output) {
        if grant.class == Class::Interactive && self.encoding.highest() != Some(Class::Interactive) {
            self.cores.give_back(now, grant, false);
            return;
        }
        let encoding::Decision { expired, batch } =
            self.encoding.next(now, grant.is_brief.then_some(encoding::TIME_SLICE));
        for (id, why) in expired {
            let Some((flight, _)) = self.embeddings.remove(&id) else { continue };
            let progress = if why == encoding::Expiry::Deadline { Progress::Late } else { Progress::Waited };
            output.progress.push((flight, progress));
        }
        if batch.is_empty() {
            self.cores.give_back(now, grant, false);
            return;
        }
        let took = self.costs.encoder.time(batch.iter().map(|item| item.tokens).sum()).mul_f64(self.pace);
        self.busy += took.as_secs_f64() * number(grant.cores);
        self.work[thread] = Doing::Encoding { batch, took, grant };
        output.runs.push((thread, now + took));
    }

    fn texts_ended(&mut self, ended: &[(generation::RequestId, generation::Ended)], output: &mut Output) {
        for (id, why) in ended {
            let Some(text) = self.texts.remove(id) else { continue };
            let progress = if *why == generation::Ended::MaxWait { Progress::Waited } else { Progress::Late };
            output.progress.push((text.flight, progress));
        }
    }

    /// What the planner promises of each run, whatever comes.
    fn check(&self, run: &generation::Run) {
        if !cfg!(debug_assertions) {
            return; // it takes longer than the planner
        }
        let (load, limits) = (self.generation.load(), &self.limits);
        let prompt: usize = run.chunks.iter().map(|chunk| chunk.tokens).sum();
        assert!(prompt <= limits.chunk_tokens && run.steps.len() <= limits.rows_per_class(), "{run:?}");
        assert!(load.reserved_tokens + load.cached_tokens <= limits.cache_tokens, "{load:?}");
        assert!(run.steps.iter().all(|step| step.position < limits.context_tokens), "{run:?}");
        let slots = || run.chunks.iter().map(|chunk| chunk.slot).chain(run.steps.iter().map(|step| step.slot));
        assert!(slots().collect::<BTreeSet<_>>().len() == slots().count(), "{run:?}");
        assert!(prompt + run.steps.len() > 0);
    }
}

/// What stands at a place of a conversation: the same in each of its turns, and nothing that another one has.
#[allow(clippy::cast_possible_truncation)] // any part of it does
fn token(conversation: u64, place: usize) -> u32 {
    mix(conversation.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place as u64) as u32
}
