//! A model of the planner that is too simple to be wrong: every input with where it stands, and every rule checked by
//! looking at all of them.

use std::{collections::BTreeMap, time::Duration};

use hotpath_encoding::planner::{Expiry, Item, Limits, Planner, Request, RequestId, Time};
use hotpath_fairness::{Class, DrainRate, PATIENCE};
use proptest::sample::Index;

#[derive(Debug, Clone)]
pub enum Event {
    Arrive { class: Class, key: usize, inputs: Vec<usize>, deadline: Option<u64> },
    Next(Option<Duration>),
    Finish(Index),
    Cancel(Index),
    Wait(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Queued,
    Running,
    Done,
    Dropped,
}

struct Known {
    class: Class,
    key: usize,
    inputs: Vec<(usize, Place)>,
    deadline: Option<Time>,
    arrived: Time,
    /// Most tokens of it that ever counted against the bound.
    admitted: usize,
}

impl Known {
    fn queued(&self) -> impl Iterator<Item = usize> {
        self.inputs.iter().enumerate().filter(|(_, (_, place))| *place == Place::Queued).map(|(input, _)| input)
    }

    fn queued_tokens(&self) -> usize {
        self.queued().map(|input| self.inputs[input].0).sum()
    }

    /// Tokens that count against the bound.
    fn counted_tokens(&self) -> usize {
        self.queued_tokens().min(self.admitted)
    }

    fn started(&self) -> bool {
        self.inputs.iter().any(|(_, place)| matches!(place, Place::Running | Place::Done))
    }

    fn expiry(&self, now: Time, limits: &Limits) -> Option<Expiry> {
        let patience = (!self.started()).then_some(self.arrived + limits.max_wait);
        match (self.deadline, patience) {
            (Some(deadline), patience) if deadline <= now && patience.is_none_or(|end| deadline <= end) => {
                Some(Expiry::Deadline)
            }
            (_, Some(patience)) if patience <= now => Some(Expiry::MaxWait),
            _ => None,
        }
    }

    fn drop_queued(&mut self) {
        self.inputs
            .iter_mut()
            .filter(|(_, place)| *place == Place::Queued)
            .for_each(|(_, place)| *place = Place::Dropped);
    }
}

pub struct World {
    planner: Planner,
    limits: Limits,
    now: Time,
    known: BTreeMap<RequestId, Known>,
    running: Vec<Vec<Item>>,
    drain: DrainRate,
    /// Since when batch work has waited for a run.
    batch_waits: Option<Time>,
}

pub fn request(class: Class, key: &str, inputs: &[usize]) -> Request {
    Request { class, key: key.into(), deadline: None, inputs: inputs.to_vec() }
}

impl World {
    pub fn new(limits: Limits) -> Self {
        let known = BTreeMap::new();
        Self {
            planner: Planner::new(limits),
            limits,
            now: Duration::ZERO,
            known,
            running: Vec::new(),
            drain: DrainRate::default(),
            batch_waits: None,
        }
    }

    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Arrive { class, key, inputs, deadline } => self.arrive(class, key, inputs, deadline),
            Event::Next(time_slice) => drop(self.next(time_slice)),
            Event::Finish(which) if !self.running.is_empty() => {
                let batch = self.running.swap_remove(which.index(self.running.len()));
                self.finish(&batch);
            }
            Event::Cancel(which) if !self.known.is_empty() => {
                let id = *self.known.keys().nth(which.index(self.known.len())).unwrap();
                self.planner.cancel(id);
                self.known.get_mut(&id).unwrap().drop_queued();
            }
            Event::Wait(milliseconds) => self.now += Duration::from_millis(milliseconds),
            Event::Finish(_) | Event::Cancel(_) => (),
        }
        self.check_bounds();
    }

    /// Runs what is queued to the end: every input must have run once or have been dropped for a reason.
    pub fn drain(&mut self) {
        while self.planner.load().queued_inputs > 0 {
            assert!(self.next(None) > 0 || self.planner.load().queued_inputs == 0, "work waits and nobody gets it");
        }
        for batch in std::mem::take(&mut self.running) {
            self.finish(&batch);
        }
        self.check_bounds();
        for (id, known) in &self.known {
            let settled = known.inputs.iter().all(|(_, place)| matches!(place, Place::Done | Place::Dropped));
            assert!(settled, "{id:?} lost an input: {:?}", known.inputs);
        }
    }

    fn arrive(&mut self, class: Class, key: usize, inputs: Vec<usize>, deadline: Option<u64>) {
        let deadline = deadline.map(|after| self.now + Duration::from_millis(after));
        let tokens: usize = inputs.iter().sum();
        let of_class = self.counted_tokens(|known| known.class == class);
        let of_key = self.counted_tokens(|known| (known.class, known.key) == (class, key));
        // The most that may count: what the key has then is at most four times what is left.
        let left = self.limits.max_queued_tokens.saturating_sub(of_class);
        let share = (0..=left).rev().find(|more| of_key + more <= 4 * (left - more)).unwrap_or(0);
        let newcomer = of_key == 0;
        let room = if newcomer { share.max(self.limits.batch_tokens) } else { share };
        let fits = newcomer || tokens <= room;
        let request = Request { class, key: format!("key-{key}").into(), deadline, inputs: inputs.clone() };
        let early = [1, tokens / 2, tokens].map(|at_least| self.planner.check(class, &request.key, at_least));
        assert!(early.iter().all(|early| early.is_ok() || !fits), "refused before its size was known: {early:?}");
        assert_eq!(early[2].is_ok(), fits, "of all of it as much is known as later");
        match self.planner.submit(self.now, request) {
            Ok(id) => {
                assert!(fits, "admitted beyond the bound");
                let inputs = inputs.into_iter().map(|tokens| (tokens, Place::Queued)).collect();
                let admitted = tokens.min(room);
                let known = Known { class, key, inputs, deadline, arrived: self.now, admitted };
                assert!(self.known.insert(id, known).is_none(), "an id was given twice");
            }
            Err(full) => {
                assert!(!fits, "refused without need");
                assert!(full.retry_after > Duration::ZERO && full.retry_after <= Duration::from_mins(1));
            }
        }
    }

    fn next(&mut self, time_slice: Option<Duration>) -> usize {
        let mut due = BTreeMap::new();
        for (id, known) in self.known.iter_mut().filter(|(_, known)| known.queued().next().is_some()) {
            if let Some(expiry) = known.expiry(self.now, &self.limits) {
                due.insert(*id, expiry);
            }
        }
        let decision = self.planner.next(self.now, time_slice);
        assert_eq!(decision.expired.iter().copied().collect::<BTreeMap<_, _>>(), due, "who expired");
        for id in due.keys() {
            self.known.get_mut(id).unwrap().drop_queued();
        }
        let taken = decision.batch.len();
        self.check_batch(&decision.batch, time_slice);
        if taken > 0 {
            self.running.push(decision.batch);
        }
        taken
    }

    fn check_batch(&mut self, batch: &[Item], time_slice: Option<Duration>) {
        let classes = |known: &Known| (known.queued().next().is_some()).then_some(known.class);
        let waiting: Vec<Class> = self.known.values().filter_map(classes).collect();
        let class = self.turn(&waiting);
        assert_eq!(batch.is_empty(), waiting.is_empty(), "a free worker takes what is queued");
        let tokens: usize = batch.iter().map(|item| item.tokens).sum();
        let most = match time_slice.filter(|_| class == Class::Batch) {
            Some(time_slice) => self.drain.tokens_in(time_slice).min(self.limits.batch_tokens),
            None => self.limits.batch_tokens,
        };
        assert!(tokens <= most || batch.len() == 1, "{tokens} tokens in {} inputs", batch.len());

        let oldest = self.oldest_by_key(class);
        for (key, oldest) in oldest {
            let of_key = batch.iter().filter(|item| self.known[&item.request].key == key).collect::<Vec<_>>();
            let with_oldest = of_key.iter().any(|item| (item.request, item.input) == oldest);
            assert!(of_key.is_empty() || with_oldest, "the oldest of key {key} was overtaken by {of_key:?}");
        }
        for item in batch {
            let known = self.known.get_mut(&item.request).unwrap();
            assert_eq!(known.class, class, "class order");
            let (tokens, place) = &mut known.inputs[item.input];
            assert_eq!(*place, Place::Queued, "an input ran twice, or after it was dropped");
            assert_eq!(*tokens, item.tokens);
            *place = Place::Running;
        }
    }

    /// Interactive before batch, until batch work has waited for long: then it has its turn, whatever else waits.
    fn turn(&mut self, waiting: &[Class]) -> Class {
        if !waiting.contains(&Class::Batch) {
            self.batch_waits = None;
            return Class::Interactive;
        }
        let since = *self.batch_waits.get_or_insert(self.now);
        if waiting.contains(&Class::Interactive) && self.now < since + PATIENCE {
            return Class::Interactive;
        }
        self.batch_waits = Some(self.now);
        Class::Batch
    }

    fn oldest_by_key(&self, class: Class) -> BTreeMap<usize, (RequestId, usize)> {
        let mut oldest = BTreeMap::new();
        for (id, known) in self.known.iter().filter(|(_, known)| known.class == class) {
            if let Some(input) = known.queued().next() {
                oldest.entry(known.key).or_insert((*id, input)); // ids ascend with arrival
            }
        }
        oldest
    }

    fn finish(&mut self, batch: &[Item]) {
        let tokens = batch.iter().map(|item| item.tokens).sum();
        let took = Duration::from_millis(10);
        self.planner.finished(batch.len(), tokens, took);
        self.drain.note(tokens, took);
        for item in batch {
            self.known.get_mut(&item.request).unwrap().inputs[item.input].1 = Place::Done;
        }
    }

    fn queued_tokens(&self) -> usize {
        self.known.values().map(Known::queued_tokens).sum()
    }

    fn counted_tokens(&self, which: impl Fn(&Known) -> bool) -> usize {
        self.known.values().filter(|known| which(known)).map(Known::counted_tokens).sum()
    }

    fn check_bounds(&self) {
        let load = self.planner.load();
        let running: usize = self.running.iter().map(Vec::len).sum();
        assert_eq!(load.queued_tokens, self.queued_tokens());
        assert_eq!(load.queued_inputs, self.known.values().map(|known| known.queued().count()).sum::<usize>());
        assert_eq!(load.running_inputs, running);
    }
}
