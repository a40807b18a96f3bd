//! What a request may say of how its tokens are chosen.

/// Most log-probabilities that may be asked for at each token, as OpenAI has it.
const MAX_TOP_LOGPROBS: u8 = 20;

/// How tokens are chosen. Steps go in this order: bias, penalties, `min_tokens`, temperature, `min_p`, `top_k`, `top_p`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token, of equal ones the one with the lowest id.
    pub temperature: f32,
    /// Keeps the fewest of the likeliest tokens whose probabilities make up this much; 1 keeps all.
    pub top_p: f32,
    /// Keeps this many of the likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps tokens of at least this part of the likeliest one's probability; 0 keeps all.
    pub min_p: f32,
    /// Taken from a token's logit for each time that it was said.
    pub frequency_penalty: f32,
    /// Taken from a token's logit if it was said.
    pub presence_penalty: f32,
    /// Divides a token's logit, or multiplies one below 0, if it was said or is in the prompt; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Added to the logits of some tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Where the random numbers come from: the same ones for the same seed.
    pub seed: u64,
    /// Before this many tokens no stop id is chosen and no stop string is looked for.
    pub min_tokens: u32,
    /// How many of the likeliest tokens to report at each token with their log-probabilities; 0 reports that of the chosen
    /// one alone, `None` none.
    pub top_logprobs: Option<u8>,
}

impl Default for Sampling {
    /// Greedy, and nothing else.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            seed: 0,
            min_tokens: 0,
            top_logprobs: None,
        }
    }
}

/// A field of [`Sampling`] is outside of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidSampling {
    /// The field's name.
    pub field: &'static str,
    /// What it is, and what it may be; continues a sentence that the field begins.
    pub problem: String,
}

impl Sampling {
    /// Holds every field against its range; token ids must be below `vocabulary`.
    ///
    /// # Errors
    /// [`InvalidSampling`] names the first field at fault.
    pub fn check(&self, vocabulary: usize) -> Result<(), InvalidSampling> {
        let within = |field, value: f32, low: f32, high: f32| {
            let problem = || format!("is {value}, it may be {low} to {high}");
            if (low..=high).contains(&value) { Ok(()) } else { Err(InvalidSampling { field, problem: problem() }) }
        };
        let above_zero = |field, value: f32, high: f32| {
            let problem = || format!("is {value}, it must be above 0 and at most {high}");
            if value > 0.0 && value <= high { Ok(()) } else { Err(InvalidSampling { field, problem: problem() }) }
        };
        within("temperature", self.temperature, 0.0, 2.0)?;
        above_zero("top_p", self.top_p, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        within("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        above_zero("repetition_penalty", self.repetition_penalty, 10.0)?;
        for (token, bias) in &self.logit_bias {
            within("logit_bias", *bias, -100.0, 100.0)?;
            if *token as usize >= vocabulary {
                let problem = format!("has token id {token}, ids are below {vocabulary}");
                return Err(InvalidSampling { field: "logit_bias", problem });
            }
        }
        match self.top_logprobs {
            Some(top) if top > MAX_TOP_LOGPROBS => {
                let problem = format!("is {top}, it may be at most {MAX_TOP_LOGPROBS}");
                Err(InvalidSampling { field: "top_logprobs", problem })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_range_is_refused_by_name() {
        type Change = fn(&mut Sampling);
        let cases: [(Change, &str); 14] = [
            (|sampling| sampling.temperature = -0.1, "temperature"),
            (|sampling| sampling.temperature = f32::NAN, "temperature"),
            (|sampling| sampling.temperature = 2.1, "temperature"),
            (|sampling| sampling.top_p = 0.0, "top_p"),
            (|sampling| sampling.top_p = 1.1, "top_p"),
            (|sampling| sampling.min_p = f32::INFINITY, "min_p"),
            (|sampling| sampling.frequency_penalty = 2.5, "frequency_penalty"),
            (|sampling| sampling.presence_penalty = -2.5, "presence_penalty"),
            (|sampling| sampling.repetition_penalty = 0.0, "repetition_penalty"),
            (|sampling| sampling.repetition_penalty = 10.5, "repetition_penalty"),
            (|sampling| sampling.repetition_penalty = f32::NAN, "repetition_penalty"),
            (|sampling| sampling.logit_bias = vec![(1, 101.0)], "logit_bias"),
            (|sampling| sampling.logit_bias = vec![(10, 1.0)], "logit_bias"),
            (|sampling| sampling.top_logprobs = Some(21), "top_logprobs"),
        ];
        for (change, field) in cases {
            let mut sampling = Sampling::default();
            assert_eq!(sampling.check(10), Ok(()));
            change(&mut sampling);
            assert_eq!(sampling.check(10).unwrap_err().field, field);
        }
    }
}
