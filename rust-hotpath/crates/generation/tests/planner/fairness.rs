//! Whatever others send, a key with one small request is admitted and served within a stated number of decisions; and
//! nobody's large one waits for ever.

use std::{collections::BTreeMap, time::Duration};

use hotpath_generation::planner::{Class, Counts, Limits, Planner, Request, RequestId, Run, SequenceId};
use proptest::prelude::*;

use crate::LIMITS;

/// Four rows and 1024 tokens are a reserve; of these one key may have a row and 256 tokens.
const ROOMY: Limits = Limits {
    batch: 32,
    cache_tokens: 8192,
    granule: 16,
    context_tokens: 4096,
    chunk_tokens: 64,
    reuse_tokens: 16,
    max_queued_tokens: 20_000,
    max_wait: Duration::MAX,
    ..LIMITS
};

const OTHERS: usize = 6;
/// Most tokens that a small request of others says.
const SHORT: usize = 32;

/// In every fourth run the key goes first whose prompts have not for longest.
const UNTIL_READ: usize = 4 * (OTHERS + 1) * 8 / 7; // every eighth run may be one of steps alone
/// Then each run has a token of it.
const A_TOKEN: usize = 1;
/// Every other key may be in the reserve once before.
const UNTIL_ADMITTED: usize = OTHERS * (UNTIL_READ + A_TOKEN * SHORT);

#[derive(Debug, Clone, Copy)]
struct Ask {
    class: Class,
    key: usize,
    prompt: usize,
    says: usize,
    choices: usize,
}

/// Runs what a planner says, where every request says as much as it may.
struct Drive {
    planner: Planner,
    asked: BTreeMap<RequestId, (Ask, Vec<usize>)>,
    /// How long a run of so many tokens of prompts and steps takes.
    takes: fn(u32, u32) -> Duration,
}

impl Drive {
    fn new(limits: Limits) -> Self {
        Self { planner: Planner::new(limits), asked: BTreeMap::new(), takes: |_, _| Duration::from_millis(1) }
    }

    fn submit(&mut self, ask: Ask) -> Option<RequestId> {
        let request = Request {
            class: ask.class,
            key: format!("key-{}", ask.key).into(),
            deadline: None,
            prompt: vec![u32::try_from(self.asked.len()).unwrap(); ask.prompt].into(),
            max_tokens: ask.says,
            choices: ask.choices,
        };
        let id = self.planner.submit(Duration::ZERO, request).ok()?;
        self.asked.insert(id, (ask, vec![0; ask.choices]));
        Some(id)
    }

    /// Gives how many tokens of prompts were run.
    fn next(&mut self) -> usize {
        let Some(Run { class, chunks, steps }) = self.planner.next(Duration::ZERO, None).run else { return 0 };
        let mut said: Vec<SequenceId> = steps.iter().map(|step| step.sequence).collect();
        let read: usize = chunks.iter().map(|chunk| chunk.tokens).sum();
        let counts = Counts { prompt_tokens: read, steps: steps.len(), ..Counts::default() };
        let took = (self.takes)(u32::try_from(read).unwrap(), u32::try_from(steps.len()).unwrap());
        self.planner.ran(class, counts, took);
        for chunk in chunks {
            self.planner.read(&chunk);
            let choices = if chunk.last { self.asked[&chunk.request].0.choices } else { 0 };
            said.extend((0..choices).map(|choice| SequenceId { request: chunk.request, choice }));
        }
        for id in said {
            let (ask, said) = self.asked.get_mut(&id.request).unwrap();
            said[id.choice] += 1;
            self.planner.said(id, &[0]);
            if said[id.choice] == ask.says {
                self.planner.finish(id);
            }
        }
        read
    }

    fn said(&self, id: RequestId) -> usize {
        self.asked[&id].1[0]
    }

    /// Decisions until something is so, if they are at most so many.
    fn until(
        &mut self,
        most: usize,
        mut before: impl FnMut(&mut Self),
        is_so: impl Fn(&Self) -> bool,
    ) -> Option<usize> {
        (0..=most).find(|_| {
            let is_so = is_so(self);
            if !is_so {
                before(self);
                self.next();
            }
            is_so
        })
    }
}

fn asks(class: impl Strategy<Value = Class>) -> impl Strategy<Value = Ask> {
    let long = (1..1000_usize, 1000..3000_usize, 1..3_usize);
    let short = (1..64_usize, 1..=SHORT, Just(1));
    let size = prop_oneof![3 => long, 2 => short];
    (class, 0..OTHERS, size).prop_map(|(class, key, (prompt, says, choices))| Ask { class, key, prompt, says, choices })
}

fn any_class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Interactive), Just(Class::Batch)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_small_request_of_a_key_that_has_nothing_is_served_whatever_others_send(
        before in prop::collection::vec((asks(any_class()), 0..10_usize), 20..60),
        meanwhile in prop::collection::vec(asks(any_class()), 1..20),
        meanwhile_batch in prop::collection::vec(asks(Just(Class::Batch)), 1..20),
        class in any_class(),
        prompt in 1..64_usize,
        says in 1..64_usize,
    ) {
        let mut drive = Drive::new(ROOMY);
        for (mut ask, decisions) in before {
            // Interactive work goes first, so for one of batch work it counts what other batch work is there.
            ask.class = if class == Class::Batch { Class::Batch } else { ask.class };
            drive.submit(ask);
            (0..decisions).for_each(|_| _ = drive.next());
        }
        let meanwhile = if class == Class::Batch { meanwhile_batch } else { meanwhile };
        let mut others = meanwhile.into_iter().cycle();
        let mut more = |drive: &mut Drive| _ = drive.submit(others.next().unwrap());
        let newcomer = drive.submit(Ask { class, key: OTHERS, prompt, says, choices: 1 });
        let newcomer = newcomer.expect("one that has nothing is always let in");
        drive.until(UNTIL_ADMITTED, &mut more, |drive| !drive.planner.is_waiting(newcomer)).expect("never admitted");
        drive.until(UNTIL_READ, &mut more, |drive| drive.said(newcomer) > 0).expect("its prompt is never read");
        drive.until(A_TOKEN * says, &mut more, |drive| drive.said(newcomer) == says).expect("it never goes on");
    }
}

fn interactive(key: usize, prompt: usize, says: usize) -> Ask {
    Ask { class: Class::Interactive, key, prompt, says, choices: 1 }
}

/// Many long generations of one key, and a short one of another: as on a busy service.
#[test]
fn a_flood_of_one_key_leaves_rows_and_memory_for_another() {
    let mut drive = Drive::new(Limits { cache_tokens: 1 << 20, ..ROOMY });
    (0..64).for_each(|_| _ = drive.submit(interactive(0, 20, 500)));
    (0..200).for_each(|_| _ = drive.next());
    assert_eq!(drive.planner.load().decoding, 25, "of 32 rows one key takes all but a fifth of what is left");
    let short = drive.submit(interactive(1, 20, 8)).unwrap();
    let decisions = drive.until(30, |_| (), |drive| drive.said(short) == 8);
    assert!(decisions.is_some_and(|decisions| decisions <= 10), "{decisions:?}");

    let mut drive = Drive::new(ROOMY);
    (0..64).for_each(|_| _ = drive.submit(interactive(0, 20, 1000)));
    (0..200).for_each(|_| _ = drive.next());
    assert_eq!(drive.planner.load().decoding, 5, "1024 tokens each of 7168");
    let large = drive.submit(interactive(1, 1000, 800)).unwrap();
    drive.next();
    assert!(!drive.planner.is_waiting(large), "a key that waits for its own others holds up nobody");
}

/// Two keys always have something that fits, and would take all that becomes free before there is room for a large one.
#[test]
fn a_large_request_is_not_passed_for_ever() {
    let mut drive = Drive::new(ROOMY);
    let small = |drive: &mut Drive| {
        for key in 0..4 {
            while drive.submit(interactive(key, 500, 500)).is_some() {}
        }
    };
    small(&mut drive);
    (0..100).for_each(|_| _ = drive.next());
    let large = drive.submit(interactive(4, 3000, 1000)).unwrap();
    let decisions = drive.until(5000, small, |drive| !drive.planner.is_waiting(large));
    assert!(decisions.is_some(), "it is passed for ever");
    let newcomer = drive.submit(interactive(5, 8, 8)).unwrap();
    drive.next();
    assert!(!drive.planner.is_waiting(newcomer), "the reserve is not held back");
}

/// While room is made for a large one, the reserve is there for those that have nothing.
#[test]
fn what_is_held_back_for_a_large_request_is_not_the_reserve() {
    let mut drive = Drive::new(ROOMY);
    for key in 0..3 {
        (0..9).for_each(|_| _ = drive.submit(interactive(key, 100, 900)));
    }
    (0..100).for_each(|_| _ = drive.next());
    let large = drive.submit(interactive(4, 3000, 1000)).unwrap();
    for key in 5..50 {
        let small = drive.submit(interactive(key, 8, 8)).unwrap();
        drive.until(30, |_| (), |drive| drive.said(small) == 8).expect("a small one waits for the large one");
    }
    assert!(drive.planner.is_waiting(large));
    drive.until(5000, |_| (), |drive| !drive.planner.is_waiting(large)).expect("it is passed for ever");
}

/// Some prompt is always being read, from the first stream on.
#[test]
fn what_a_run_takes_of_prompts_that_never_end_grows_with_the_streams() {
    let mut drive = Drive::new(Limits { chunk_tokens: 512, cache_tokens: 1 << 20, ..ROOMY });
    drive.takes = |tokens, steps| Duration::from_millis(2) + Duration::from_micros(200) * (5 * steps + tokens);
    let mut streams = 0;
    for (more, decisions, expected) in [(1, 100, 30), (15, 400, 180)] {
        for _ in 0..more {
            drive.submit(interactive(streams, 1, 3000)).unwrap();
            streams += 1;
        }
        let mut read = Vec::new();
        for _ in 0..decisions {
            while drive.planner.load().prefilling + drive.planner.load().queued_requests < 3 {
                drive.submit(interactive(1000, 4000, 1)).unwrap();
            }
            read.push(drive.next());
        }
        let latest = &read[decisions - 16..];
        assert_eq!(latest.iter().filter(|tokens| **tokens == 0).count(), 2, "every eighth run is of steps alone");
        let of_prompts = latest.iter().filter(|tokens| **tokens > 0);
        let close = expected * 9 / 10..=expected * 11 / 10;
        assert!(of_prompts.clone().all(|tokens| close.contains(tokens)), "{streams} streams: {read:?}");
    }
}
