//! Counts what became of requests.

use crate::{
    Time,
    costs::number,
    report::{Distribution, Outcome, Outcomes, Report},
    scenario::Scenario,
    traffic::What,
    world::Flight,
};

/// What became of the requests so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    outcomes: Outcomes,
    firsts: Vec<Time>,
    latencies: Vec<Time>,
    per_token: Vec<Time>,
    prompt_tokens: usize,
    reused_tokens: usize,
    /// Those that were done while requests came, and their tokens.
    done_in_time: usize,
    output_tokens: usize,
}

/// How much of their time the cores worked: of all replicas, and of two of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Utilisation {
    pub all: f64,
    pub most: f64,
    pub least: f64,
}

impl Tally {
    /// A request has ended; its client knows it at a moment.
    pub fn count(&mut self, scenario: &Scenario, of: &Flight, outcome: Outcome, answered: Time) {
        let in_time = scenario.warmup_s..scenario.seconds;
        if outcome == Outcome::Done && in_time.contains(&answered.as_secs_f64()) {
            self.done_in_time += 1;
            self.output_tokens += if let What::Generate { output, .. } = of.call.what { output } else { 0 };
        }
        if of.arrived.as_secs_f64() < scenario.warmup_s {
            return;
        }
        self.outcomes.count(outcome);
        if outcome != Outcome::Done {
            return;
        }
        let took = answered.saturating_sub(of.arrived);
        self.latencies.push(took);
        if let (Some(first), What::Generate { prompt, output, .. }) = (of.first, &of.call.what) {
            self.firsts.push(first);
            if *output > 1 {
                self.per_token.push(took.saturating_sub(first).div_f64(number(output - 1)));
            }
            self.prompt_tokens += prompt;
            self.reused_tokens += of.reused;
        }
    }

    pub fn report(
        self,
        scenario: &Scenario,
        utilisation: Utilisation,
        drained_s: f64,
        updated_s: f64,
        events: u64,
    ) -> Report {
        let Scenario { name, seed, replicas, policy, seconds, warmup_s, .. } = scenario;
        let window = (seconds - warmup_s).max(f64::MIN_POSITIVE);
        let reused_share =
            if self.prompt_tokens == 0 { 0.0 } else { number(self.reused_tokens) / number(self.prompt_tokens) };
        Report {
            name: name.clone(),
            seed: *seed,
            replicas: *replicas,
            policy: *policy,
            outcomes: self.outcomes,
            requests_per_s: number(self.done_in_time) / window,
            output_tokens_per_s: number(self.output_tokens) / window,
            first_token_ms: Distribution::of(self.firsts),
            latency_ms: Distribution::of(self.latencies),
            token_ms: Distribution::of(self.per_token),
            reused_share,
            utilisation: utilisation.all,
            utilisation_most: utilisation.most,
            utilisation_least: utilisation.least,
            drained_s,
            updated_s,
            events,
        }
    }
}
