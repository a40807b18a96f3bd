//! `Generate`: a request's way from its message to its stream.

use std::{sync::Arc, time::Instant};

use futures_util::stream::{self, BoxStream};
use hotpath_contract::inference::v1::{
    GenerateDelta, GenerateDone, GenerateRequest, GenerateResponse, GenerateStarted, GenerateTimings, GeneratedToken,
    LengthReached, TokenLogprob, finish::Reason, generate_response,
};
use hotpath_fairness::Turn;
use hotpath_generation::{Choice, Chunks, Delta, Done, Event, Finish, Format, Refusal, Rejected, Stream, Work};
use hotpath_text::{Found, Vocabulary};
use tonic::Status;
use tracing::Span;

use super::shared::{Inference, count, duration};
use crate::{
    call::Call,
    error::Error,
    metrics::{Generated, Metrics, Outcome},
    models::{serving::Serving, tasks::generation::Generator},
    requests::{
        self,
        generate::{self, Prompt, Room, Wanted},
    },
    tokenization::{Caller, cannot},
    traces::{CANCELLED, Trace, conventions},
};

/// What a call's caller is sent.
pub type Replies = BoxStream<'static, Result<GenerateResponse, Status>>;

impl Inference {
    /// Queues a request and gives the stream of what comes of it.
    pub(super) async fn generate_replies(&self, call: Call, mut request: GenerateRequest) -> Result<Replies, Error> {
        let model = self.models.find(&request.model)?;
        let (turn, max_charge) = requests::scheduling(request.scheduling.take())?;
        let prompt = generate::prompt(request.prompt.take())?;
        let wanted = generate::format(request.format.take(), request.stop.as_ref())?;
        let serving = model.ready()?;
        let generator = serving.generator()?;
        let vocabulary_size = generator.texts.limits.vocabulary_size;
        let choices = generate::choices(request.choices, generator.max_choices)?;
        let sampling = generate::sampling(&request, vocabulary_size, fresh_seed)?;
        let stop = generate::stop(request.stop, vocabulary_size)?;

        let (owner, field) = (serving.clone(), prompt.field());
        let bytes = prompt.bytes();
        let limits = generator.engine.limits();
        let room = Room { choices, each: limits.longest(turn.class, choices), alone: limits.longest(turn.class, 1) };
        check_room(generator, &turn, request.max_tokens, &prompt, room)
            .inspect_err(|_| Ending::refused(&self.metrics, model.name()))?;
        let tokenizing = move |_: &Caller| ids(&owner, prompt, room.alone);
        let prompt = call.in_span("tokenize", self.tokenization.run(&turn, bytes, tokenizing)).await?;
        let max_tokens =
            generate::max_tokens(field, request.max_tokens, prompt.len(), generator.default_max_tokens, room)?;
        max_charge.allows(prompt.len().saturating_add(choices.saturating_mul(max_tokens)))?;
        let format = match wanted {
            None => None,
            Some(wanted) => Some(call.in_span("format", Self::format(&turn, &serving, wanted, choices)).await?),
        };
        let mut ending = Ending::new(self.metrics.clone(), model.name(), prompt.len());
        ending.recording = call.trace.clone().map(|trace| Recording::new(trace, choices));
        let strings = stop.strings.clone();
        let tokenize = call.started.elapsed();
        let (class, key, deadline) = (turn.class, turn.key, call.deadline);
        let work = Work { class, key, deadline, prompt, max_tokens, choices, sampling, stop, format };
        let stream = generator.engine.submit(work).map_err(|rejected| refused(rejected, field));
        let (stream, mut ending) = ending.unless_refused(stream)?;
        if let Some(recording) = &mut ending.recording {
            recording.chunks = stream.chunks();
        }
        let vocabulary = generator.vocabulary.clone();
        let span = Span::current();
        Ok(ReplyStream { call, serving, vocabulary, stream, strings, tokenize, ending, span }.replies())
    }

    /// What the text must parse as, ready to be followed by so many.
    async fn format(turn: &Turn, serving: &Serving, wanted: Wanted, choices: usize) -> Result<Format, Error> {
        let formats = &serving.generator()?.formats;
        Ok(match wanted {
            Wanted::JsonObject => formats.json_object(turn, choices)?,
            Wanted::JsonSchema(schema) => formats.json_schema(turn, &schema, choices).await?,
        })
    }
}

/// Refuses a request while that costs little: before its prompt is tokenized, where the least that it may have does not find
/// room. One that is known to be too long is left to be told so.
fn check_room(generator: &Generator, turn: &Turn, max_tokens: u32, prompt: &Prompt, room: Room) -> Result<(), Error> {
    let prompt_tokens = match prompt {
        Prompt::Text(text) => generator.texts.tokenizer.at_least(text).max(1),
        Prompt::Conversation(messages) => generator.chat.as_ref().map_or(1, |chat| chat.at_least(messages)),
        Prompt::Ids(ids) => ids.len(),
    };
    let most = generate::max_tokens(prompt.field(), max_tokens, prompt_tokens, generator.default_max_tokens, room);
    let Ok(most) = most else { return Ok(()) };
    Ok(generator.engine.check_room(turn.class, &turn.key, prompt_tokens + most, room.choices)?)
}

/// Random numbers for a request that brings no seed.
fn fresh_seed() -> u64 {
    // Where the system has no randomness to give, one seed is as good as another.
    getrandom::u64().unwrap_or_default()
}

/// The ids of a prompt, at least one. A long text is not looked at to its end when they are more than `limit`.
fn ids(serving: &Serving, prompt: Prompt, limit: usize) -> Result<Vec<u32>, Error> {
    let field = prompt.field();
    let generator = serving.generator()?;
    let found = match prompt {
        Prompt::Text(text) => generator.texts.tokenizer.ids(&text, limit),
        Prompt::Conversation(messages) => {
            let chat = generator.chat.as_ref();
            let chat = chat.ok_or_else(|| serving.task_mismatch("has no chat template, it only continues texts"))?;
            chat.ids(&messages, limit)
        }
        Prompt::Ids(ids) => Ok(Found { tokens: ids, is_all: true }),
    };
    let Found { tokens: ids, is_all } = found.map_err(|error| cannot(field.to_owned(), error))?;
    if !is_all {
        return Err(Error::InputTooLong { field: field.to_owned(), actual: None, limit });
    }
    generate::known_ids(field, &ids, generator.texts.limits.vocabulary_size)?;
    if ids.is_empty() { Err(Error::EmptyInput { field: field.to_owned() }) } else { Ok(ids) }
}

/// Why the engine does not take a request. All but a full queue was checked before.
fn refused(rejected: Rejected, field: &'static str) -> Error {
    match rejected {
        Rejected::Refused(Refusal::Full(full)) => full.into(),
        Rejected::Refused(Refusal::Empty) => Error::EmptyInput { field: field.to_owned() },
        other => Error::Internal { cause: other.to_string() },
    }
}

/// A stream that is told to its caller.
struct ReplyStream {
    call: Call,
    serving: Arc<Serving>,
    vocabulary: Arc<Vocabulary>,
    stream: Stream,
    /// The request's stop strings.
    strings: Vec<String>,
    /// What checking and tokenizing took.
    tokenize: std::time::Duration,
    ending: Ending,
    /// The call's, so that what is logged later bears its request id.
    span: Span,
}

impl ReplyStream {
    /// Its messages. The last one is `done` or an error.
    fn replies(self) -> Replies {
        let next = async |stream: Option<Self>| {
            let mut stream = stream?;
            let reply = stream.next().await;
            let ended =
                matches!(reply, Err(_) | Ok(GenerateResponse { event: Some(generate_response::Event::Done(_)) }));
            let reply = reply.map_err(|error| stream.span.in_scope(|| Status::from(error)));
            Some((reply, if ended { None } else { Some(stream) }))
        };
        Box::pin(stream::unfold(Some(self), next))
    }

    async fn next(&mut self) -> Result<GenerateResponse, Error> {
        let event = async {
            match self.stream.next().await {
                Some(Event::Failed(failure)) => Err(failure.into()),
                Some(event) => Ok(event),
                None => Err(Error::Internal { cause: "a stream went on after its end".to_owned() }),
            }
        };
        let event = self.call.within_deadline(event).await;
        self.ending.note(&event);
        let event = match event? {
            Event::Started(started) => generate_response::Event::Started(GenerateStarted {
                revision: self.serving.revision().to_string(),
                prompt_tokens: count(started.prompt_tokens)?,
                cached_tokens: count(started.cached_tokens)?,
            }),
            Event::Delta(delta) => generate_response::Event::Delta(self.delta(delta)?),
            Event::Done(done) => generate_response::Event::Done(self.done(&done)?),
            Event::Failed(failure) => return Err(failure.into()),
        };
        Ok(GenerateResponse { event: Some(event) })
    }

    fn delta(&self, delta: Delta) -> Result<GenerateDelta, Error> {
        let reason = delta.finish.map(|finish| match finish {
            Finish::StopToken(id) => Reason::StopTokenId(id),
            Finish::StopString(which) => Reason::StopString(self.strings.get(which).cloned().unwrap_or_default()),
            Finish::Length => Reason::Length(LengthReached {}),
        });
        Ok(GenerateDelta {
            choice: count(delta.choice)?,
            text: delta.text,
            tokens: vec![self.token(&delta.token)],
            finish: reason.map(|reason| hotpath_contract::inference::v1::Finish { reason: Some(reason) }),
        })
    }

    fn token(&self, choice: &Choice) -> GeneratedToken {
        let bytes = |id| self.vocabulary.bytes(id).to_vec();
        let top =
            choice.top.iter().map(|top| TokenLogprob { id: top.token, bytes: bytes(top.token), logprob: top.logprob });
        GeneratedToken {
            id: choice.token,
            bytes: bytes(choice.token),
            logprob: choice.logprob.unwrap_or(0.0),
            top_logprobs: top.collect(),
        }
    }

    fn done(&self, done: &Done) -> Result<GenerateDone, Error> {
        Ok(GenerateDone {
            revision: self.serving.revision().to_string(),
            prompt_tokens: count(done.prompt_tokens)?,
            cached_tokens: count(done.cached_tokens)?,
            completion_tokens: count(done.completion_tokens)?,
            timings: Some(GenerateTimings {
                tokenize: duration(self.tokenize),
                queue: duration(done.queue),
                prefill: duration(done.prefill),
                decode: duration(done.decode),
            }),
        })
    }
}

/// Counts a generation when it ends; one that is dropped was cancelled.
struct Ending {
    metrics: Arc<Metrics>,
    model: String,
    generated: Generated,
    /// Of the call's trace, if that is recorded.
    recording: Option<Recording>,
}

impl Ending {
    fn new(metrics: Arc<Metrics>, model: &str, prompt_tokens: usize) -> Self {
        let outcome = Outcome::Cancelled;
        let generated = Generated { outcome, prompt_tokens, reused_tokens: 0, tokens: 0 };
        Self { metrics, model: model.to_owned(), generated, recording: None }
    }

    /// Counts a request that was refused before its prompt was tokenized.
    fn refused(metrics: &Metrics, model: &str) {
        let outcome = Outcome::Refused;
        metrics.generation(model, Generated { outcome, prompt_tokens: 0, reused_tokens: 0, tokens: 0 });
    }

    /// Goes on with a request that was queued, and counts one that was not.
    fn unless_refused<T>(mut self, result: Result<T, Error>) -> Result<(T, Self), Error> {
        match result {
            Ok(queued) => Ok((queued, self)),
            Err(error) => {
                let result: Result<T, Error> = Err(error);
                self.generated.outcome = Outcome::of(&result);
                self.recording = None; // it was never queued
                result.map(|queued| (queued, self))
            }
        }
    }

    fn note(&mut self, event: &Result<Event, Error>) {
        if let Some(recording) = &mut self.recording {
            recording.note(event);
        }
        match event {
            Ok(Event::Started(started)) => self.generated.reused_tokens = started.cached_tokens,
            Ok(Event::Delta(_)) => self.generated.tokens += 1,
            Ok(Event::Done(done)) => {
                self.generated.outcome = Outcome::Completed;
                let trace = self.recording.as_ref().map(|recording| &*recording.trace);
                self.metrics.queued(&self.model, "Generate", done.queue.as_secs_f64(), trace);
                self.metrics.first_token(&self.model, (done.queue + done.prefill).as_secs_f64(), trace);
            }
            Ok(Event::Failed(_)) | Err(_) => self.generated.outcome = Outcome::of(event),
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.metrics.generation(&self.model, self.generated);
        if let Some(recording) = &self.recording {
            recording.end(&self.model, self.generated);
        }
    }
}

/// When a generation went on to what, for its call's trace.
struct Recording {
    trace: Arc<Trace>,
    choices: usize,
    queued: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    /// The runs that read the prompt.
    chunks: Chunks,
    /// Why it did not end well; as long as it has not ended, its caller left it.
    failed: Option<&'static str>,
}

impl Recording {
    fn new(trace: Arc<Trace>, choices: usize) -> Self {
        let (started, first_token, last_token) = (None, None, None);
        let (queued, chunks, failed) = (Instant::now(), Chunks::default(), Some(CANCELLED));
        Self { trace, choices, queued, started, first_token, last_token, chunks, failed }
    }

    fn note(&mut self, event: &Result<Event, Error>) {
        let now = Instant::now();
        match event {
            Ok(Event::Started(_)) => self.started = Some(now),
            Ok(Event::Delta(_)) => {
                self.first_token.get_or_insert(now);
                self.last_token = Some(now);
            }
            Ok(Event::Done(_)) => self.failed = None,
            Ok(Event::Failed(failure)) => self.failed = Some(Error::from(failure.clone()).reason_name()),
            Err(error) => self.failed = Some(error.reason_name()),
        }
    }

    /// Ends the spans of what it came to: the last one is the one that failed.
    fn end(&self, model: &str, generated: Generated) {
        let (now, chunks) = (Instant::now(), self.chunks.so_far());
        // That a chunk had begun may have been heard late.
        let started = chunks.first().map(|first| first.began.max(self.queued)).or(self.started);
        let children = [
            ("queue", Some(self.queued), started),
            ("prefill", started, self.first_token),
            ("decode", self.first_token, None),
        ];
        for (name, from, to) in children {
            let Some(from) = from else { return };
            let child = self.trace.child(name, from, to.unwrap_or(now));
            let child = match name {
                "prefill" => {
                    let mut child = child.with([
                        conventions::model(model),
                        conventions::tokens(generated.prompt_tokens),
                        conventions::reused_tokens(generated.reused_tokens),
                    ]);
                    for run in &chunks {
                        child = child.event_with("chunk", run.began, conventions::chunk(run));
                    }
                    child
                }
                "decode" => {
                    let child = child.with([
                        conventions::model(model),
                        conventions::tokens(generated.tokens),
                        conventions::choices(self.choices),
                    ]);
                    let child = child.event("first token", from);
                    self.last_token.into_iter().fold(child, |child, at| child.event("last token", at))
                }
                _ => child,
            };
            child.end(self.failed.filter(|_| to.is_none()));
        }
    }
}
