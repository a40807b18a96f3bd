//! What comes: made up, or as it was recorded.

use hotpath_fairness::Class;
use serde::Deserialize;

use crate::{Time, lengths::Lengths, random::Random};

/// Where requests come from.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Traffic {
    /// Made up.
    Synthetic(Synthetic),
    /// As it was recorded.
    Recorded(Vec<Recorded>),
}

/// Requests that come whether or not earlier ones are answered, but for the later turns of a conversation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Synthetic {
    /// Requests a second in the mean, later turns included.
    pub rate_per_s: f64,
    /// Tokens of a prompt, or of each text for the encoder.
    pub prompt: Lengths,
    /// Tokens of a reply. Without it requests are for the encoder.
    #[serde(default)]
    pub output: Option<Lengths>,
    /// Texts of a request for the encoder.
    #[serde(default = "Lengths::one")]
    pub inputs: Lengths,
    /// What a client allows a reply beyond what it comes to, in tokens.
    #[serde(default)]
    pub spare_tokens: usize,
    /// Now and then more come; without it arrivals are a Poisson process.
    #[serde(default)]
    pub bursts: Option<Bursts>,
    /// Whether people go on.
    #[serde(default)]
    pub returns: Option<Returns>,
    /// How many fairness keys there are, all of which send alike.
    #[serde(default = "one")]
    pub tenants: usize,
    /// How many of the requests are of the class batch.
    #[serde(default)]
    pub batch_share: f64,
}

/// Times in which more comes.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bursts {
    /// So many times as much as at other times.
    pub times: f64,
    /// For so many seconds in the mean.
    pub for_s: f64,
    /// After so many seconds in the mean.
    pub after_s: f64,
}

/// Conversations.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Returns {
    /// How many replies are answered.
    pub share: f64,
    /// How long that takes in the mean, in seconds.
    pub think_s: f64,
    /// Tokens of the answer.
    pub question: Lengths,
}

/// A request that was recorded.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// When it came, in seconds since the recording began.
    pub at_s: f64,
    /// Tokens of its prompt, or of its texts.
    pub prompt_tokens: usize,
    /// Tokens of its reply; 0: it was for the encoder.
    #[serde(default)]
    pub output_tokens: usize,
    /// Those of one conversation have the same one, and each prompt of it begins with all that was read and said before.
    #[serde(default)]
    pub conversation: Option<u64>,
    /// Whose.
    #[serde(default)]
    pub tenant: usize,
    /// Whether it is of the class batch.
    #[serde(default)]
    pub batch: bool,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub what: What,
    pub class: Class,
    pub tenant: usize,
    /// Whose texts begin alike.
    pub conversation: u64,
    /// Whether it is a part of one, for those who ask where it belongs.
    pub has_home: bool,
    turn: u64,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Generate {
        prompt: usize,
        output: usize,
        /// The most that the client allows.
        most: usize,
    },
    Embed {
        inputs: Vec<usize>,
    },
}

/// One source of requests.
#[derive(Debug)]
pub(crate) struct Source {
    seed: u64,
    of: Traffic,
    /// Conversations that it has begun, or requests of the recording.
    begun: u64,
    /// So that no two sources have the same.
    first_conversation: u64,
    random: Random,
    now: Time,
    phase: Phase,
    context_tokens: usize,
}

/// Whether there is a burst, and until when that is so.
#[derive(Debug)]
struct Phase {
    is_burst: bool,
    until: Time,
}

/// Conversations of one source are numbered below this.
const CONVERSATIONS: u64 = 1 << 40;

impl Source {
    pub fn new(seed: u64, number: u64, of: &Traffic, context_tokens: usize) -> Self {
        let phase = Phase { is_burst: true, until: Time::ZERO };
        let mut of = of.clone();
        if let Traffic::Recorded(requests) = &mut of {
            requests.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        }
        let (first_conversation, random) = (number * CONVERSATIONS, Random::new(seed, "arrivals", number));
        Self { seed, of, begun: 0, first_conversation, random, now: Time::ZERO, phase, context_tokens }
    }

    /// The next one that nobody waits for, and when it comes.
    pub fn next(&mut self) -> Option<(Time, Call)> {
        let conversation = self.first_conversation + self.begun;
        match &self.of {
            Traffic::Recorded(requests) => {
                let request = requests.get(usize::try_from(self.begun).ok()?)?;
                self.begun += 1;
                Some((Time::from_secs_f64(request.at_s.max(0.0)), request.call(self.first_conversation, conversation)))
            }
            Traffic::Synthetic(synthetic) => {
                self.begun += 1;
                let first_turns = synthetic.rate_per_s * (1.0 - synthetic.returns.map_or(0.0, |returns| returns.share));
                self.now = self.phase.next(&mut self.random, self.now, first_turns, synthetic.bursts);
                Some((self.now, synthetic.first(self.seed, conversation, self.context_tokens)))
            }
        }
    }

    /// What somebody says to a reply, and after how long.
    pub fn follow(&self, call: &Call) -> Option<(Time, Call)> {
        match &self.of {
            Traffic::Recorded(_) => None,
            Traffic::Synthetic(synthetic) => synthetic.follow(self.seed, call, self.context_tokens),
        }
    }
}

impl Phase {
    /// When the next of arrivals comes that are so many a second in the mean.
    fn next(&mut self, random: &mut Random, mut now: Time, rate: f64, bursts: Option<Bursts>) -> Time {
        let Some(Bursts { times, for_s, after_s }) = bursts else { return now + random.seconds(1.0 / rate) };
        let calm = rate * (for_s + after_s) / (for_s * times + after_s);
        loop {
            let rate = if self.is_burst { calm * times } else { calm };
            let next = now + random.seconds(1.0 / rate);
            if next <= self.until {
                return next;
            }
            now = self.until; // what is exponential does not remember
            self.is_burst = !self.is_burst;
            self.until = now + random.seconds(if self.is_burst { for_s } else { after_s });
        }
    }
}

impl Synthetic {
    fn first(&self, seed: u64, conversation: u64, context_tokens: usize) -> Call {
        let mut random = Random::new(seed, "turn", conversation << 12);
        let tenant = random.below(self.tenants.max(1));
        let class = if random.chance(self.batch_share) { Class::Batch } else { Class::Interactive };
        let prompt = self.prompt.draw(&mut random);
        let what = if let Some(output) = self.output {
            self.generate(prompt, output.draw(&mut random), context_tokens)
        } else {
            let others = (1..self.inputs.draw(&mut random)).map(|_| self.prompt.draw(&mut random));
            What::Embed { inputs: std::iter::once(prompt).chain(others).collect() }
        };
        Call { what, class, tenant, conversation, has_home: self.returns.is_some(), turn: 0 }
    }

    fn follow(&self, seed: u64, call: &Call, context_tokens: usize) -> Option<(Time, Call)> {
        let (returns, What::Generate { prompt, output, .. }) = (self.returns?, &call.what) else { return None };
        let turn = call.turn + 1;
        let mut random = Random::new(seed, "turn", call.conversation << 12 | turn);
        if !random.chance(returns.share) {
            return None;
        }
        let prompt = prompt + output + returns.question.draw(&mut random);
        let reply = self.output?.draw(&mut random);
        if prompt + reply + self.spare_tokens > context_tokens {
            return None; // it is too long to go on
        }
        let thinks = random.seconds(returns.think_s);
        Some((thinks, Call { what: self.generate(prompt, reply, context_tokens), turn, ..call.clone() }))
    }

    fn generate(&self, prompt: usize, output: usize, context_tokens: usize) -> What {
        let prompt = prompt.min(context_tokens - 1);
        let output = output.min(context_tokens - prompt);
        What::Generate { prompt, output, most: (output + self.spare_tokens).min(context_tokens - prompt) }
    }
}

impl Recorded {
    fn call(&self, first_conversation: u64, own: u64) -> Call {
        let conversation =
            self.conversation.map(|id| first_conversation + (CONVERSATIONS / 2 + id % (CONVERSATIONS / 2)));
        let what = match self.output_tokens {
            0 => What::Embed { inputs: vec![self.prompt_tokens.max(1)] },
            output => What::Generate { prompt: self.prompt_tokens.max(1), output, most: output },
        };
        Call {
            what,
            class: if self.batch { Class::Batch } else { Class::Interactive },
            tenant: self.tenant,
            conversation: conversation.unwrap_or(own),
            has_home: conversation.is_some(),
            turn: 0,
        }
    }
}

impl Lengths {
    fn one() -> Self {
        Self::Exactly(1)
    }
}

fn one() -> usize {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synthetic(bursts: Option<Bursts>) -> Synthetic {
        let (prompt, question) = (Lengths::Exactly(100), Lengths::Exactly(10));
        let returns = Some(Returns { share: 0.5, think_s: 5.0, question });
        let output = Some(Lengths::Lognormal { median: 50.0, sigma: 1.0, most: 400 });
        let (inputs, spare_tokens) = (Lengths::one(), 0);
        Synthetic {
            rate_per_s: 10.0,
            prompt,
            output,
            inputs,
            spare_tokens,
            bursts,
            returns,
            tenants: 3,
            batch_share: 0.2,
        }
    }

    #[test]
    fn as_much_comes_as_is_said_with_bursts_and_without() {
        let bursts = Bursts { times: 8.0, for_s: 2.0, after_s: 10.0 };
        for bursts in [None, Some(bursts)] {
            let mut source = Source::new(1, 0, &Traffic::Synthetic(synthetic(bursts)), 8192);
            let times: Vec<f64> = (0..50_000).map(|_| source.next().unwrap().0.as_secs_f64()).collect();
            let rate = 50_000.0 / times.last().unwrap();
            assert!((rate - 5.0).abs() < 0.25, "{rate}: every second one is a later turn");
            let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let mean = gaps.iter().sum::<f64>() / 49_999.0;
            let variation = gaps.iter().map(|gap| (gap / mean - 1.0).powi(2)).sum::<f64>() / 49_999.0;
            assert_eq!(variation > 1.3, bursts.is_some(), "{variation}; that of a Poisson process is 1");
        }
    }

    #[test]
    fn a_later_turn_begins_with_all_that_was_said() {
        let mut source = Source::new(1, 3, &Traffic::Synthetic(synthetic(None)), 8192);
        let mut turns = 0;
        for _ in 0..200 {
            let (_, mut call) = source.next().unwrap();
            assert!(call.has_home);
            while let Some((_, next)) = source.follow(&call) {
                let (What::Generate { prompt, output, .. }, What::Generate { prompt: longer, .. }) =
                    (&call.what, &next.what)
                else {
                    panic!("{call:?}")
                };
                assert_eq!(*longer, prompt + output + 10);
                assert_eq!((next.conversation, next.tenant), (call.conversation, call.tenant));
                (call, turns) = (next, turns + 1);
            }
        }
        assert!((150..250).contains(&turns), "{turns}");
    }
}
