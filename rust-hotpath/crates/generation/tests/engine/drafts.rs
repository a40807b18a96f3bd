//! With drafts a continuation says what it says without them, event by event, whatever its settings are.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hotpath_generation::{Class, Engine, Event, Observer, Ran, Sampling, Stop, Work};
use hotpath_testing::tiny_decoder;
use proptest::prelude::*;

use crate::solo::Model;

/// Counts tokens that were drafted, and those that were accepted.
#[derive(Default)]
struct Counts {
    drafted: AtomicUsize,
    accepted: AtomicUsize,
}

struct Counting(Arc<Counts>);

impl Observer for Counting {
    fn ran(&self, _: &Ran) {}

    fn drafted(&self, drafted: usize, accepted: usize) {
        assert!(accepted <= drafted && drafted > 0);
        self.0.drafted.fetch_add(drafted, Ordering::Relaxed);
        self.0.accepted.fetch_add(accepted, Ordering::Relaxed);
    }
}

fn engine(model: &Model, draft_tokens: usize) -> (Engine, Arc<Counts>) {
    let mut settings = model.settings(4, 4000, 4);
    settings.limits.draft_tokens = draft_tokens;
    let (session, counts) = (Box::new(model.session(settings.limits.slots())), Arc::new(Counts::default()));
    (Engine::start(session, settings, Arc::new(Counting(counts.clone()))).unwrap(), counts)
}

/// All that a stream tells but for times.
async fn told(engine: &Engine, work: Work) -> Vec<String> {
    let mut stream = engine.submit(work).unwrap();
    let mut told = Vec::new();
    while let Some(event) = stream.next().await {
        told.push(match event {
            Event::Started(_) => continue, // what is cached depends on what was before
            Event::Done(done) => format!("{} tokens", done.completion_tokens),
            other => format!("{other:?}"),
        });
    }
    told
}

fn works() -> impl Strategy<Value = Work> {
    let prompt = prop_oneof![
        (2..200_u32, 1..9_u32, 1..60_u32)
            .prop_map(|(first, period, length)| (0..length).map(|i| first + i % period).collect()),
        prop::collection::vec(2..250_u32, 1..30),
    ];
    let temperature = prop_oneof![3 => Just(0.0_f32), 1 => Just(0.3), 1 => Just(1.2)];
    let penalties = prop_oneof![3 => Just((0.0_f32, 1.0_f32)), 1 => Just((0.5, 1.0)), 1 => Just((0.0, 1.3))];
    let bias = prop::collection::vec((2..250_u32, -5.0..5.0_f32), 0..3);
    let stop = (prop::bool::ANY, prop::collection::vec("[a-e]{1,2}", 0..3), prop::collection::vec(2..250_u32, 0..9));
    let top = prop::option::of(0..3_u8);
    (prompt, temperature, penalties, bias, stop, top, 1..40_usize, 0..20_u32, any::<u64>(), 1..3_usize).prop_map(
        |(prompt, temperature, penalties, logit_bias, stop, top_logprobs, max_tokens, min_tokens, seed, choices)| {
            Work {
                class: Class::Interactive,
                key: "a".into(),
                deadline: None,
                prompt,
                max_tokens,
                choices,
                sampling: Sampling {
                    temperature,
                    frequency_penalty: penalties.0,
                    repetition_penalty: penalties.1,
                    logit_bias,
                    top_logprobs,
                    min_tokens,
                    seed,
                    ..Sampling::default()
                },
                stop: Stop { ignore_eos: stop.0, strings: stop.1, token_ids: stop.2 },
                format: None,
            }
        },
    )
}

#[test]
fn what_is_said_is_what_would_be_said_without_drafts() {
    let model = Model::new(tiny_decoder(), 32, 256);
    let ((plain, none), (drafting, counts)) = (engine(&model, 0), engine(&model, 8));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    proptest!(ProptestConfig::with_cases(150), |(work in works())| {
        let (expected, found) = runtime.block_on(async { (told(&plain, work.clone()).await, told(&drafting, work).await) });
        // Choices take turns in other ways, and each one says the same.
        let sorted = |mut told: Vec<String>| { told.sort_by_key(|event| event.contains("choice: 1")); told };
        prop_assert_eq!(sorted(found), sorted(expected));
    });
    assert_eq!(none.drafted.load(Ordering::Relaxed), 0);
    let (drafted, accepted) = (counts.drafted.load(Ordering::Relaxed), counts.accepted.load(Ordering::Relaxed));
    assert!(accepted > 100, "{accepted} of {drafted} were accepted: nothing is tested");
    plain.close();
    drafting.close();
}
