//! With drafts a continuation says what it says without them, event by event, whatever its settings are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hotpath_generation::{AHEAD, Ahead, Class, Engine, Event, Format, Grammar, Observer, Ran, Sampling, Stop, Work};
use hotpath_testing::tiny_decoder;
use proptest::prelude::*;

use crate::solo::{Model, Random};

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

/// A format of chance: what was said decides on what must come next, and on what may behind that. Its replies come sooner or
/// later than its text's next step.
#[derive(Debug, Clone)]
struct Chance(u64);

impl Grammar for Chance {
    fn push(&mut self, token: u32) -> Result<(), String> {
        self.0 = (self.0 ^ u64::from(token)).wrapping_mul(6_364_136_223_846_793_005).rotate_left(17);
        Ok(())
    }

    fn ahead(&mut self) -> Result<Ahead, String> {
        let mut random = Random(self.0);
        let until = Instant::now() + Duration::from_micros([0, 100, 1000][random.below(3)]);
        while Instant::now() < until {
            std::thread::yield_now();
        }
        let mut token = || u32::try_from(2 + random.below(248)).unwrap();
        let (count, some) = (token() as usize % (2 * AHEAD), [token(), token()]);
        let forced: Vec<u32> = (0..count.saturating_sub(AHEAD)).map(|_| token()).collect();
        forced.iter().try_for_each(|token| self.push(*token))?;
        let mut mask = vec![if random.below(3) == 0 { u32::MAX } else { 0 }; 16];
        for token in some {
            mask[token as usize / 32] |= 1 << (token % 32);
        }
        Ok(Ahead { forced, mask: mask.into(), likely: (random.below(3) > 0).then_some(some[0]) })
    }

    fn fork(&self) -> Box<dyn Grammar> {
        Box::new(self.clone())
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
    is_the_same_with_drafts(works());
}

#[test]
fn what_a_format_leaves_no_choice_of_is_drafted_and_changes_nothing() {
    let works = (works(), any::<u64>()).prop_map(|(work, chance)| {
        let format = Format::new(Box::new(Chance(chance))).unwrap();
        let sampling = Sampling { min_tokens: 0, ..work.sampling };
        Work { format: Some(format), sampling, ..work }
    });
    is_the_same_with_drafts(works);
}

fn is_the_same_with_drafts(works: impl Strategy<Value = Work>) {
    let model = Model::new(tiny_decoder(), 32, 256);
    let ((plain, none), (drafting, counts)) = (engine(&model, 0), engine(&model, 8));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    proptest!(ProptestConfig::with_cases(300), |(work in works)| {
        let (expected, found) = runtime.block_on(async { (told(&plain, work.clone()).await, told(&drafting, work).await) });
        // Choices take turns in other ways, and each one says the same.
        let sorted = |mut told: Vec<String>| { told.sort_by_key(|event| event.contains("choice: 1")); told };
        prop_assert_eq!(sorted(found), sorted(expected));
    });
    assert_eq!(none.drafted.load(Ordering::Relaxed), 0);
    let (drafted, accepted) = (counts.drafted.load(Ordering::Relaxed), counts.accepted.load(Ordering::Relaxed));
    // Several hundred, as chance has it.
    assert!(accepted > 100, "{accepted} of {drafted} were accepted: nothing is tested");
    plain.close();
    drafting.close();
}
