//! What the loop and callers share: the planner, and what came since the loop last looked.

use std::{collections::HashMap, sync::Arc};

use hotpath_cores::{Cores, Permit};
use hotpath_fairness::{Class, Look, Monitor};
use tokio::sync::oneshot;

use crate::{
    job::Job,
    masks::MaskReply,
    planner::{Decision, Limits, Planner, RequestId, SequenceId, Time},
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
    Decision(Decision),
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
        let decision = state.planner.next(now);
        jobs.extend(state.arrivals.drain());
        for id in state.cancelled.drain(..) {
            jobs.remove(&id);
        }
        let is_news = decision.run.is_some() || !decision.ended.is_empty() || !decision.changes.is_empty();
        if is_news || !state.replies.is_empty() {
            return Look::Found(News::Decision(decision));
        }
        if state.planner.is_empty() { Look::Idle } else { Look::Wait(decision.wake) }
    };
    shared.take(look).unwrap_or_else(|dead| dead.resume())
}

/// Waits for some cores for a run of some class.
pub(crate) fn cores<'a>(shared: &Arc<Shared>, cores: &'a Cores, threads: usize, class: Class) -> Permit<'a> {
    // The cores' lock is taken first, and never while this state's is held.
    let shared = shared.clone();
    let interactive_waits = move || shared.change(|state, _| state.planner.has(Class::Interactive)).unwrap_or(false);
    let mut permit = cores.acquire(threads, class, interactive_waits);
    if class == Class::Interactive {
        permit.will_come_back();
    }
    permit
}

/// Lets the planner take note of something. Without it the loop cannot go on.
pub(crate) fn plan<T>(shared: &Shared, note: impl FnOnce(&mut Planner, Time) -> T) -> T {
    shared.change(|state, now| note(&mut state.planner, now)).unwrap_or_else(|dead| dead.resume())
}
