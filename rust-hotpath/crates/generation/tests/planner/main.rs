//! The planner's promises, as properties of any interleaving of arrivals, lengths, cancellations, deadlines and slow readers.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

mod events;
mod fairness;
mod world;

use std::time::Duration;

use events::{Arrival, Event};
use hotpath_generation::planner::{
    Class, Counts, Ended, Limits, Planner, Refusal, Request, Run, SequenceId, SlotChange,
};
use proptest::prelude::*;
use world::World;

const LIMITS: Limits = Limits {
    batch: 3,
    cache_tokens: 160,
    granule: 4,
    context_tokens: 64,
    chunk_tokens: 8,
    draft_tokens: 3,
    reuse_tokens: 4,
    max_queued_tokens: 400,
    max_wait: Duration::from_millis(500),
    max_parked: Duration::from_millis(100),
    share_prefixes: false,
};

/// A prompt that begins like others of its family.
fn prompt(family: u32, common: usize, own: u32, length: usize) -> Vec<u32> {
    (0..length).map(|place| if place < common { family } else { own }).collect()
}

fn prompts() -> impl Strategy<Value = Vec<u32>> {
    let length = prop_oneof![8 => 1..30_usize, 1 => 30..60_usize];
    (0..2_u32, 0..40_usize, 10..14_u32, length)
        .prop_map(|(family, common, own, length)| prompt(family, common, own, length))
}

fn arrivals() -> impl Strategy<Value = Arrival> {
    let class = prop_oneof![2 => Just(Class::Interactive), 1 => Just(Class::Batch)];
    let says = prop_oneof![
        4 => prop::collection::vec(1..12_usize, 1),
        1 => prop::collection::vec(1..6_usize, 1..4),
    ];
    let deadline = prop::option::of(0..300_u64);
    (class, 0..3_usize, prompts(), says, 0..4_usize, deadline).prop_map(
        |(class, key, prompt, says, spare, deadline)| {
            let max_tokens = says.iter().max().unwrap() + spare;
            Arrival { class, key, prompt, max_tokens, says, deadline }
        },
    )
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let any = any::<prop::sample::Index>;
    let event = prop_oneof![
        4 => arrivals().prop_map(Event::Arrive),
        2 => (any(), arrivals()).prop_map(|(which, arrival)| Event::Follow(which, arrival)),
        12 => Just(Event::Next),
        1 => prop::option::of(1..12_u64).prop_map(Event::TimeSlice),
        1 => any().prop_map(Event::Fail),
        1 => any().prop_map(Event::Cancel),
        1 => any().prop_map(Event::Pause),
        1 => any().prop_map(Event::Resume),
        2 => (any(), 0..3_usize).prop_map(|(which, choice)| Event::Hold(which, choice)),
        3 => (any(), 0..3_usize).prop_map(|(which, choice)| Event::GoOn(which, choice)),
        1 => (0..60_u64).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 1..250)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// [`World`] holds every decision against the rules and every row against what it must hold; at the end it drains the
    /// queue and accounts for every request.
    #[test]
    fn any_interleaving_keeps_the_rules(events in events(), share_prefixes in any::<bool>()) {
        let mut world = World::new(Limits { share_prefixes, ..LIMITS });
        for event in events {
            world.apply(event);
        }
        world.drain();
    }
}

fn arrival(prompt: Vec<u32>, says: usize) -> Arrival {
    Arrival { class: Class::Interactive, key: 0, prompt, max_tokens: says, says: vec![says], deadline: None }
}

#[test]
fn a_prompt_that_begins_like_another_is_read_from_where_they_part() {
    let mut world = World::new(LIMITS);
    let first = prompt(1, 22, 7, 30);
    world.arrive(arrival(first.clone(), 2)).unwrap();
    world.drain();
    world.arrive(arrival(prompt(1, 22, 8, 30), 2)).unwrap();
    world.drain();
    assert_eq!(world.reused, 22);
    world.arrive(arrival(first, 2)).unwrap(); // the same again: all but the token whose logits are wanted
    world.drain();
    assert_eq!(world.reused, 22 + 29);
    world.arrive(Arrival { key: 1, ..arrival(prompt(1, 22, 8, 30), 2) }).unwrap();
    world.drain();
    assert_eq!(world.reused, 22 + 29, "another key's prompts are its own");
}

#[test]
fn a_running_prompt_is_reused_too() {
    let mut world = World::new(LIMITS);
    world.arrive(arrival(prompt(1, 30, 7, 30), 20)).unwrap();
    for _ in 0..9 {
        world.next();
    }
    world.arrive(arrival(prompt(1, 16, 8, 20), 20)).unwrap();
    world.drain();
    assert_eq!(world.reused, 16);
}

/// What a continuation said last was never run, as is a stop token; the template's own tokens come after it.
#[test]
fn the_next_turn_of_a_conversation_reads_what_is_new_alone() {
    let mut world = World::new(LIMITS);
    let first = vec![7; 20];
    let turn = world.arrive(arrival(first.clone(), 9)).unwrap();
    world.drain();
    assert_eq!(world.planner.load().cached_tokens, 28);
    let second = [first, world.said(turn), vec![8; 5]].concat();
    world.arrive(arrival(second.clone(), 9)).unwrap();
    let decision = world.planner.next(Duration::ZERO, None);
    let chunk = decision.run.unwrap().chunks[0];
    assert_eq!((chunk.start, chunk.tokens), (28, 6), "the last token said, and five new ones");
    assert_eq!(decision.changes, [], "in the slot where it was: nothing is copied");
}

/// A conversation that goes another way keeps what was said before.
#[test]
fn another_reply_to_the_same_prompt_leaves_the_first_one_cached() {
    let mut world = World::new(LIMITS);
    let asked = vec![7; 20];
    let turn = world.arrive(arrival(asked.clone(), 9)).unwrap();
    world.drain();
    let replied = [asked.clone(), world.said(turn)].concat();
    world.arrive(arrival(asked, 1)).unwrap();
    world.drain();
    let before = world.reused;
    world.arrive(arrival([replied, vec![8; 5]].concat(), 1)).unwrap();
    world.drain();
    assert_eq!(world.reused - before, 28);
}

#[test]
fn one_token_at_least_is_left_to_read() {
    for (length, expected) in [(1, 0), (4, 0), (5, 4), (6, 5), (9, 8), (14, 13)] {
        let mut world = World::new(LIMITS);
        world.arrive(arrival(prompt(1, 40, 1, 40), 1)).unwrap();
        world.drain();
        world.arrive(arrival(prompt(1, length, 1, length), 1)).unwrap();
        world.drain();
        assert_eq!(world.reused, expected, "of {length} tokens: fewer than four are not worth it");
    }
}

#[test]
fn the_beginning_that_was_of_no_use_for_longest_makes_way() {
    let mut world = World::new(LIMITS);
    for family in [1, 2, 3, 1, 4, 5] {
        world.arrive(arrival(prompt(family, 36, family, 36), 1)).unwrap(); // room for four
        world.drain();
    }
    assert_eq!(world.reused, 35);
    for (family, reused) in [(1, 35), (2, 0)] {
        let before = world.reused;
        world.arrive(arrival(prompt(family, 36, family, 36), 1)).unwrap();
        world.drain();
        assert_eq!(world.reused - before, reused, "family {family}");
    }
}

#[test]
fn what_never_fits_is_refused_with_the_limit() {
    let mut world = World::new(LIMITS);
    let with = |prompt: usize, max_tokens: usize, choices: usize| Arrival {
        max_tokens,
        says: vec![1; choices],
        ..arrival(vec![1; prompt], 1)
    };
    assert_eq!(world.arrive(with(60, 5, 1)).unwrap_err(), Refusal::TooLong { tokens: 65, limit: 64 });
    assert_eq!(world.arrive(with(50, 4, 3)).unwrap_err(), Refusal::TooLong { tokens: 54, limit: 44 });
    world.arrive(with(40, 4, 3)).unwrap();
    let planner = &mut world.planner;
    let request = |prompt: usize, max_tokens, choices| Request {
        class: Class::Batch,
        key: "a".into(),
        deadline: None,
        prompt: vec![1; prompt].into(),
        max_tokens,
        choices,
    };
    let mut refusal = |request| planner.submit(Duration::ZERO, request).unwrap_err();
    assert_eq!(refusal(request(0, 1, 1)), Refusal::Empty);
    assert_eq!(refusal(request(1, 0, 1)), Refusal::Empty);
    assert_eq!(refusal(request(1, 1, 4)), Refusal::TooManyChoices { choices: 4, limit: 3 });
}

#[test]
fn keys_take_turns() {
    let mut world = World::new(Limits { batch: 1, cache_tokens: 2000, max_queued_tokens: 10_000, ..LIMITS });
    // One key comes with many, another with two, later.
    let many = (0..100).map(|_| world.arrive(arrival(vec![1; 20], 1)).unwrap()).collect::<Vec<_>>();
    let few: Vec<_> = (0..2).map(|_| world.arrive(Arrival { key: 1, ..arrival(vec![1; 20], 1) }).unwrap()).collect();
    let mut order = Vec::new();
    while let Some(run) = world.planner.next(Duration::ZERO, None).run {
        assert_eq!(run.steps, []);
        for chunk in run.chunks {
            world.planner.read(&chunk);
            if chunk.last {
                order.push(chunk.request);
                world.planner.finish(SequenceId { request: chunk.request, choice: 0 });
            }
        }
    }
    let place = |id| order.iter().position(|other| *other == id).unwrap();
    assert_eq!(order.len(), many.len() + few.len());
    assert!(few.iter().all(|id| place(*id) < 60), "a turn is 1024 tokens, so 42 requests of 24");
}

#[test]
fn one_key_leaves_room_in_the_queue_for_others() {
    let mut world = World::new(LIMITS);
    let of = |class, key| Arrival { class, key, ..arrival(vec![1; 10], 10) }; // 20 each, of 400 that may wait
    let flood = (0..100).take_while(|_| world.arrive(of(Class::Batch, 0)).is_ok()).count();
    assert_eq!(flood, 16);
    world.arrive(of(Class::Interactive, 0)).expect("another class of the same key");
    world.arrive(of(Class::Batch, 1)).expect("another key");
    world.drain();
}

#[test]
fn a_long_prompt_goes_first_in_every_fourth_run_of_a_stream_of_short_ones() {
    let mut world =
        World::new(Limits { cache_tokens: 2000, context_tokens: 1000, max_queued_tokens: 100_000, ..LIMITS });
    let long = world.arrive(arrival((0..800).collect(), 1)).unwrap();
    for n in 0..800 {
        world.arrive(arrival(vec![1000 + n; 8], 1)).unwrap();
    }
    let mut runs = 0;
    let mut is_read = false;
    while !is_read {
        let Some(run) = world.planner.next(Duration::ZERO, None).run else { panic!("prompts wait") };
        runs += 1;
        for chunk in run.chunks {
            world.planner.read(&chunk);
            if chunk.last {
                world.planner.finish(SequenceId { request: chunk.request, choice: 0 });
                is_read |= chunk.request == long;
            }
        }
    }
    assert!((300..=404).contains(&runs), "100 chunks of the long prompt took {runs} runs");
}

/// What a short prompt leaves of each run is little, and no turn of the one that gets it.
#[test]
fn a_prompt_that_had_what_was_left_of_runs_goes_first_all_the_same() {
    let mut world = World::new(Limits { cache_tokens: 4000, context_tokens: 1000, ..LIMITS });
    let [left, longest] =
        [(1, 300), (2, 400)].map(|(key, tokens)| world.arrive(Arrival { key, ..arrival(vec![1; tokens], 1) }).unwrap());
    let mut went_first = Vec::new();
    for run in 0..8 {
        let short = world.arrive(arrival(vec![1000 + run; 7], 1)).unwrap();
        let chunks = world.planner.next(Duration::ZERO, None).run.unwrap().chunks;
        went_first.extend((chunks[0].request != short).then_some(chunks[0].request));
        for chunk in &chunks {
            world.planner.read(chunk);
        }
        world.planner.cancel(short);
    }
    assert_eq!(went_first, [left, longest]);
}

#[test]
fn short_prompts_are_read_in_one_run() {
    let mut world = World::new(Limits { chunk_tokens: 16, ..LIMITS });
    for key in 0..3 {
        world.arrive(Arrival { key, ..arrival(vec![1; 5], 2) }).unwrap();
    }
    let run = world.planner.next(Duration::ZERO, None).run.unwrap();
    assert_eq!(run.chunks.iter().map(|chunk| (chunk.tokens, chunk.last)).collect::<Vec<_>>(), [(5, true); 3]);
}

/// However long a prompt is that comes along, each run has a token of every stream.
#[test]
fn a_long_prompt_keeps_no_stream_waiting() {
    let mut world = World::new(Limits { cache_tokens: 2000, context_tokens: 1000, ..LIMITS });
    let streams: Vec<_> =
        (0..2).map(|key| world.arrive(Arrival { key, ..arrival(vec![1; 4], 200) }).unwrap()).collect();
    world.next();
    world.arrive(Arrival { key: 2, ..arrival(vec![2; 400], 2) }).unwrap();
    for said in 1..50 {
        assert!(streams.iter().all(|stream| world.said(*stream).len() == said));
        world.next();
    }
}

/// It goes on in the middle of a run, as it were, and would wait for what is left of it.
#[test]
fn a_stream_that_waits_for_its_format_is_kept_waiting_by_no_long_chunk() {
    let mut world = World::new(Limits { chunk_tokens: 64, cache_tokens: 2000, ..LIMITS });
    let stream = world.arrive(arrival(vec![1; 4], 20)).unwrap();
    world.next();
    world.planner.wait(SequenceId { request: stream, choice: 0 });
    world.arrive(Arrival { key: 1, ..arrival(vec![2; 60], 1) }).unwrap();
    let tokens = |world: &mut World| world.planner.next(Duration::ZERO, None).run.unwrap().chunks[0].tokens;
    assert_eq!(tokens(&mut world), 8);
    world.planner.pause(Duration::ZERO, stream);
    assert_eq!(tokens(&mut world), 60, "one whose reader is slow waits for nothing");
}

#[test]
fn each_class_has_its_own_pace() {
    let mut planner = Planner::new(Limits { chunk_tokens: 64, cache_tokens: 2000, draft_tokens: 0, ..LIMITS });
    let submit = |planner: &mut Planner, prompt: usize| {
        let (class, key, prompt) = (Class::Interactive, "a".into(), vec![1; prompt].into());
        planner
            .submit(Duration::ZERO, Request { class, key, deadline: None, prompt, max_tokens: 4, choices: 1 })
            .unwrap()
    };
    let request = submit(&mut planner, 1);
    let run = planner.next(Duration::ZERO, None).run.unwrap();
    planner.read(&run.chunks[0]);
    planner.said(SequenceId { request, choice: 0 }, &[1]);
    submit(&mut planner, 60);
    let (steps, both) =
        (Counts { steps: 1, ..Counts::default() }, Counts { steps: 1, prompt_tokens: 10, ..Counts::default() });
    let drafts = Counts { drafted: 3, ..steps };
    let milliseconds = Duration::from_millis;
    planner.ran(Class::Interactive, steps, milliseconds(10));
    planner.ran(Class::Interactive, both, milliseconds(20));
    // Neither batch work nor a run with drafts says how long interactive steps take.
    (0..9).for_each(|_| planner.ran(Class::Batch, steps, milliseconds(500)));
    (0..9).for_each(|_| planner.ran(Class::Interactive, drafts, milliseconds(500)));
    assert_eq!(planner.next(Duration::ZERO, None).run.unwrap().chunks[0].tokens, 20);
}

#[test]
fn tokens_of_drafts_that_are_said_count_as_done() {
    let mut planner = Planner::new(LIMITS);
    let counts = Counts { prompt_tokens: 0, steps: 2, drafted: 6, accepted: 4 };
    (0..100).for_each(|_| planner.ran(Class::Interactive, counts, Duration::from_millis(10)));
    let rate = planner.tokens_per_second();
    assert!((rate - 600.0).abs() < 1.0, "{rate}");
}

#[test]
fn a_paused_request_waits_and_ends_after_a_while() {
    let mut world = World::new(LIMITS);
    let slow = world.arrive(arrival(vec![1; 4], 20)).unwrap();
    world.next();
    world.planner.pause(Duration::ZERO, slow);
    let decision = world.planner.next(Duration::ZERO, None);
    assert_eq!((decision.run, decision.wake), (None, Some(LIMITS.max_parked)));
    assert_eq!(world.planner.load().parked, 1);
    let ended = world.planner.next(LIMITS.max_parked, None).ended;
    assert_eq!(ended, [(slow, Ended::SlowReader)]);
    assert_eq!(world.planner.load().reserved_tokens, 0);
}

#[test]
fn a_continuation_that_waits_stays_where_it_is_and_holds_up_nobody() {
    let mut world = World::new(LIMITS);
    let costly = world.arrive(arrival(vec![1; 4], 30)).unwrap();
    world.arrive(arrival(vec![2; 4], 30)).unwrap();
    world.next();
    let sequence = SequenceId { request: costly, choice: 0 };
    let steps = |planner: &mut Planner| {
        let decision = planner.next(Duration::ZERO, None);
        assert_eq!(decision.changes, [], "slots are copied for every token");
        let Some(Run { steps, .. }) = decision.run else { panic!("a step") };
        steps.into_iter().map(|step| (step.sequence.request == costly, step.position)).collect::<Vec<_>>()
    };
    world.planner.wait(sequence);
    assert_eq!(steps(&mut world.planner), [(false, 4)], "nothing is run for it");
    world.planner.go_on(sequence);
    assert_eq!(steps(&mut world.planner), [(true, 4), (false, 4)]);
}

#[test]
fn choices_share_their_prompt_by_copies_and_the_last_one_to_end_leaves_its_text() {
    let mut world = World::new(LIMITS);
    world.arrive(Arrival { says: vec![1, 6, 3], ..arrival(vec![1; 10], 6) }).unwrap();
    (0..2).for_each(|_| _ = world.next());
    let changes = world.planner.next(Duration::ZERO, None).changes;
    assert_eq!(changes.iter().filter(|change| matches!(change, SlotChange::Copy { tokens: 10, .. })).count(), 2);
    let mut world = World::new(LIMITS);
    world.arrive(Arrival { says: vec![1, 6, 3], ..arrival(vec![1; 10], 6) }).unwrap();
    world.drain();
    assert_eq!(world.planner.load().cached_tokens, 16, "ten tokens and five, in pieces of four");
}

/// Where more rows would delay others they are none of a draft.
#[test]
fn drafts_are_run_beside_few_steps_and_no_prompt() {
    let mut world = World::new(Limits { batch: 8, cache_tokens: 2000, ..LIMITS });
    let drafts = |world: &mut World| {
        let run = world.planner.next(Duration::ZERO, None).run.unwrap();
        (run.chunks.len(), run.steps.iter().map(|step| step.draft).collect::<Vec<_>>())
    };
    let begin = |world: &mut World, key| {
        world.arrive(Arrival { key, ..arrival(vec![1; 4], 20) }).unwrap();
        let (chunks, steps) = drafts(world);
        assert_eq!((chunks, steps.iter().sum::<usize>()), (1, 0));
        world.next();
    };
    for streams in 1..5 {
        begin(&mut world, streams);
        assert_eq!(drafts(&mut world), (0, vec![3; streams]));
    }
    begin(&mut world, 5);
    assert_eq!(drafts(&mut world), (0, vec![0; 5]));
}

#[test]
fn batch_work_leaves_half_of_the_cache_alone() {
    let mut world = World::new(LIMITS);
    let batch = |key| Arrival { class: Class::Batch, key, ..arrival(vec![1; 12], 20) };
    for key in 0..3 {
        world.arrive(batch(key)).unwrap(); // 32 each of 160, half of which is batch work's, and an eighth of that a reserve
    }
    world.next();
    assert_eq!(world.planner.load().reserved_tokens, 64);
    world.arrive(arrival(vec![1; 40], 20)).unwrap();
    world.next();
    assert_eq!(world.planner.load().reserved_tokens, 124, "interactive work has room at once");
    world.drain();
    let whole = Arrival { says: vec![1; 3], ..batch(0) }; // 96 together
    assert_eq!(world.arrive(whole).unwrap_err(), Refusal::TooLong { tokens: 32, limit: 20 }, "even alone");
}
