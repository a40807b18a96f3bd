//! What the loop and callers share: the planner, and what came since the loop last looked.

use std::{collections::HashMap, sync::Arc};

use hotpath_cores::{Cores, Permit};
use hotpath_fairness::{Class, Look, Monitor};
use tokio::sync::oneshot;

use crate::{
    job::Job,
    masks::MaskReply,
    planner::{Decision, Limits, Planner, RequestId, SequenceId, TIME_SLICE, Time},
    work::Failure,
};

/// What the loop and callers share.
pub(crate) type Shared = Monitor<State>;

#[derive(Debug)]
pub(crate) struct State {
    pub planner: Planner,
    /// Requests that were queued since the loop last looked.
    pub arrivals: HashMap<RequestId, Job>,
    /// Requests that were cancelled since then; the planner says nothing more of those that were queued.
    pub cancelled: Vec<RequestId>,
    /// What formats said since then.
    pub replies: Vec<(SequenceId, MaskReply)>,
    /// The newest sign of life that is asked for.
    pub probe: Option<Probe>,
}

impl State {
    pub(crate) fn new(limits: Limits) -> Self {
        let planner = Planner::new(limits);
        Self { planner, arrivals: HashMap::new(), cancelled: Vec::new(), replies: Vec::new(), probe: None }
    }

    /// Gives the loop what came, and takes away what was cancelled.
    fn hand_over(&mut self, jobs: &mut HashMap<RequestId, Job>) {
        jobs.extend(self.arrivals.drain());
        for id in self.cancelled.drain(..) {
            jobs.remove(&id);
        }
    }
}

/// A sign of life that is asked for.
#[derive(Debug)]
pub(crate) struct Probe {
    pub prompt: Vec<u32>,
    pub outcome: oneshot::Sender<Result<(), Failure>>,
}

/// What the loop has to do.
#[derive(Debug)]
pub(crate) enum News {
    /// What is to be done before the next run, and whether anything can run.
    Settled(Decision, bool),
    Probe(Probe),
}

/// What formats said since the last call.
pub(crate) fn replies(shared: &Shared) -> Vec<(SequenceId, MaskReply)> {
    shared.change(|state, _| std::mem::take(&mut state.replies)).unwrap_or_else(|dead| dead.resume())
}

/// Waits for something to do, or for what a format says. `None` once the engine is closing and nothing is left.
pub(crate) fn next(shared: &Shared, jobs: &mut HashMap<RequestId, Job>) -> Option<News> {
    let look = |state: &mut State, now| {
        if let Some(probe) = state.probe.take() {
            return Look::Found(News::Probe(probe));
        }
        let settled = state.planner.settle(now);
        state.hand_over(jobs);
        let can_run = state.planner.can_run();
        if can_run || !settled.ended.is_empty() || !settled.changes.is_empty() || !state.replies.is_empty() {
            return Look::Found(News::Settled(settled, can_run));
        }
        if state.planner.is_empty() { Look::Idle } else { Look::Wait(settled.wake) }
    };
    shared.take(look).unwrap_or_else(|dead| dead.resume())
}

/// What to run on cores, which may be nothing: what could run may have been cancelled.
pub(crate) fn choose(shared: &Shared, jobs: &mut HashMap<RequestId, Job>, cores: &Permit<'_>) -> Decision {
    let choose = |state: &mut State, now| {
        let decision = state.planner.next(now, cores.is_brief().then_some(TIME_SLICE));
        state.hand_over(jobs);
        decision
    };
    shared.change(choose).unwrap_or_else(|dead| dead.resume())
}

/// Waits for some cores for a sign of life.
pub(crate) fn cores_for_probe(cores: &Cores, threads: usize) -> Permit<'_> {
    let mut permit = cores.acquire(threads, || Class::Interactive);
    permit.will_come_back();
    permit
}

/// Waits for some cores for what can run, whatever that will be when they are there.
pub(crate) fn cores<'a>(shared: &Arc<Shared>, cores: &'a Cores, threads: usize) -> Permit<'a> {
    // The cores' lock is taken first, and never while this state's is held.
    let shared = shared.clone();
    let is_urgent = move || shared.change(|state, _| state.planner.is_urgent()).unwrap_or(false);
    cores.acquire(threads, move || if is_urgent() { Class::Interactive } else { Class::Batch })
}

/// Lets the planner take note of something. Without it the loop cannot go on.
pub(crate) fn plan<T>(shared: &Shared, note: impl FnOnce(&mut Planner, Time) -> T) -> T {
    shared.change(|state, now| note(&mut state.planner, now)).unwrap_or_else(|dead| dead.resume())
}
