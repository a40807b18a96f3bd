//! The planner's promises, as properties of any interleaving of arrivals, sizes, cancellations, deadlines and completions.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

mod fairness;
mod world;

use std::time::Duration;

use hotpath_encoding::planner::{Expiry, Limits, Planner};
use hotpath_fairness::Class;
use proptest::prelude::*;
use world::{Event, World, request};

/// A worker that has no other beside it takes whole batches.
const ONE_WORKER: Limits = Limits { workers: 1, ..LIMITS };

const LIMITS: Limits =
    Limits { workers: 2, batch_tokens: 100, max_queued_tokens: 2000, max_wait: Duration::from_millis(500) };

fn arrival() -> impl Strategy<Value = Event> {
    let class = prop_oneof![Just(Class::Interactive), Just(Class::Batch)];
    let inputs = prop::collection::vec(prop_oneof![4 => 1..60_usize, 1 => 60..300_usize], 1..12);
    let deadline = prop::option::of(0..400_u64);
    (class, 0..4_usize, inputs, deadline).prop_map(|(class, key, inputs, deadline)| Event::Arrive {
        class,
        key,
        inputs,
        deadline,
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => arrival(),
        3 => Just(Event::Next(None)),
        2 => (0..50_u64).prop_map(|milliseconds| Event::Next(Some(Duration::from_millis(milliseconds)))),
        3 => any::<prop::sample::Index>().prop_map(Event::Finish),
        1 => any::<prop::sample::Index>().prop_map(Event::Cancel),
        2 => (0..120_u64).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// [`World`] holds every decision against the rules; at the end it drains the queue and accounts for every input.
    #[test]
    fn any_interleaving_keeps_the_rules(events in events()) {
        let mut world = World::new(LIMITS);
        for event in events {
            world.apply(event);
        }
        world.drain();
    }
}

#[test]
fn interactive_goes_before_batch() {
    let mut planner = Planner::new(ONE_WORKER);
    let batch = planner.submit(Duration::ZERO, request(Class::Batch, "a", &[10, 10])).unwrap();
    let interactive = planner.submit(Duration::ZERO, request(Class::Interactive, "b", &[10])).unwrap();
    let first = planner.next(Duration::ZERO, None).batch;
    assert!(first.iter().all(|item| item.request == interactive), "one batch, one class: {first:?}");
    assert_eq!(planner.next(Duration::ZERO, None).batch.iter().filter(|item| item.request == batch).count(), 2);
}

/// However much interactive work waits, and however fast more of it comes.
#[test]
fn batch_work_has_a_run_in_each_patience() {
    let mut planner = Planner::new(Limits { max_wait: Duration::from_mins(1), ..ONE_WORKER });
    let batch = planner.submit(Duration::ZERO, request(Class::Batch, "a", &[100; 20])).unwrap();
    let mut runs = Vec::new();
    for milliseconds in (0..450).step_by(10) {
        let now = Duration::from_millis(milliseconds);
        let _ = planner.submit(now, request(Class::Interactive, "b", &[100; 2])); // until the queue is full
        let is_batch = planner.next(now, None).batch[0].request == batch;
        runs.extend(is_batch.then_some(milliseconds));
    }
    assert_eq!(runs, [100, 200, 300, 400]);
}

#[test]
fn brief_batch_work_is_what_runs_in_that_time_as_measured() {
    let time_slice = Some(Duration::from_millis(3));
    let mut planner = Planner::new(ONE_WORKER);
    planner.submit(Duration::ZERO, request(Class::Batch, "a", &[10; 40])).unwrap();
    let sizes = |planner: &mut Planner| planner.next(Duration::ZERO, time_slice).batch.len();
    assert_eq!(sizes(&mut planner), 1, "nothing was measured yet");
    planner.finished(1, 10, Duration::from_millis(1));
    assert_eq!((sizes(&mut planner), planner.next(Duration::ZERO, None).batch.len()), (3, 10));
    planner.submit(Duration::ZERO, request(Class::Interactive, "a", &[10; 10])).unwrap();
    assert_eq!(sizes(&mut planner), 10, "interactive work has the whole batch");
    planner.finished(3, 30, Duration::from_secs(1000));
    assert_eq!(sizes(&mut planner), 1, "however slow it is, it comes on");
}

#[test]
fn like_lengths_go_together_behind_the_oldest() {
    let mut planner = Planner::new(ONE_WORKER);
    planner.submit(Duration::ZERO, request(Class::Interactive, "a", &[40, 7, 38, 90, 5])).unwrap();
    let lengths = |planner: &mut Planner| {
        planner.next(Duration::ZERO, None).batch.iter().map(|item| item.tokens).collect::<Vec<_>>()
    };
    assert_eq!(lengths(&mut planner), [40, 38, 7, 5]);
    assert_eq!(lengths(&mut planner), [90]);
    assert!(lengths(&mut planner).is_empty());
}

#[test]
fn idle_workers_share_what_waits() {
    let mut planner = Planner::new(LIMITS);
    let sizes = |planner: &mut Planner| planner.next(Duration::ZERO, None).batch.len();
    planner.submit(Duration::ZERO, request(Class::Interactive, "a", &[20; 4])).unwrap();
    assert_eq!((sizes(&mut planner), sizes(&mut planner)), (2, 2), "each of two idle workers takes half");
    planner.submit(Duration::ZERO, request(Class::Interactive, "a", &[20; 4])).unwrap();
    planner.finished(2, 40, Duration::from_millis(1));
    assert_eq!(sizes(&mut planner), 4, "nobody else is idle");
}

#[test]
fn an_input_longer_than_a_batch_goes_alone() {
    let mut planner = Planner::new(LIMITS);
    planner.submit(Duration::ZERO, request(Class::Interactive, "a", &[250, 10])).unwrap();
    assert_eq!(planner.next(Duration::ZERO, None).batch.len(), 1);
    assert_eq!(planner.next(Duration::ZERO, None).batch.len(), 1);
}

#[test]
fn a_full_queue_refuses_and_says_when_to_come_back() {
    let mut planner = Planner::new(LIMITS);
    planner.submit(Duration::ZERO, request(Class::Interactive, "a", &[1000])).unwrap();
    planner.next(Duration::ZERO, None);
    planner.finished(1, 1000, Duration::from_secs(1)); // 1000 tokens a second and worker
    let first = request(Class::Interactive, "a", &[100; 20]);
    planner.submit(Duration::ZERO, first).unwrap();
    let full = planner.submit(Duration::ZERO, request(Class::Interactive, "a", &[400])).unwrap_err();
    assert_eq!(full.retry_after, Duration::from_millis(200), "400 tokens at 2 × 1000 tokens a second");
    assert_eq!(full.waiting, Duration::from_millis(800), "four fifths of 2000 tokens");
    assert_eq!(planner.load().queued_tokens, 2000, "a refused request leaves nothing behind");
}

/// A request that is larger than the queue is let in as room comes, and the door stays open for others meanwhile.
#[test]
fn a_request_above_the_bound_shuts_nobody_out() {
    for giant in [Class::Interactive, Class::Batch] {
        let mut planner = Planner::new(LIMITS);
        let id = planner.submit(Duration::ZERO, request(giant, "a", &vec![100; 3000])).unwrap();
        planner.submit(Duration::ZERO, request(giant, "a", &[1])).unwrap_err();
        for other in [Class::Interactive, Class::Batch] {
            planner.submit(Duration::ZERO, request(other, "b", &[1])).unwrap();
        }
        planner.cancel(id);
        planner.submit(Duration::ZERO, request(giant, "a", &[1])).unwrap();
    }
}

/// Fair turns are worth little to one who is not let in.
#[test]
fn a_key_that_floods_the_queue_leaves_room_for_others() {
    let mut planner = Planner::new(LIMITS);
    let mut flood = |class, key: &str| while planner.submit(Duration::ZERO, request(class, key, &[10])).is_ok() {};
    flood(Class::Batch, "a");
    flood(Class::Batch, "b");
    flood(Class::Interactive, "a");
    let queued = planner.load().queued_tokens;
    assert!(queued >= LIMITS.max_queued_tokens * 4 / 5, "the room is used: {queued}");
    planner.submit(Duration::ZERO, request(Class::Interactive, "c", &[10])).unwrap();
}

#[test]
fn patience_ends_once_a_request_runs() {
    let mut planner = Planner::new(LIMITS);
    planner.submit(Duration::ZERO, request(Class::Interactive, "a", &[90, 90])).unwrap();
    let waits = planner.submit(Duration::ZERO, request(Class::Batch, "a", &[90])).unwrap();
    assert_eq!(planner.next(Duration::ZERO, None).batch.len(), 1);
    let later = planner.next(LIMITS.max_wait, None);
    assert_eq!(later.expired, [(waits, Expiry::MaxWait)]);
    assert_eq!(later.batch.len(), 1, "the started request goes on");
}
