//! A model of the planner that is too simple to be wrong: a cache whose slots hold what was really put there, requests with
//! where they stand, and every rule checked by looking at all of them.

mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hotpath_fairness::PerClass;
use hotpath_generation::planner::{
    Chunk, Class, Counts, Ended, Limits, Planner, Refusal, Request, RequestId, Run, SequenceId, SlotChange, Step, Time,
};
use proptest::sample::Index;

use crate::events::{Arrival, Event};

/// What one place of a slot holds: a token, and whose request it was computed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    token: u32,
    key: usize,
}

#[derive(Debug)]
struct Known {
    arrival: Arrival,
    arrived: Time,
    /// Tokens read, once its prompt has been begun.
    read: Option<usize>,
    /// What each choice said.
    said: Vec<Vec<u32>>,
    paused: Option<Time>,
    /// Choices of which it is not known what may come next.
    held: BTreeSet<usize>,
    over: bool,
    cancelled: bool,
    /// Tokens of it that count against the queue's bound while it waits.
    counted: usize,
    /// Whether it was seen to have been admitted.
    admitted: bool,
}

impl Known {
    fn is_decoding(&self, choice: usize) -> bool {
        !self.over && !self.said[choice].is_empty() && self.said[choice].len() < self.arrival.says[choice]
    }

    fn left_to_read(&self) -> usize {
        if self.over { 0 } else { self.arrival.prompt.len() - self.read.unwrap_or(0) }
    }

    /// Prompt and what a choice said.
    fn text(&self, choice: usize) -> Vec<u32> {
        [self.arrival.prompt.as_slice(), &self.said[choice]].concat()
    }

    fn due(&self, now: Time, limits: &Limits, waits: bool) -> Option<Ended> {
        let deadline = self.arrival.deadline.map(|after| self.arrived + Duration::from_millis(after));
        let patience = waits.then_some(self.arrived + limits.max_wait);
        let parked = self.paused.map(|since| since + limits.max_parked);
        let times = [(deadline, Ended::Deadline), (patience, Ended::MaxWait), (parked, Ended::SlowReader)];
        let due = times.into_iter().filter_map(|(time, why)| Some((time.filter(|time| *time <= now)?, why)));
        due.min_by_key(|(time, _)| *time).map(|(_, why)| why)
    }
}

pub struct World {
    pub planner: Planner,
    limits: Limits,
    now: Time,
    known: BTreeMap<RequestId, Known>,
    cache: Vec<Vec<Cell>>,
    /// The most that each slot has held since it was released: what it takes memory for.
    touched: Vec<usize>,
    /// Runs with steps and prompts since steps ran alone.
    mixed: PerClass<usize>,
    /// How long brief runs of batch work are to take, if they are to be brief.
    pub time_slice: Option<Duration>,
    /// Brief runs since a continuation that can go on had a step, and those of steps while prompts were left.
    waited: BTreeMap<SequenceId, usize>,
    unread: usize,
    /// Since when batch work has waited for a run.
    batch_waits: Option<Time>,
    pub reused: usize,
}

impl World {
    pub fn new(limits: Limits) -> Self {
        Self {
            planner: Planner::new(limits),
            limits,
            now: Duration::ZERO,
            known: BTreeMap::new(),
            cache: vec![Vec::new(); limits.slots()],
            touched: vec![0; limits.slots()],
            mixed: PerClass::new(|_| 0),
            time_slice: None,
            waited: BTreeMap::new(),
            unread: 0,
            batch_waits: None,
            reused: 0,
        }
    }

    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Arrive(arrival) => drop(self.arrive(arrival)),
            Event::Follow(which, arrival) if !self.known.is_empty() => {
                let known = self.known.values().nth(which.index(self.known.len())).unwrap();
                let prompt = [known.text(0), arrival.prompt].concat();
                _ = self.arrive(Arrival { prompt, key: known.arrival.key, ..arrival });
            }
            Event::Follow(..) => (),
            Event::Next => drop(self.next()),
            Event::TimeSlice(milliseconds) => self.time_slice = milliseconds.map(Duration::from_millis),
            Event::Fail(which) => drop(self.next_that(Some(which))),
            Event::Cancel(which) => self.with_any(which, |planner, known, id, _| {
                known.cancelled = true;
                known.over |= planner.is_waiting(id); // what waits is gone at once
                planner.cancel(id);
            }),
            Event::Pause(which) => self.with_any(which, |planner, known, id, now| {
                let speaks = known.said.iter().any(|said| !said.is_empty());
                if speaks && !known.over && known.paused.is_none() {
                    planner.pause(now, id);
                    known.paused = Some(now);
                }
            }),
            Event::Resume(which) => self.with_any(which, |planner, known, id, _| {
                planner.resume(id);
                known.paused = None;
            }),
            Event::Hold(which, choice) => self.with_any(which, |planner, known, id, _| {
                if choice < known.said.len() && known.is_decoding(choice) {
                    planner.wait(SequenceId { request: id, choice });
                    known.held.insert(choice);
                }
            }),
            Event::GoOn(which, choice) => self.with_any(which, |planner, known, id, _| {
                planner.go_on(SequenceId { request: id, choice });
                known.held.remove(&choice);
            }),
            Event::Wait(milliseconds) => self.now += Duration::from_millis(milliseconds),
        }
        self.check_bounds();
    }

    fn with_any(&mut self, which: Index, act: impl FnOnce(&mut Planner, &mut Known, RequestId, Time)) {
        if !self.known.is_empty() {
            let count = self.known.len();
            let (id, known) = self.known.iter_mut().nth(which.index(count)).unwrap();
            act(&mut self.planner, known, *id, self.now);
        }
    }

    pub fn arrive(&mut self, arrival: Arrival) -> Result<RequestId, Refusal> {
        let request = Request {
            class: arrival.class,
            key: format!("key-{}", arrival.key).into(),
            deadline: arrival.deadline.map(|after| self.now + Duration::from_millis(after)),
            prompt: Arc::from(arrival.prompt.clone()),
            max_tokens: arrival.max_tokens,
            choices: arrival.says.len(),
        };
        let tokens = self.reserve(&arrival) * arrival.says.len();
        let of_class = self.counted(|other| other.class == arrival.class);
        let of_key = self.counted(|other| (other.class, other.key) == (arrival.class, arrival.key));
        // The most that may count: what the key has then is at most four times what is left.
        let left = self.limits.max_queued_tokens.saturating_sub(of_class);
        let share = (0..=left).rev().find(|more| of_key + more <= 4 * (left - more)).unwrap_or(0);
        let newcomer = of_key == 0;
        let room = if newcomer { share.max(1024) } else { share };
        let fits = newcomer || tokens <= room;
        let early = self.planner.check(request.class, &request.key, arrival.prompt.len() + 1, request.choices);
        let id = self.planner.submit(self.now, request).inspect_err(|refusal| match refusal {
            Refusal::Full { .. } => assert!(!fits, "refused without need"),
            Refusal::TooLong { tokens: actual, limit } => assert!(actual > limit),
            other => panic!("{other:?} for {arrival:?}"),
        })?;
        assert!(fits && early.is_ok(), "admitted beyond the bound, or refused before its size was known");
        let known = Known {
            arrived: self.now,
            read: None,
            said: vec![Vec::new(); arrival.says.len()],
            paused: None,
            held: BTreeSet::new(),
            over: false,
            cancelled: false,
            counted: tokens.min(room),
            admitted: false,
            arrival,
        };
        assert!(self.known.insert(id, known).is_none(), "an id was given twice");
        Ok(id)
    }

    /// Takes a decision, holds it against the rules and carries it out. Says whether anything ran.
    pub fn next(&mut self) -> bool {
        self.next_that(None)
    }

    fn next_that(&mut self, fails: Option<Index>) -> bool {
        let due = self.due();
        let decision = self.planner.next(self.now, self.time_slice);
        assert_eq!(decision.ended.iter().copied().collect::<BTreeMap<_, _>>(), due, "who ended");
        for id in due.keys() {
            self.known.get_mut(id).unwrap().over = true;
        }
        decision.changes.iter().for_each(|change| self.change(change));
        self.check_admissions();
        self.check_memory();
        if let Some(run) = &decision.run {
            self.run(run, fails);
        } else {
            assert!([Class::Interactive, Class::Batch].iter().all(|class| !self.has_work(*class)), "idle");
            self.batch_waits = None;
            let waits = self.known.values().any(|known| !known.over && known.held.is_empty());
            let for_others = self.known.values().any(|known| !known.over && !known.held.is_empty());
            assert!(!waits || decision.wake.is_some() || for_others, "work waits for nothing");
        }
        decision.run.is_some()
    }

    /// What a request's first choice said.
    pub fn said(&self, id: RequestId) -> Vec<u32> {
        self.known[&id].said[0].clone()
    }

    /// Lets everything run to its end; readers catch up.
    pub fn drain(&mut self) {
        let ids: Vec<RequestId> = self.known.keys().copied().collect();
        for id in ids {
            self.planner.resume(id);
            let known = self.known.get_mut(&id).unwrap();
            known.paused = None;
            for choice in std::mem::take(&mut known.held) {
                self.planner.go_on(SequenceId { request: id, choice });
            }
        }
        let most = 10_000;
        assert!((0..most).any(|_| !self.next()), "work goes on for ever");
        assert!(self.known.values().all(|known| known.over), "work waits and nobody gets it");
        let load = self.planner.load();
        assert_eq!((load.queued_tokens, load.reserved_tokens, load.decoding, load.parked), (0, 0, 0, 0));
        let held: usize = self.touched.iter().map(|tokens| self.round_up(*tokens)).sum();
        assert_eq!(held, load.cached_tokens, "slots hold what nobody knows of");
    }

    fn due(&self) -> BTreeMap<RequestId, Ended> {
        let live = self.known.iter().filter(|(_, known)| !known.over);
        let why = |id: RequestId, known: &Known| {
            if known.cancelled {
                Some(Ended::Cancelled)
            } else {
                known.due(self.now, &self.limits, self.planner.is_waiting(id))
            }
        };
        live.filter_map(|(id, known)| Some((*id, why(*id, known)?))).collect()
    }

    fn change(&mut self, change: &SlotChange) {
        match *change {
            SlotChange::Copy { from, to, tokens } => {
                assert_ne!(from, to);
                let cells = self.cache[from][..tokens].to_vec();
                (self.cache[to], self.touched[to]) = (cells, tokens);
            }
            SlotChange::Release(slot) => (self.cache[slot], self.touched[slot]) = (Vec::new(), 0),
        }
    }

    /// Holds a run against the rules: interactive before batch, a token of each that can go on, and no more of prompts than fits,
    /// nor less than there is. What fails took the memory that it would have taken, and its request ends.
    fn run(&mut self, run: &Run, fails: Option<Index>) {
        let class = run.class;
        self.check_turn(class);
        assert!(!run.chunks.is_empty() || !run.steps.is_empty(), "a run of nothing");
        let (can_go_on, left_before) = (self.decoding(class).collect(), self.left_to_read(class));
        let requests: BTreeSet<RequestId> = run.chunks.iter().map(|chunk| chunk.request).collect();
        assert_eq!(requests.len(), run.chunks.len(), "a prompt has two chunks");
        let slots = run.chunks.iter().map(|chunk| chunk.slot).chain(run.steps.iter().map(|step| step.slot));
        let slots: BTreeSet<usize> = slots.collect();
        assert_eq!(slots.len(), run.chunks.len() + run.steps.len(), "two share a slot");
        let tokens: usize = run.chunks.iter().map(|chunk| chunk.tokens).sum();
        assert!(tokens <= self.limits.chunk_tokens, "steps are delayed by {tokens} tokens");
        run.chunks.iter().for_each(|chunk| self.read(chunk));
        run.steps.iter().for_each(|step| self.step(step));
        let left = self.left_to_read(class);
        if class == Class::Batch && self.time_slice.is_some() {
            self.check_brief_run(run, &can_go_on, left_before);
        } else {
            self.check_full_run(run, &can_go_on, left);
        }
        self.check_memory();
        let drafted = run.steps.iter().map(|step| step.draft).sum();
        let mut counts = Counts { prompt_tokens: tokens, steps: run.steps.len(), drafted, accepted: 0 };
        let stepped = run.steps.iter().map(|step| step.sequence.request);
        let all: Vec<RequestId> = requests.into_iter().chain(stepped).collect();
        let failed = fails.map(|which| *which.get(&all));
        if let Some(id) = failed {
            self.known.get_mut(&id).unwrap().cancelled = true;
            self.planner.cancel(id);
        }
        for chunk in run.chunks.iter().filter(|chunk| Some(chunk.request) != failed) {
            self.planner.read(chunk);
            let choices = if chunk.last { self.known[&chunk.request].said.len() } else { 0 };
            (0..choices).for_each(|choice| self.say(SequenceId { request: chunk.request, choice }));
        }
        for step in run.steps.iter().filter(|step| Some(step.sequence.request) != failed) {
            self.say(step.sequence);
            // Of what was drafted and run some is accepted: it is what was just said.
            for _ in 0..step.position % (step.draft + 1) {
                let (known, choice) = (&self.known[&step.sequence.request], step.sequence.choice);
                if known.said[choice].len() < known.arrival.says[choice] {
                    let token = *known.said[choice].last().unwrap();
                    self.cache[step.slot].push(Cell { token, key: known.arrival.key });
                    self.say(step.sequence);
                    counts.accepted += 1;
                }
            }
        }
        self.planner.ran(class, counts, Duration::from_millis(5));
    }

    fn read(&mut self, chunk: &Chunk) {
        let known = self.known.get_mut(&chunk.request).unwrap();
        let (prompt, key) = (&known.arrival.prompt, known.arrival.key);
        let end = chunk.start + chunk.tokens;
        if let Some(read) = known.read {
            assert_eq!(read, chunk.start);
        } else {
            assert!(chunk.start == 0 || chunk.start >= self.limits.reuse_tokens, "{} are not worth it", chunk.start);
            self.reused += chunk.start;
        }
        assert!(chunk.tokens > 0 && chunk.last == (end == prompt.len()) && end <= prompt.len());
        for (place, cell) in self.cache[chunk.slot][..chunk.start].iter().enumerate() {
            assert_eq!(cell.token, prompt[place]);
            assert!(cell.key == key || self.limits.share_prefixes, "reused across keys");
        }
        let tokens = prompt[chunk.start..end].iter().map(|token| Cell { token: *token, key });
        self.cache[chunk.slot].truncate(chunk.start);
        self.cache[chunk.slot].extend(tokens);
        known.read = Some(end);
    }

    /// The last token that a continuation said is run behind what it has.
    fn step(&mut self, step: &Step) {
        let known = &self.known[&step.sequence.request];
        let text = known.text(step.sequence.choice);
        let (last, before) = text.split_last().unwrap();
        assert_eq!(step.position, before.len());
        let cells = &mut self.cache[step.slot];
        assert!(cells[..step.position].iter().map(|cell| cell.token).eq(before.iter().copied()), "another text");
        cells.truncate(step.position);
        cells.push(Cell { token: *last, key: known.arrival.key });
        let left = known.arrival.max_tokens - known.said[step.sequence.choice].len();
        assert!(step.draft < left, "a draft is longer than what may be said");
        let touched = &mut self.touched[step.slot];
        *touched = (cells.len() + step.draft).max(*touched);
    }

    /// A continuation says a token, and ends if it was its last. Many say the same.
    fn say(&mut self, sequence: SequenceId) {
        let known = self.known.get_mut(&sequence.request).unwrap();
        let said = &mut known.said[sequence.choice];
        said.push(u32::try_from((said.len() + sequence.choice) % 3).unwrap());
        self.planner.said(sequence, &said[said.len() - 1..]);
        if said.len() == known.arrival.says[sequence.choice] {
            self.planner.finish(sequence);
            known.over = known.said.iter().map(Vec::len).eq(known.arrival.says.iter().copied());
        }
    }

    fn reading(&self, class: Class) -> impl Iterator<Item = &Known> {
        let admitted = self.known.iter().filter(|(id, _)| !self.planner.is_waiting(**id));
        admitted.map(|(_, known)| known).filter(move |known| known.arrival.class == class)
    }

    fn has_work(&self, class: Class) -> bool {
        self.reading(class).any(|known| known.left_to_read() > 0) || self.decoding(class).next().is_some()
    }

    /// Whether somebody reads what is being said.
    fn has_streams(&self, class: Class) -> bool {
        let read = self.known.values().filter(|known| known.arrival.class == class && known.paused.is_none());
        read.into_iter().any(|known| (0..known.said.len()).any(|choice| known.is_decoding(choice)))
    }

    fn decoding(&self, class: Class) -> impl Iterator<Item = SequenceId> {
        let of_class =
            self.known.iter().filter(move |(_, known)| known.arrival.class == class && known.paused.is_none());
        of_class.flat_map(|(id, known)| {
            let can_go_on = |choice: &usize| known.is_decoding(*choice) && !known.held.contains(choice);
            let choices = (0..known.said.len()).filter(can_go_on);
            choices.map(|choice| SequenceId { request: *id, choice }).collect::<Vec<_>>()
        })
    }

    fn check_memory(&mut self) {
        for (touched, slot) in self.touched.iter_mut().zip(&self.cache) {
            *touched = slot.len().max(*touched);
        }
        let held: usize = self.touched.iter().map(|tokens| self.round_up(*tokens)).sum();
        assert!(held <= self.limits.cache_tokens, "slots hold {held} tokens");
    }

    fn check_bounds(&self) {
        let load = self.planner.load();
        assert_eq!(load.queued_tokens, self.queued_tokens());
        assert!(load.reserved_tokens + load.cached_tokens <= self.limits.cache_tokens, "{load:?}");
        for class in [Class::Interactive, Class::Batch] {
            assert!(self.decoding(class).count() <= self.limits.rows_per_class());
        }
    }

    fn queued_tokens(&self) -> usize {
        self.queued(|_| true)
    }

    fn counted(&self, which: impl Fn(&Arrival) -> bool) -> usize {
        let waiting = self.known.iter().filter(|(id, known)| self.planner.is_waiting(**id) && which(&known.arrival));
        waiting.map(|(_, known)| known.counted).sum()
    }

    fn queued(&self, which: impl Fn(&Arrival) -> bool) -> usize {
        let waiting = self.known.iter().filter(|(id, known)| self.planner.is_waiting(**id) && which(&known.arrival));
        waiting.map(|(_, known)| self.reserve(&known.arrival) * known.said.len()).sum()
    }

    /// Rows and tokens of cache that requests hold.
    fn holds(&self, which: impl Fn(&Known) -> bool) -> (usize, usize) {
        let admitted = self.known.iter().filter(|(id, known)| !self.planner.is_waiting(**id) && which(known));
        admitted.fold((0, 0), |(rows, tokens), (_, known)| {
            let left =
                known.said.iter().zip(&known.arrival.says).filter(|(said, says)| !known.over && said.len() < **says);
            let of_request = left.count();
            (rows + of_request, tokens + of_request * self.reserve(&known.arrival))
        })
    }

    fn is_small(&self, known: &Known) -> bool {
        let tokens = known.arrival.says.len() * self.reserve(&known.arrival);
        known.arrival.says.len() == 1 && tokens <= self.limits.small_tokens(known.arrival.class)
    }

    /// Who was admitted, and who was not, whatever the order.
    fn check_admissions(&mut self) {
        let of = |class| move |known: &Known| known.arrival.class == class;
        let is_new = |id: &RequestId, known: &Known| !known.over && !known.admitted && !self.planner.is_waiting(*id);
        let new: Vec<RequestId> =
            self.known.iter().filter(|(id, known)| is_new(id, known)).map(|(id, _)| *id).collect();
        for class in Class::ALL {
            let (rows, tokens) = self.holds(of(class));
            assert!(rows <= self.limits.rows_per_class() && tokens <= self.limits.of_class(class), "{class:?}");
            // Who has something grows up to its share of what is free. What it may have of the reserve is not of that.
            let (reserve_rows, reserve) =
                (self.limits.rows_per_class() - self.limits.batch, self.limits.of_class(class) / 8);
            for known in new.iter().map(|id| &self.known[id]).filter(|known| of(class)(known)) {
                let key = known.arrival.key;
                let (rows_of_key, of_key) = self.holds(|other| of(class)(other) && other.arrival.key == key);
                let alone = known.arrival.says.len() * self.reserve(&known.arrival);
                let has_more = of_key > alone + self.limits.small_tokens(class);
                // Others may have been admitted after it.
                let (later_rows, later) =
                    self.holds(|other| of(class)(other) && other.arrival.key != key && !other.admitted);
                let shared = (self.limits.of_class(class) - reserve, (tokens - later).saturating_sub(reserve));
                let shared_rows = (self.limits.batch, (rows - later_rows).saturating_sub(reserve_rows));
                let free = shared.0.saturating_sub(shared.1);
                let free_rows = shared_rows.0.saturating_sub(shared_rows.1);
                let most = (4 * free_rows + 1, 4 * free + self.limits.small_tokens(class));
                assert!(!has_more || rows_of_key <= most.0 && of_key <= most.1, "{class:?}: key {key} has {of_key}");
            }
        }
        let interactive_waits =
            self.known.iter().any(|(id, known)| of(Class::Interactive)(known) && self.planner.is_waiting(*id));
        let overtook = |id: &RequestId| self.known[id].arrival.class == Class::Batch;
        assert!(!interactive_waits || !new.iter().any(overtook), "batch work overtook interactive work that waits");
        self.check_reserve();
        for id in new {
            self.known.get_mut(&id).unwrap().admitted = true;
        }
    }

    fn reserve(&self, arrival: &Arrival) -> usize {
        self.round_up(arrival.prompt.len() + arrival.max_tokens)
    }

    fn round_up(&self, tokens: usize) -> usize {
        tokens.next_multiple_of(self.limits.granule)
    }
}
