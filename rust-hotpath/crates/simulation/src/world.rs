//! The heap of events, and what each of them causes.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use crate::{
    Time,
    costs::{Costs, number},
    gateway::{Asked, Gateway},
    random::{Random, mix},
    replica::{FlightId, Output, Progress, Replica, Thread},
    report::{Outcome, Report},
    scenario::{Scenario, Settings},
    tally::{Tally, Utilisation},
    traffic::{Call, Source, What},
    trouble::{Fault, faults, updates},
};

/// How old what a replica tells is at most, and how often a gateway looks at those that it has ejected.
const TELL: Time = Time::from_millis(250);
const LOOK: Time = Time::from_secs(1);

/// Says what would come of a scenario.
///
/// # Panics
/// Maybe, of one that [`Scenario::check`] refuses.
#[must_use]
pub fn simulate(scenario: &Scenario, costs: &Costs) -> Report {
    let mut world = World::new(scenario, costs);
    world.run();
    world.report()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The next request of a source.
    Arrive(usize),
    /// A later turn of a conversation.
    Follow(FlightId),
    /// A call comes to the replica that it was sent to.
    Reach(FlightId),
    /// A run ends, of the process with this number.
    End(usize, u64, Thread),
    Wake(usize, u64),
    Tell(usize),
    Look(usize),
    Fault(usize),
    Update(usize),
    /// A process has proved its models.
    Up(usize),
    /// Takes note of how long cores have worked.
    Note,
}

/// A replica, whichever process it is now.
#[derive(Debug)]
struct Place {
    replica: Replica,
    /// Which process it is.
    process: u64,
    is_up: bool,
    draining: bool,
    failing: f64,
    has: usize,
    /// For whom it has announced to wake up.
    wake: Option<Time>,
    /// Core-seconds of the processes before, and at the warm-up's end.
    busy_before: f64,
    busy_noted: [f64; 2],
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub call: Call,
    source: usize,
    pub arrived: Time,
    gateway: usize,
    asked: Asked,
    /// Where it may be sent yet.
    left: VecDeque<usize>,
    at: Option<usize>,
    pub first: Option<Time>,
    pub reused: usize,
    outcome: Option<Outcome>,
}

struct World<'a> {
    scenario: &'a Scenario,
    costs: &'a Costs,
    now: Time,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    count: u64,
    sources: Vec<Source>,
    next: Vec<Option<Call>>,
    gateways: Vec<Gateway>,
    places: Vec<Place>,
    faults: Vec<(Time, usize, Fault)>,
    random: Random,
    flights: Vec<Flight>,
    under_way: usize,
    to_come: usize,
    /// Replicas that an update has yet to come to.
    to_update: VecDeque<usize>,
    updating: usize,
    updated: Time,
    last: Time,
    tally: Tally,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, costs: &'a Costs) -> Self {
        let Scenario { seed, settings, .. } = scenario;
        let place = |_| Place {
            replica: Replica::new(costs, settings),
            process: 0,
            is_up: true,
            draining: false,
            failing: 0.0,
            has: 0,
            wake: None,
            busy_before: 0.0,
            busy_noted: [0.0; 2],
        };
        let gateway = |number| Gateway::new(*seed, number, scenario.policy, scenario.replicas);
        let source = |(number, of)| Source::new(*seed, number, of, settings.context_tokens);
        let mut world = Self {
            scenario,
            costs,
            now: Time::ZERO,
            events: BinaryHeap::new(),
            count: 0,
            sources: (0..).zip(&scenario.traffic).map(source).collect(),
            next: vec![None; scenario.traffic.len()],
            gateways: (0..scenario.gateways.max(1) as u64).map(gateway).collect(),
            places: (0..scenario.replicas).map(place).collect(),
            faults: faults(scenario),
            random: Random::new(*seed, "world", 0),
            flights: Vec::new(),
            under_way: 0,
            to_come: 0,
            to_update: VecDeque::new(),
            updating: 0,
            updated: Time::ZERO,
            last: Time::ZERO,
            tally: Tally::default(),
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        (0..self.sources.len()).for_each(|source| self.arrival(source));
        for replica in 0..self.places.len() {
            let phase = TELL.mul_f64(self.random.unit()); // they did not start together
            self.at(phase, Event::Tell(replica));
        }
        for gateway in 0..self.gateways.len() {
            let phase = LOOK.mul_f64(self.random.unit());
            self.at(phase, Event::Look(gateway));
        }
        for fault in 0..self.faults.len() {
            self.at(self.faults[fault].0, Event::Fault(fault));
        }
        for (time, at_once) in updates(self.scenario) {
            self.at(time, Event::Update(at_once));
        }
        for time in [self.scenario.warmup_s, self.scenario.seconds] {
            self.at(Time::from_secs_f64(time), Event::Note);
        }
    }

    fn at(&mut self, time: Time, event: Event) {
        self.count += 1;
        self.events.push(Reverse((time, self.count, event)));
    }

    fn run(&mut self) {
        let end = Time::from_secs_f64(self.scenario.seconds);
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            let is_over = self.now > end && self.under_way == 0 && self.to_come == 0 && self.updating == 0;
            if is_over {
                return; // nothing but signs of life is left
            }
            self.now = time;
            self.happens(event);
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrive(source) => {
                self.to_come -= 1;
                if let Some(call) = self.next[source].take() {
                    self.arrival(source);
                    self.arrive(source, call);
                }
            }
            Event::Follow(flight) => {
                self.to_come -= 1;
                let source = self.flights[flight].source;
                if let Some((_, call)) = self.sources[source].follow(&self.flights[flight].call) {
                    self.arrive(source, call);
                }
            }
            Event::Reach(flight) => self.reach(flight),
            Event::End(replica, process, thread) => {
                if self.places[replica].process == process {
                    let mut output = Output::default();
                    self.places[replica].replica.end(self.now, thread, &mut output);
                    self.go_on(replica, output);
                }
            }
            Event::Wake(replica, process) => {
                if self.places[replica].process == process {
                    self.places[replica].wake = None;
                    self.go_on(replica, Output::default());
                }
            }
            Event::Tell(replica) => {
                self.tell(replica);
                self.at(self.now + TELL, Event::Tell(replica));
            }
            Event::Look(gateway) => {
                self.gateways[gateway].look(self.now);
                self.at(self.now + LOOK, Event::Look(gateway));
            }
            Event::Fault(number) => self.fault(number),
            Event::Update(at_once) => {
                self.to_update.extend(0..self.places.len());
                (0..at_once).for_each(|_| self.update_next());
            }
            Event::Up(replica) => self.up(replica),
            Event::Note => {
                let is_end = self.now >= Time::from_secs_f64(self.scenario.seconds);
                for place in &mut self.places {
                    place.busy_noted[usize::from(is_end)] = place.busy_before + place.replica.busy;
                }
            }
        }
    }

    // -- a request's way

    fn arrival(&mut self, source: usize) {
        let next = self.sources[source].next();
        if let Some((time, call)) = next.filter(|(time, _)| time.as_secs_f64() < self.scenario.seconds) {
            self.next[source] = Some(call);
            self.to_come += 1;
            self.at(time, Event::Arrive(source));
        }
    }

    fn arrive(&mut self, source: usize, call: Call) {
        let gateway = self.random.below(self.gateways.len());
        let home = if call.has_home { mix(call.conversation).max(1) } else { 0 };
        let tokens = charge(&call.what, &self.scenario.settings);
        let asked = Asked { tenant: call.tenant, class: call.class, tokens, home };
        let left = self.gateways[gateway].route(self.now, &asked);
        let is_full = left.is_none();
        let (left, arrived) = (left.unwrap_or_default().into(), self.now);
        let (at, first, outcome) = (None, None, None);
        self.flights.push(Flight { call, source, arrived, gateway, asked, left, at, first, reused: 0, outcome });
        self.under_way += 1;
        let flight = self.flights.len() - 1;
        if is_full { self.end(flight, Outcome::Refused) } else { self.send(flight) }
    }

    /// Sends a call to the next replica that it may go to.
    fn send(&mut self, flight: FlightId) {
        let of = &mut self.flights[flight];
        of.at = of.left.pop_front();
        let Some(replica) = of.at else { return self.end(flight, Outcome::Unavailable) };
        self.gateways[of.gateway].replicas[replica].work.begin(of.asked.tokens);
        self.at(self.now + self.costs.way.there(), Event::Reach(flight));
    }

    fn reach(&mut self, flight: FlightId) {
        let Some(replica) = self.flights[flight].at else { return };
        let place = &mut self.places[replica];
        if !place.is_up || place.draining {
            return self.elsewhere(flight); // it has not begun it
        }
        let (gateway, asked) = (self.flights[flight].gateway, self.flights[flight].asked);
        if place.failing > 0.0 && self.random.chance(place.failing) {
            self.gateways[gateway].failed(self.now, replica);
            return self.end(flight, Outcome::Failed);
        }
        let deadline = self.flights[flight].arrived + Time::from_secs_f64(self.scenario.settings.timeout_s);
        match place.replica.submit(self.now, flight, &self.flights[flight].call, deadline) {
            Ok(()) => {
                place.has += 1;
                self.go_on(replica, Output::default());
            }
            Err(waiting) => {
                self.gateways[gateway].was_full(self.now, replica, &asked, waiting);
                self.end(flight, Outcome::Refused);
            }
        }
    }

    /// Sends a call that was not begun to another replica.
    fn elsewhere(&mut self, flight: FlightId) {
        self.leave(flight);
        let gateway = self.flights[flight].gateway;
        if self.flights[flight].left.is_empty() || !self.gateways[gateway].may_retry(self.now) {
            return self.end(flight, Outcome::Unavailable);
        }
        self.send(flight);
    }

    /// A call is no longer where it was.
    fn leave(&mut self, flight: FlightId) {
        let of = &mut self.flights[flight];
        if let Some(replica) = of.at.take() {
            self.gateways[of.gateway].replicas[replica].work.end(of.asked.tokens);
        }
    }

    fn end(&mut self, flight: FlightId, outcome: Outcome) {
        let replica = self.flights[flight].at;
        self.leave(flight);
        let of = &mut self.flights[flight];
        assert_eq!(of.outcome.replace(outcome), None, "a request ends once");
        self.under_way -= 1;
        if outcome == Outcome::Done
            && let Some(replica) = replica
        {
            self.gateways[of.gateway].succeeded(replica);
        }
        let answered = self.now + self.costs.way.back();
        self.last = answered;
        self.tally.count(self.scenario, of, outcome, answered);
        if outcome == Outcome::Done
            && let Some((thinks, _)) = self.sources[of.source].follow(&of.call)
            && (answered + thinks).as_secs_f64() < self.scenario.seconds
        {
            self.to_come += 1;
            self.at(answered + thinks, Event::Follow(flight));
        }
    }

    // -- a replica's life

    /// Lets a replica go on, and takes note of what came of it.
    fn go_on(&mut self, replica: usize, mut output: Output) {
        let place = &mut self.places[replica];
        place.replica.go_on(self.now, &mut output);
        let process = place.process;
        let is_sooner = |wake: &Time| place.wake.is_none_or(|other| *wake < other);
        if let Some(wake) = output.wake.filter(is_sooner) {
            place.wake = Some(wake);
            self.at(wake, Event::Wake(replica, process));
        }
        for (thread, end) in output.runs {
            self.at(end, Event::End(replica, process, thread));
        }
        for (flight, progress) in output.progress {
            let outcome = match progress {
                Progress::First { reused } => {
                    let of = &mut self.flights[flight];
                    of.first = Some((self.now + self.costs.way.back()).saturating_sub(of.arrived));
                    of.reused = reused;
                    continue;
                }
                Progress::Done => Outcome::Done,
                Progress::Waited => Outcome::Waited,
                Progress::Late => Outcome::Late,
            };
            self.places[replica].has -= 1;
            self.end(flight, outcome);
        }
        if self.places[replica].draining && self.places[replica].has == 0 {
            self.down(replica);
        }
    }

    fn tell(&mut self, replica: usize) {
        let place = &self.places[replica];
        if place.is_up && !place.draining {
            let load = i64::try_from(place.replica.load()).unwrap_or(i64::MAX);
            for gateway in &mut self.gateways {
                gateway.replicas[replica].work.tell(load);
            }
        }
    }

    fn fault(&mut self, number: usize) {
        let (_, replica, fault) = self.faults[number];
        let place = &mut self.places[replica];
        match fault {
            Fault::Pace(times) => place.replica.pace = times,
            Fault::Failing(share) => place.failing = share,
            Fault::Death if place.is_up => {
                let flights: Vec<FlightId> = place.replica.flights().collect();
                place.has = 0;
                self.down(replica);
                for flight in flights {
                    self.end(flight, Outcome::Lost);
                }
            }
            Fault::Death => (),
        }
    }

    /// A process is gone; another one starts in its place.
    fn down(&mut self, replica: usize) {
        let place = &mut self.places[replica];
        place.busy_before += place.replica.busy;
        let pace = place.replica.pace;
        place.replica = Replica::new(self.costs, &self.scenario.settings);
        place.replica.pace = pace;
        place.process += 1;
        (place.is_up, place.wake) = (false, None);
        for gateway in &mut self.gateways {
            gateway.disconnected(replica);
        }
        self.at(self.now + Time::from_secs_f64(self.scenario.settings.start_s), Event::Up(replica));
    }

    fn up(&mut self, replica: usize) {
        let place = &mut self.places[replica];
        let was_updated = std::mem::take(&mut place.draining);
        place.is_up = true;
        for gateway in &mut self.gateways {
            gateway.connected(replica);
        }
        if was_updated {
            self.updating -= 1;
            self.updated = self.now;
        }
        if was_updated || self.updating == 0 {
            self.update_next();
        }
    }

    /// Drains the next replica that is there.
    fn update_next(&mut self) {
        let is_there = |replica: &usize| self.places[*replica].is_up && !self.places[*replica].draining;
        let Some(next) = self.to_update.iter().position(is_there) else { return };
        let Some(replica) = self.to_update.remove(next) else { return };
        self.updating += 1;
        self.places[replica].draining = true;
        for gateway in &mut self.gateways {
            gateway.replicas[replica].draining = true; // the stream of its load ends at once
        }
        if self.places[replica].has == 0 {
            self.down(replica);
        }
    }

    fn report(self) -> Report {
        let ended = self.flights.iter().all(|flight| flight.outcome.is_some());
        assert!(ended && self.under_way == 0, "every request ends");
        let Scenario { seconds, warmup_s, settings, .. } = self.scenario;
        let window = (seconds - warmup_s).max(f64::MIN_POSITIVE);
        let worked = |place: &Place| (place.busy_noted[1] - place.busy_noted[0]) / window / number(settings.cores);
        let worked: Vec<f64> = self.places.iter().map(worked).collect();
        let utilisation = Utilisation {
            all: worked.iter().sum::<f64>() / number(worked.len()),
            most: worked.iter().copied().fold(0.0, f64::max),
            least: worked.iter().copied().fold(f64::MAX, f64::min),
        };
        let drained_s = (self.last.as_secs_f64() - seconds).max(0.0);
        self.tally.report(self.scenario, utilisation, drained_s, self.updated.as_secs_f64(), self.count)
    }
}

/// Tokens that a gateway takes a call for: its prompt's bytes, and the most that its reply may come to.
#[allow(clippy::cast_possible_truncation)] // it is far below
fn charge(what: &What, settings: &Settings) -> i64 {
    let bytes = |tokens: usize| number(tokens) * settings.bytes_per_token;
    let context = number(settings.context_tokens);
    (match what {
        What::Generate { prompt, most, .. } => bytes(*prompt).min(context) + number(*most),
        What::Embed { inputs } => inputs.iter().map(|tokens| bytes(*tokens)).sum(),
    }) as i64
}
