//! What workers and callers share: the planner, and the requests of which something is queued.

use std::{collections::HashMap, sync::Arc, time::Duration};

use hotpath_cores::{Cores, Permit};
use hotpath_fairness::{Class, Look, Monitor};

use crate::{
    job::{Failure, Job},
    planner::{Decision, Expiry, Item, Limits, Planner, RequestId, TIME_SLICE},
};

/// What workers and callers share.
pub(crate) type Shared = Monitor<State>;

#[derive(Debug)]
pub(crate) struct State {
    pub planner: Planner,
    /// The requests of which something is queued.
    pub jobs: HashMap<RequestId, Arc<Job>>,
}

/// One input, on its way to a session.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub item: Item,
    pub job: Arc<Job>,
}

impl State {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { planner: Planner::new(limits), jobs: HashMap::new() }
    }

    /// Gives each item of a batch its job, and forgets the jobs of which nothing is queued any more.
    fn tickets(&mut self, batch: Vec<Item>) -> Vec<Ticket> {
        let tickets =
            batch.into_iter().filter_map(|item| Some(Ticket { item, job: self.jobs.get(&item.request)?.clone() }));
        let tickets: Vec<Ticket> = tickets.collect();
        for ticket in &tickets {
            if !self.planner.is_waiting(ticket.item.request) {
                self.jobs.remove(&ticket.item.request);
            }
        }
        tickets
    }
}

/// Waits until something is queued. `false` once nothing will be any more.
pub(crate) fn wait(shared: &Shared) -> bool {
    let look = |state: &mut State, _| state.planner.highest().map_or(Look::Idle, Look::Found);
    shared.take(look).is_ok_and(|class| class.is_some())
}

/// Waits for a core for what is queued.
pub(crate) fn core<'a>(shared: &Arc<Shared>, cores: &'a Cores) -> Permit<'a> {
    // The cores' lock is taken first, and never while this state's is held.
    let shared = shared.clone();
    let class = move || shared.change(|state, _| state.planner.highest()).ok().flatten().unwrap_or(Class::Batch);
    cores.acquire(1, class)
}

/// Takes the next batch for a core. It may be empty: others may have taken what was queued. On a core that interactive work got
/// nothing runs where none waits any more: batch work must leave that core free.
pub(crate) fn next_batch(shared: &Shared, core: &Permit<'_>) -> Vec<Ticket> {
    let take = |state: &mut State, now| {
        if core.class() == Class::Interactive && state.planner.highest() != Some(Class::Interactive) {
            return Vec::new();
        }
        let Decision { expired, batch } = state.planner.next(now, core.is_brief().then_some(TIME_SLICE));
        for (id, expiry) in expired {
            let retry_after = state.planner.time_to_drain();
            if let Some(job) = state.jobs.remove(&id) {
                job.fail(match expiry {
                    Expiry::Deadline => Failure::DeadlineExceeded,
                    Expiry::MaxWait => Failure::WaitedTooLong { retry_after },
                });
            }
        }
        state.tickets(batch)
    };
    shared.change(take).unwrap_or_default()
}

/// Takes note that a batch has run.
pub(crate) fn finished(shared: &Shared, inputs: usize, tokens: usize, took: Duration) {
    let _ = shared.change(|state, _| state.planner.finished(inputs, tokens, took)); // where it is dead nobody asks
}

/// Drops what a request still has queued.
pub(crate) fn cancel(shared: &Shared, id: RequestId) {
    let cancelled = shared.change(|state, _| {
        state.planner.cancel(id);
        state.jobs.remove(&id)
    });
    drop(cancelled); // where it is dead, everything is dropped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::Request;

    #[test]
    fn batch_work_takes_a_time_slice_beside_interactive_work_and_else_all_that_it_may() {
        let limits =
            Limits { workers: 1, batch_tokens: 1000, max_queued_tokens: 1000, max_wait: Duration::from_secs(60) };
        let (cores, shared) = (Cores::new(2), Shared::new(State::new(limits)));
        let submit = |inputs: usize| {
            let request = Request { class: Class::Batch, key: "acme".into(), deadline: None, inputs: vec![1; inputs] };
            shared.change(|state, now| state.planner.submit(now, request).unwrap()).unwrap();
        };
        let run = || {
            next_batch(&shared, &cores.acquire(1, || Class::Batch));
            let inputs = shared.change(|state, _| state.planner.load().running_inputs).unwrap();
            finished(&shared, inputs, inputs, Duration::from_millis(1) * u32::try_from(inputs).unwrap());
            inputs
        };
        submit(10);
        assert_eq!(run(), 10);
        submit(100); // a token a millisecond
        cores.interactive_arrived(false);
        assert_eq!(run() as u128, TIME_SLICE.as_millis());
    }
}
