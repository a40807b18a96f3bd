//! The planner's promises, as properties of any interleaving of arrivals, lengths, cancellations, deadlines and slow readers.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

mod fairness;
mod world;

use std::time::Duration;

use hotpath_generation::planner::{Class, Ended, Limits, Planner, Refusal, Run, SequenceId};
use proptest::prelude::*;
use world::{Arrival, Event, World};

const LIMITS: Limits = Limits {
    batch: 3,
    cache_tokens: 160,
    granule: 4,
    context_tokens: 64,
    chunk_tokens: 8,
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

fn arrivals() -> impl Strategy<Value = Event> {
    let class = prop_oneof![2 => Just(Class::Interactive), 1 => Just(Class::Batch)];
    let says = prop_oneof![
        4 => prop::collection::vec(1..12_usize, 1),
        1 => prop::collection::vec(1..6_usize, 1..4),
    ];
    let deadline = prop::option::of(0..300_u64);
    (class, 0..3_usize, prompts(), says, 0..4_usize, deadline).prop_map(
        |(class, key, prompt, says, spare, deadline)| {
            let max_tokens = says.iter().max().unwrap() + spare;
            Event::Arrive(Arrival { class, key, prompt, max_tokens, says, deadline })
        },
    )
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let any = any::<prop::sample::Index>;
    let event = prop_oneof![
        4 => arrivals(),
        12 => Just(Event::Next),
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
    world.arrive(arrival(prompt(1, 22, 8, 30), 2)).unwrap(); // parts within a piece
    world.drain();
    assert_eq!(world.reused, 20);
    world.arrive(arrival(first, 2)).unwrap(); // the same again: all whole pieces but what must be read
    world.drain();
    assert_eq!(world.reused, 20 + 28);
    world.arrive(Arrival { key: 1, ..arrival(prompt(1, 22, 8, 30), 2) }).unwrap();
    world.drain();
    assert_eq!(world.reused, 20 + 28, "another key's prompts are its own");
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

#[test]
fn two_tokens_at_least_are_left_to_read() {
    for (length, expected) in [(1, 0), (2, 0), (5, 0), (6, 4), (9, 4), (10, 8), (13, 8), (14, 12)] {
        let mut world = World::new(LIMITS);
        world.arrive(arrival(prompt(1, 40, 1, 40), 1)).unwrap();
        world.drain();
        world.arrive(arrival(prompt(1, length, 1, length), 1)).unwrap();
        world.drain();
        assert_eq!(world.reused, expected, "of {length} tokens");
    }
}

#[test]
fn the_beginning_that_was_of_no_use_for_longest_makes_way() {
    let mut world = World::new(LIMITS);
    for family in [1, 2, 3, 1, 4, 5] {
        world.arrive(arrival(prompt(family, 36, family, 36), 1)).unwrap(); // room for four
        world.drain();
    }
    assert_eq!(world.reused, 32);
    for (family, reused) in [(1, 32), (2, 0)] {
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
    let request = |prompt: usize, max_tokens, choices| hotpath_generation::planner::Request {
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
    while let Some(run) = world.planner.next(Duration::ZERO).run {
        let Run::Prefill(chunk) = run else { panic!("{run:?}") };
        world.planner.ran(Duration::from_millis(1));
        if chunk.last {
            order.push(chunk.request);
            world.planner.finish(SequenceId { request: chunk.request, choice: 0 });
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
fn a_long_prompt_gets_every_fourth_chunk_of_a_stream_of_short_ones() {
    let mut world =
        World::new(Limits { cache_tokens: 2000, context_tokens: 1000, max_queued_tokens: 100_000, ..LIMITS });
    let long = world.arrive(arrival((0..800).collect(), 1)).unwrap();
    for n in 0..400 {
        world.arrive(arrival(vec![1000 + n; 4], 1)).unwrap();
    }
    let mut chunks = 0;
    loop {
        let Some(Run::Prefill(chunk)) = world.planner.next(Duration::ZERO).run else { panic!("only prompts") };
        chunks += 1;
        world.planner.ran(Duration::from_millis(1));
        let sequence = SequenceId { request: chunk.request, choice: 0 };
        if chunk.last {
            world.planner.finish(sequence);
            if chunk.request == long {
                break;
            }
        }
    }
    assert!((300..=404).contains(&chunks), "100 chunks of the long prompt took {chunks}");
}

#[test]
fn a_paused_request_waits_and_ends_after_a_while() {
    let mut world = World::new(LIMITS);
    let slow = world.arrive(arrival(vec![1; 4], 20)).unwrap();
    world.next();
    world.planner.pause(Duration::ZERO, slow);
    let decision = world.planner.next(Duration::ZERO);
    assert_eq!((decision.run, decision.wake), (None, Some(LIMITS.max_parked)));
    assert_eq!(world.planner.load().parked, 1);
    let ended = world.planner.next(LIMITS.max_parked).ended;
    assert_eq!(ended, [(slow, Ended::SlowReader)]);
    assert_eq!(world.planner.load().reserved_tokens, 0);
}

#[test]
fn a_continuation_that_waits_stays_where_it_is_and_holds_up_nobody() {
    let mut world = World::new(LIMITS);
    let costly = world.arrive(arrival(vec![1; 4], 30)).unwrap();
    world.next();
    world.next(); // in its batch now
    let sequence = SequenceId { request: costly, choice: 0 };
    world.planner.wait(sequence);
    let decision = world.planner.next(Duration::ZERO);
    assert_eq!((decision.run, decision.changes), (None, vec![]), "nothing is run for it");
    world.arrive(arrival(vec![2; 4], 30)).unwrap();
    let Some(Run::Prefill(_)) = world.planner.next(Duration::ZERO).run else { panic!("the other's prompt") };
    world.planner.ran(Duration::ZERO);
    world.planner.next(Duration::ZERO); // the other joins
    world.planner.ran(Duration::ZERO);
    let step = |planner: &mut Planner| {
        let decision = planner.next(Duration::ZERO);
        assert_eq!(decision.changes, [], "rows are copied for every token");
        planner.ran(Duration::ZERO);
        let Some(Run::Decode { rows, .. }) = decision.run else { panic!("a step") };
        rows.into_iter().map(|row| (row.sequence.request, row.length, row.repeats)).collect::<Vec<_>>()
    };
    for said in 6..16 {
        assert_eq!(step(&mut world.planner)[0], (costly, said - 2, true), "for the other's sake");
        world.planner.go_on(sequence);
        assert_eq!(step(&mut world.planner)[0], (costly, said - 1, false), "what was repeated is there once");
        world.planner.wait(sequence);
    }
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
