//! Whatever runs beside it, whenever others come and go, and however slowly it is read: a continuation says what it says
//! alone, token by token.

use std::{collections::HashMap, sync::Arc};

use futures_util::{FutureExt, future::select_all};
use hotpath_bundle::GoldenPrompt;
use hotpath_generation::{Class, Done, Engine, Event, Finish, Format, Sampling, Started, Stop, Stream, Work};
use hotpath_testing::{generation_bundle, golden_generations, tiny_decoder};

use crate::{
    Silent,
    formats::Dawdling,
    solo::{Model, Random, Text},
};

struct Case {
    work: Work,
    /// What each choice says alone.
    alone: Vec<Text>,
}

/// Prompts that begin alike in part, with all kinds of settings.
fn cases(model: &Model, count: usize, longest: usize, seed: u64) -> Vec<Case> {
    let mut random = Random(seed);
    let mut session = model.session(1);
    let vocabulary = model.bundle.manifest.tokenizer().unwrap().vocabulary_size as usize;
    let own = model.bundle.manifest.generation().unwrap().stop_token_ids.clone();
    let token = |seed: usize, place: usize| u32::try_from((seed * 7919 + place * 104_729 + 13) % vocabulary).unwrap();
    let mut case = |number: usize| {
        let (family, common) = (random.below(3), random.below(longest));
        let length = 1 + random.below(longest);
        let prompt: Vec<u32> =
            (0..length).map(|place| token(if place < common { family } else { 1000 + number }, place)).collect();
        let greedy = random.below(2) == 0;
        let sampling = Sampling {
            temperature: if greedy { 0.0 } else { 0.8 },
            top_p: if random.below(2) == 0 { 1.0 } else { 0.9 },
            top_k: if random.below(2) == 0 { 0 } else { 40 },
            frequency_penalty: if random.below(3) == 0 { 0.7 } else { 0.0 },
            repetition_penalty: if random.below(3) == 0 { 1.2 } else { 1.0 },
            seed: random.below(1000) as u64,
            ..Sampling::default()
        };
        let choices = if random.below(4) == 0 { 2 } else { 1 };
        let max_tokens = 1 + random.below(24);
        let ignore_eos = random.below(2) == 0;
        let stop_ids: Vec<u32> = if ignore_eos { vec![] } else { own.clone() };
        let solo = |choice| model.solo(&mut session, &prompt, &sampling, choice, max_tokens, &stop_ids);
        let alone = (0..choices).map(solo).collect();
        let work = Work {
            class: if random.below(4) == 0 { Class::Batch } else { Class::Interactive },
            key: format!("key-{}", random.below(2)).into(),
            deadline: None,
            prompt: prompt.clone(),
            max_tokens,
            choices,
            sampling: sampling.clone(),
            stop: Stop { ignore_eos, ..Stop::default() },
            format: (random.below(3) == 0).then(|| Format::new(Box::new(Dawdling(number as u64))).unwrap()),
        };
        Case { work, alone }
    };
    (0..count).map(&mut case).collect()
}

/// What a stream has said so far.
struct Listener<'a> {
    case: &'a Case,
    stream: Stream,
    started: Option<Started>,
    said: Vec<Text>,
}

impl Listener<'_> {
    /// Holds an event against what is said alone. Gives the reused tokens with the last one.
    fn hear(&mut self, event: Event) -> Option<usize> {
        match event {
            Event::Started(started) => {
                assert!(self.started.replace(started).is_none(), "it starts twice");
                assert_eq!(started.prompt_tokens, self.case.work.prompt.len());
                None
            }
            Event::Delta(delta) => {
                assert!(self.started.is_some(), "it says something before it starts");
                let (said, alone) = (&mut self.said[delta.choice], &self.case.alone[delta.choice]);
                said.tokens.push(delta.token.token);
                said.text.push_str(&delta.text);
                assert_eq!(said.tokens, alone.tokens[..said.tokens.len()], "another token than alone");
                assert!(alone.text.starts_with(&said.text), "{:?} is not {:?}", said.text, alone.text);
                let ends = said.tokens.len() == alone.tokens.len();
                assert_eq!(delta.finish.is_some(), ends);
                if let Some(finish) = delta.finish {
                    assert_eq!(said.text, alone.text);
                    let last = *said.tokens.last().unwrap();
                    assert!(
                        finish == Finish::Length && said.tokens.len() == self.case.work.max_tokens
                            || finish == Finish::StopToken(last)
                    );
                }
                None
            }
            Event::Done(done) => {
                assert!(self.said == self.case.alone, "done before the end");
                let Done { prompt_tokens, cached_tokens, .. } = done;
                assert_eq!(self.started, Some(Started { prompt_tokens, cached_tokens }));
                assert!(done.cached_tokens < done.prompt_tokens);
                assert_eq!(done.completion_tokens, self.said.iter().map(|text| text.tokens.len()).sum::<usize>());
                Some(done.cached_tokens)
            }
            Event::Failed(failure) => panic!("{failure}"),
        }
    }
}

/// Reads an event of one of them; of any other where that one has none. Those that have room may wait for those that are
/// not read, so to wait for one alone might be to wait forever.
async fn read(listeners: &mut [Listener<'_>], which: usize) -> (usize, Event) {
    let ended = "a stream ends with an event that says so";
    if let Some(event) = listeners[which].stream.next().now_or_never() {
        return (which, event.expect(ended));
    }
    let reads = listeners.iter_mut().map(|listener| Box::pin(listener.stream.next()));
    let (event, which, _) = select_all(reads).await;
    (which, event.expect(ended))
}

/// Lets requests come, be read and go in a random order; gives how many tokens were reused.
async fn mingle(engine: &Engine, cases: &[Case], seed: u64) -> usize {
    let mut random = Random(seed);
    let (mut waiting, mut listeners, mut reused) = (cases.iter().collect::<Vec<_>>(), Vec::new(), 0);
    while !(waiting.is_empty() && listeners.is_empty()) {
        match random.below(8) {
            0..2 if !waiting.is_empty() => {
                let case = waiting.swap_remove(random.below(waiting.len()));
                let said = vec![Text { tokens: vec![], text: String::new() }; case.work.choices];
                listeners.push(Listener {
                    case,
                    stream: engine.submit(case.work.clone()).unwrap(),
                    started: None,
                    said,
                });
            }
            2 if random.below(6) == 0 && !listeners.is_empty() => {
                drop(listeners.swap_remove(random.below(listeners.len()))); // goes away, in whatever phase
            }
            _ if !listeners.is_empty() => {
                // Which of them are read is up to chance too, so that some are read slowly.
                let chosen = random.below(listeners.len());
                let (which, event) = read(&mut listeners, chosen).await;
                if let Some(cached) = listeners[which].hear(event) {
                    reused += cached;
                    listeners.swap_remove(which);
                }
            }
            _ => (),
        }
    }
    reused
}

/// Waits until nothing is left of any request; what was cancelled last leaves with the loop's next look.
async fn slots_become_free(engine: &Engine) {
    while engine.load().reserved_tokens > 0 {
        tokio::task::yield_now().await;
    }
    let load = engine.load();
    assert_eq!((load.queued_requests, load.prefilling, load.decoding, load.parked), (0, 0, 0, 0));
}

#[tokio::test]
async fn many_that_come_and_go() {
    let model = Model::new(tiny_decoder(), 32, 256);
    let cases = cases(&model, 60, 150, 1);
    let mut reused = 0;
    for seed in 0..6 {
        // Little room and small buffers, so that requests wait for both.
        let settings = model.settings(4, 900, 4);
        let engine =
            Engine::start(Box::new(model.session(settings.limits.slots())), settings, Arc::new(Silent)).unwrap();
        reused += mingle(&engine, &cases, seed).await;
        slots_become_free(&engine).await;
        engine.close();
    }
    assert!(reused > 1000, "only {reused} tokens were reused");
}

#[tokio::test]
async fn many_that_come_and_go_with_the_default_model() {
    let model = Model::new(generation_bundle(), 64, 512);
    let cases = cases(&model, 10, 150, 2);
    let settings = model.settings(4, 2048, 8);
    let engine = Engine::start(Box::new(model.session(settings.limits.slots())), settings, Arc::new(Silent)).unwrap();
    mingle(&engine, &cases, 3).await;
    engine.close();
}

#[tokio::test]
async fn one_that_is_retired_keeps_nothing_and_finishes_what_it_has() {
    let model = Model::new(tiny_decoder(), 32, 256);
    let settings = model.settings(2, 900, 4);
    let engine = Engine::start(Box::new(model.session(settings.limits.slots())), settings, Arc::new(Silent)).unwrap();
    let work = |first| Work {
        class: Class::Interactive,
        key: "a".into(),
        deadline: None,
        prompt: (first..first + 40).collect(),
        max_tokens: 20,
        choices: 1,
        sampling: Sampling::default(),
        stop: Stop { ignore_eos: true, ..Stop::default() },
        format: None,
    };
    let finish = async |mut stream: Stream| {
        while let Some(event) = stream.next().await {
            assert!(!matches!(event, Event::Failed(_)), "{event:?}");
        }
    };
    finish(engine.submit(work(2)).unwrap()).await;
    while engine.load().cached_tokens == 0 {
        tokio::task::yield_now().await;
    }
    let runs = engine.submit(work(100)).unwrap();
    engine.retire();
    assert_eq!(engine.load().cached_tokens, 0);
    finish(runs).await;
    slots_become_free(&engine).await;
    assert_eq!(engine.load().cached_tokens, 0);
    engine.close();
}

async fn golden_cases_are_replayed(model: &Model) {
    let golden = golden_generations(&model.bundle);
    let settings = model.settings(golden.cases.len(), 100_000, 64);
    let engine = Engine::start(Box::new(model.session(settings.limits.slots())), settings, Arc::new(Silent)).unwrap();
    for together in [false, true] {
        let mut streams = HashMap::new();
        for (number, case) in golden.cases.iter().enumerate() {
            let work = Work {
                class: Class::Interactive,
                key: "".into(),
                deadline: None,
                prompt: case.prompt_ids.clone(),
                max_tokens: case.graphs[0].token_ids.len(),
                choices: 1,
                sampling: Sampling::default(),
                stop: Stop { ignore_eos: true, ..Stop::default() },
                format: None,
            };
            streams.insert(number, engine.submit(work).unwrap());
            if !together {
                check_golden(golden, &mut streams).await;
            }
        }
        check_golden(golden, &mut streams).await;
    }
    assert!(golden.cases.iter().any(|case| matches!(case.prompt, GoldenPrompt::Text(_))));
    engine.close();
}

async fn check_golden(golden: &hotpath_bundle::GoldenGenerations, streams: &mut HashMap<usize, Stream>) {
    for (number, mut stream) in streams.drain() {
        let mut tokens = Vec::new();
        while let Some(event) = stream.next().await {
            match event {
                Event::Delta(delta) => tokens.push(delta.token.token),
                Event::Started(_) | Event::Done(_) => (),
                Event::Failed(failure) => panic!("{failure}"),
            }
        }
        assert_eq!(tokens, golden.cases[number].graphs[0].token_ids, "case {number}");
    }
}

#[tokio::test]
async fn golden_bits_of_random_weights() {
    golden_cases_are_replayed(&Model::new(tiny_decoder(), 32, 512)).await;
}

#[tokio::test]
async fn golden_answers_of_the_default_model() {
    golden_cases_are_replayed(&Model::new(generation_bundle(), 128, 1024)).await;
}
