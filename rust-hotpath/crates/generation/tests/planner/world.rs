//! A model of the planner that is too simple to be wrong: a cache whose rows hold what was really put there, requests with
//! where they stand, and every rule checked by looking at all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hotpath_generation::planner::{
    Chunk, Class, Decoding, Ended, Limits, Planner, Refusal, Request, RequestId, RowChange, Run, SequenceId, Time,
};
use hotpath_runtime::chunk_at;
use proptest::sample::Index;

#[derive(Debug, Clone)]
pub enum Event {
    Arrive(Arrival),
    Next,
    Cancel(Index),
    Pause(Index),
    Resume(Index),
    Hold(Index, usize),
    GoOn(Index, usize),
    Wait(u64),
}

#[derive(Debug, Clone)]
pub struct Arrival {
    pub class: Class,
    pub key: usize,
    pub prompt: Vec<u32>,
    pub max_tokens: usize,
    /// For each choice, how many tokens it says.
    pub says: Vec<usize>,
    pub deadline: Option<u64>,
}

/// What one place of a row holds: a token, and for one that was read, whose prompt it was read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Read { token: u32, key: usize },
    Said { sequence: SequenceId, number: usize },
}

#[derive(Debug)]
struct Known {
    arrival: Arrival,
    arrived: Time,
    /// Tokens read, once its prompt has been begun.
    read: Option<usize>,
    /// Tokens said by each choice.
    said: Vec<usize>,
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
        !self.over && self.said[choice] > 0 && self.said[choice] < self.arrival.says[choice]
    }

    fn is_reading(&self) -> bool {
        !self.over && self.read.is_some_and(|read| read < self.arrival.prompt.len())
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
    /// The most that each row has held since it was released: what it takes memory for.
    touched: Vec<usize>,
    chunk_went_last: bool,
    pub reused: usize,
}

impl World {
    pub fn new(limits: Limits) -> Self {
        Self {
            planner: Planner::new(limits),
            limits,
            now: Duration::ZERO,
            known: BTreeMap::new(),
            cache: vec![Vec::new(); limits.rows()],
            touched: vec![0; limits.rows()],
            chunk_went_last: false,
            reused: 0,
        }
    }

    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Arrive(arrival) => drop(self.arrive(arrival)),
            Event::Next => drop(self.next()),
            Event::Cancel(which) => self.with_any(which, |planner, known, id, _| {
                known.cancelled = true;
                known.over |= planner.is_waiting(id); // what waits is gone at once
                planner.cancel(id);
            }),
            Event::Pause(which) => self.with_any(which, |planner, known, id, now| {
                let speaks = known.said.iter().any(|said| *said > 0);
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
                // It has had a part in a step.
                if known.said.get(choice).is_some_and(|said| *said > 1) && known.is_decoding(choice) {
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
        let id = self.planner.submit(self.now, request).inspect_err(|refusal| match refusal {
            Refusal::Full { .. } => assert!(!fits, "refused without need"),
            Refusal::TooLong { tokens: actual, limit } => assert!(actual > limit),
            other => panic!("{other:?} for {arrival:?}"),
        })?;
        assert!(fits, "admitted beyond the bound");
        let known = Known {
            arrived: self.now,
            read: None,
            said: vec![0; arrival.says.len()],
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
        let due = self.due();
        let decision = self.planner.next(self.now);
        assert_eq!(decision.ended.iter().copied().collect::<BTreeMap<_, _>>(), due, "who ended");
        for id in due.keys() {
            self.known.get_mut(id).unwrap().over = true;
        }
        decision.changes.iter().for_each(|change| self.change(change));
        self.check_admissions();
        self.check_memory();
        self.check_class(decision.run.as_ref());
        match &decision.run {
            Some(Run::Prefill(chunk)) => self.prefill(chunk),
            Some(Run::Decode { first, rows }) => self.decode(*first, rows),
            None => {
                let waits = self.known.values().any(|known| !known.over && known.held.is_empty());
                let for_others = self.known.values().any(|known| !known.over && !known.held.is_empty());
                assert!(!waits || decision.wake.is_some() || for_others, "work waits for nothing");
            }
        }
        decision.run.is_some()
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
        assert_eq!(held, load.cached_tokens, "rows hold what nobody knows of");
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

    fn change(&mut self, change: &RowChange) {
        match *change {
            RowChange::Copy { from, to, tokens } => {
                assert_ne!(from, to);
                let cells = self.cache[from][..tokens].to_vec();
                (self.cache[to], self.touched[to]) = (cells, tokens);
            }
            RowChange::Release(row) => (self.cache[row], self.touched[row]) = (Vec::new(), 0),
        }
    }

    fn prefill(&mut self, chunk: &Chunk) {
        let known = self.known.get_mut(&chunk.request).unwrap();
        let (prompt, key) = (&known.arrival.prompt, known.arrival.key);
        let begins = known.read.is_none();
        assert!(begins && chunk.start.is_multiple_of(self.limits.reuse_tokens) || known.read == Some(chunk.start));
        assert_eq!(chunk.tokens, chunk_at(chunk.start, prompt.len(), self.limits.chunk_tokens));
        assert_eq!(chunk.last, chunk.start + chunk.tokens == prompt.len());
        assert!(chunk.tokens > 1 || prompt.len() == 1, "a token was read alone");
        if begins {
            self.reused += chunk.start;
        }
        for (place, cell) in self.cache[chunk.row][..chunk.start].iter().enumerate() {
            let Cell::Read { token, key: of } = *cell else { panic!("{cell:?} was reused") };
            assert_eq!(token, prompt[place]);
            assert!(of == key || self.limits.share_prefixes, "reused across keys");
        }
        self.cache[chunk.row].truncate(chunk.start);
        let end = chunk.start + chunk.tokens;
        self.cache[chunk.row].extend(prompt[chunk.start..end].iter().map(|token| Cell::Read { token: *token, key }));
        known.read = Some(end);
        self.planner.ran(Duration::from_millis(5));
        if chunk.last {
            (0..known.said.len()).for_each(|choice| self.say(SequenceId { request: chunk.request, choice }));
        }
        self.check_memory();
    }

    fn decode(&mut self, first: usize, rows: &[Decoding]) {
        let class = self.known[&rows[0].sequence.request].arrival.class;
        let expected: BTreeSet<SequenceId> = self.decoding(class).collect();
        let goes_on = |row: &&Decoding| !row.repeats;
        assert_eq!(
            rows.iter().filter(goes_on).map(|row| row.sequence).collect::<BTreeSet<_>>(),
            expected,
            "who decodes"
        );
        for (row, decoding) in (first..).zip(rows) {
            let sequence = decoding.sequence;
            let known = &self.known[&sequence.request];
            let cells = &mut self.cache[row];
            let mut said = known.said[sequence.choice] - 1; // the last one is what this step appends
            if decoding.repeats {
                assert!(known.held.contains(&sequence.choice) && known.paused.is_none(), "repeated without need");
                said -= 1;
                assert_eq!(cells.pop(), Some(Cell::Said { sequence, number: said }));
            }
            assert_eq!((cells.len(), decoding.length), (decoding.length, known.arrival.prompt.len() + said));
            for (place, cell) in cells.iter().enumerate() {
                let number = place.wrapping_sub(known.arrival.prompt.len());
                match *cell {
                    Cell::Read { token, .. } => assert_eq!(token, known.arrival.prompt[place]),
                    other @ Cell::Said { .. } => assert_eq!(other, Cell::Said { sequence, number }),
                }
            }
            cells.push(Cell::Said { sequence, number: said });
        }
        self.planner.ran(Duration::from_millis(2));
        for row in rows.iter().filter(goes_on) {
            self.say(row.sequence);
        }
        self.check_memory();
    }

    /// A continuation says a token, and ends if it was its last.
    fn say(&mut self, sequence: SequenceId) {
        let known = self.known.get_mut(&sequence.request).unwrap();
        known.said[sequence.choice] += 1;
        if known.said[sequence.choice] == known.arrival.says[sequence.choice] {
            self.planner.finish(sequence);
            known.over = known.said == known.arrival.says;
        }
    }

    /// Interactive before batch, and no two chunks in a row while others decode.
    fn check_class(&mut self, run: Option<&Run>) {
        let ran = match run {
            Some(Run::Prefill(chunk)) => self.known[&chunk.request].arrival.class,
            Some(Run::Decode { rows, .. }) => self.known[&rows[0].sequence.request].arrival.class,
            None => {
                assert!([Class::Interactive, Class::Batch].iter().all(|class| !self.has_work(*class)), "idle");
                return;
            }
        };
        assert!(ran == Class::Interactive || !self.has_work(Class::Interactive), "batch went before interactive");
        let chunk = matches!(run, Some(Run::Prefill(_)));
        assert!(!(chunk && self.chunk_went_last && self.decoding(ran).next().is_some()), "two chunks delayed a step");
        self.chunk_went_last = chunk;
    }

    fn has_work(&self, class: Class) -> bool {
        let reading = self.known.values().any(|known| known.arrival.class == class && known.is_reading());
        reading || self.decoding(class).next().is_some()
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
        for (touched, row) in self.touched.iter_mut().zip(&self.cache) {
            *touched = row.len().max(*touched);
        }
        let held: usize = self.touched.iter().map(|tokens| self.round_up(*tokens)).sum();
        assert!(held <= self.limits.cache_tokens, "rows hold {held} tokens");
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
            let left = known.said.iter().zip(&known.arrival.says).filter(|(said, says)| !known.over && said < says);
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

    /// One who has nothing and asks for something small gets it as long as there is some of the reserve.
    fn check_reserve(&self) {
        let class = Class::Interactive;
        let of_class = |known: &Known| known.arrival.class == class;
        let (rows, tokens) = self.holds(|known| of_class(known) && self.is_small(known));
        let is_left = rows < self.limits.rows_per_class() - self.limits.batch
            && tokens + self.limits.small_tokens(class) <= self.limits.cache_tokens / 8;
        let mut keys = BTreeSet::new();
        for (id, known) in self.known.iter().filter(|(_, known)| !known.over && of_class(known)) {
            let is_oldest = keys.insert(known.arrival.key); // ids ascend with arrival, and what runs is older
            let must = is_oldest && is_left && self.is_small(known);
            assert!(!must || !self.planner.is_waiting(*id), "a newcomer waits for a reserve that is there");
        }
        let waits = self.known.iter().any(|(id, known)| of_class(known) && self.planner.is_waiting(*id));
        assert!(!waits || self.holds(|_| true).0 > 0, "room is kept for nobody");
    }

    fn reserve(&self, arrival: &Arrival) -> usize {
        self.round_up(arrival.prompt.len() + arrival.max_tokens)
    }

    fn round_up(&self, tokens: usize) -> usize {
        tokens.next_multiple_of(self.limits.granule)
    }
}
