//! The sampler against an oracle that is too simple to be wrong: whole probabilities in float64, sorted.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, missing_docs, reason = "a test's panic is its failure")]

use std::sync::Arc;

use hotpath_generation::{NoChoice, Sampler, Sampling};
use proptest::prelude::*;

const TOKENS: u32 = 700; // more than one block, and more than one look for the nucleus
const VOCABULARY: usize = TOKENS as usize;

/// The logits of a step, as the definitions have them.
fn adjusted(logits: &[f32], sampling: &Sampling, prompt: &[u32], said: &[u32], stops: &[u32]) -> Vec<f64> {
    (0..)
        .zip(logits)
        .map(|(token, logit)| {
            let bias =
                sampling.logit_bias.iter().filter(|(biased, _)| *biased == token).map(|(_, bias)| f64::from(*bias));
            let mut logit = f64::from(*logit) + bias.sum::<f64>();
            let count = said.iter().filter(|other| **other == token).count();
            if count > 0 || prompt.contains(&token) {
                let factor = f64::from(sampling.repetition_penalty);
                logit = if logit > 0.0 { logit / factor } else { logit * factor };
            }
            if count > 0 {
                logit -= f64::from(sampling.frequency_penalty) * count as f64 + f64::from(sampling.presence_penalty);
            }
            if stops.contains(&token) && said.len() < sampling.min_tokens as usize { f64::NEG_INFINITY } else { logit }
        })
        .collect()
}

/// Tokens with their probabilities in falling order, as far as they may be drawn.
fn distribution(logits: &[f64], sampling: &Sampling) -> Vec<(u32, f64)> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weight = |logit: &f64| ((logit - largest) / f64::from(sampling.temperature)).exp();
    let mut ranked: Vec<(u32, f64)> = (0..).zip(logits.iter().map(weight)).collect();
    ranked.sort_by(|(a, x), (b, y)| y.partial_cmp(x).unwrap().then(a.cmp(b)));
    ranked.retain(|(_, weight)| *weight >= f64::from(sampling.min_p));
    if sampling.top_k > 0 {
        ranked.truncate(sampling.top_k as usize);
    }
    let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
    let mut sum = 0.0;
    ranked.retain(|(_, weight)| {
        let before = sum;
        sum += weight / total;
        before < f64::from(sampling.top_p)
    });
    let kept: f64 = ranked.iter().map(|(_, weight)| weight).sum();
    ranked.into_iter().map(|(token, weight)| (token, weight / kept)).collect()
}

fn logits() -> impl Strategy<Value = Vec<f32>> {
    let scale = prop::sample::select(vec![0.1_f32, 1.0, 4.0]);
    // Quarters, so that ties happen.
    (scale, prop::collection::vec(-40..40_i8, VOCABULARY))
        .prop_map(|(scale, steps)| steps.into_iter().map(|step| f32::from(step) * 0.25 * scale).collect())
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let penalties = (
        prop_oneof![Just(0.0_f32), -2.0..2.0_f32],
        prop_oneof![Just(0.0_f32), -2.0..2.0_f32],
        prop_oneof![Just(1.0_f32), 0.5..2.0_f32],
    );
    let cuts = (
        prop_oneof![Just(1.0_f32), 0.01..1.0_f32],
        prop_oneof![Just(0_u32), 1..800_u32],
        prop_oneof![Just(0.0_f32), 0.0..1.0_f32],
    );
    let bias = prop::collection::vec((0..TOKENS, -100.0..100.0_f32), 0..4);
    (prop_oneof![Just(0.0_f32), 0.1..2.0_f32], cuts, penalties, bias, any::<u64>(), 0..4_u32).prop_map(
        |(
            temperature,
            (top_p, top_k, min_p),
            (frequency_penalty, presence_penalty, repetition_penalty),
            logit_bias,
            seed,
            min_tokens,
        )| {
            Sampling {
                temperature,
                top_p,
                top_k,
                min_p,
                frequency_penalty,
                presence_penalty,
                repetition_penalty,
                logit_bias,
                seed,
                min_tokens,
                top_logprobs: None,
            }
        },
    )
}

fn sampler(sampling: &Sampling, prompt: &[u32], stops: &[u32]) -> Sampler {
    Sampler::new(Arc::new(sampling.clone()), 0, prompt, stops.into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// Of the likeliest tokens each is drawn as often as the oracle says.
    #[test]
    fn frequencies_are_those_of_the_oracle(logits in logits(), sampling in sampling()) {
        prop_assume!(sampling.temperature > 0.0);
        let rounds = 1000_u32;
        let mut counts = vec![0_u32; VOCABULARY];
        for seed in 0..rounds {
            let sampling = Sampling { seed: sampling.seed.wrapping_add(u64::from(seed)), ..sampling.clone() };
            counts[sampler(&sampling, &[], &[]).choose(&logits, None).unwrap().token as usize] += 1;
        }
        let adjusted = adjusted(&logits, &sampling, &[], &[], &[]);
        for (token, probability) in distribution(&adjusted, &sampling).into_iter().take(5) {
            let expected = probability * f64::from(rounds);
            let deviation = (f64::from(counts[token as usize]) - expected).abs();
            let sigma = (expected * (1.0 - probability)).sqrt();
            prop_assert!(deviation <= 6.0 * sigma + 3.0, "token {} came {} times for {}", token, counts[token as usize], expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Every token that is drawn is one that the oracle may draw (but for rounding at the edges of what is kept).
    #[test]
    fn draws_are_those_of_the_oracle(
        steps in prop::collection::vec(logits(), 1..5),
        sampling in sampling(),
        prompt in prop::collection::vec(0..TOKENS, 0..20),
    ) {
        prop_assert_eq!(sampling.check(VOCABULARY), Ok(()));
        let stops = [3, 5];
        let mut sampler = sampler(&sampling, &prompt, &stops);
        let mut said = Vec::new();
        for logits in &steps {
            let token = sampler.choose(logits, None).unwrap().token;
            let adjusted = adjusted(logits, &sampling, &prompt, &said, &stops);
            let logit = adjusted[token as usize];
            if sampling.temperature == 0.0 {
                let best = adjusted.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                prop_assert!(logit > best - 1e-3, "{} is not the largest, {}", logit, best);
            } else {
                let least = distribution(&adjusted, &sampling).last().map(|(token, _)| adjusted[*token as usize]).unwrap();
                prop_assert!(logit > least - 1e-3, "{} is below what is kept, {}", logit, least);
            }
            said.push(token);
        }
    }

    #[test]
    fn greedy_takes_the_largest_and_the_first_of_equals(logits in logits()) {
        let token = sampler(&Sampling::default(), &[], &[]).choose(&logits, None).unwrap().token as usize;
        prop_assert!(logits[..token].iter().all(|logit| *logit < logits[token]));
        prop_assert!(logits[token..].iter().all(|logit| *logit <= logits[token]));
    }

    #[test]
    fn log_probabilities_are_the_models_own(logits in logits(), sampling in sampling(), top in 0..21_u8) {
        let asked = Sampling { top_logprobs: Some(top), ..sampling };
        let choice = sampler(&asked, &[], &[]).choose(&logits, None).unwrap();
        let total = logits.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln();
        let near = |logprob: f32, token: u32| (f64::from(logprob) - (f64::from(logits[token as usize]) - total)).abs() < 1e-3;
        prop_assert!(near(choice.logprob.unwrap(), choice.token));
        let mut ranked: Vec<u32> = (0..TOKENS).collect();
        ranked.sort_by(|a, b| logits[*b as usize].partial_cmp(&logits[*a as usize]).unwrap().then(a.cmp(b)));
        prop_assert_eq!(choice.top.iter().map(|top| top.token).collect::<Vec<_>>(), &ranked[..usize::from(top)]);
        prop_assert!(choice.top.iter().all(|top| near(top.logprob, top.token)));
    }

    #[test]
    fn what_is_not_allowed_never_comes(logits in logits(), sampling in sampling(), allowed in prop::collection::btree_set(0..TOKENS, 1..4)) {
        let mut mask = vec![0_u32; VOCABULARY.div_ceil(32)];
        for token in &allowed {
            mask[*token as usize / 32] |= 1 << (token % 32);
        }
        let token = sampler(&sampling, &[], &[]).choose(&logits, Some(&mask)).unwrap().token;
        prop_assert!(allowed.contains(&token));
    }
}

#[test]
fn the_same_seed_draws_the_same_and_each_continuation_its_own() {
    let logits: Vec<f32> = (0..VOCABULARY).map(|i| (i % 13) as f32 * 0.1).collect();
    let draw = |seed, stream| {
        let sampling = Sampling { temperature: 1.0, seed, ..Sampling::default() };
        let mut sampler = Sampler::new(Arc::new(sampling), stream, &[], [].into());
        (0..20).map(|_| sampler.choose(&logits, None).unwrap().token).collect::<Vec<_>>()
    };
    assert_eq!(draw(7, 0), draw(7, 0));
    assert_ne!(draw(7, 0), draw(8, 0));
    assert_ne!(draw(7, 0), draw(7, 1));
}

#[test]
fn logits_that_are_no_numbers_and_empty_masks_give_no_token() {
    let choose = |logits: &[f32], mask| sampler(&Sampling::default(), &[], &[]).choose(logits, mask).unwrap_err();
    assert_eq!(choose(&[0.0, f32::NAN], None), NoChoice::NotFinite);
    assert_eq!(choose(&[f32::INFINITY, 0.0], None), NoChoice::NotFinite);
    assert_eq!(choose(&[1.0; 40], Some(&[0, 0])), NoChoice::NothingAllowed);
    assert_eq!(choose(&[1.0; 40], Some(&[])), NoChoice::NothingAllowed);
}

#[test]
fn the_smallest_repetition_penalty_leaves_the_likeliest_token_likeliest() {
    let mut logits = vec![0.0; VOCABULARY];
    logits[7] = 5.0;
    for top_k in [0, 1] {
        let sampling = Sampling { temperature: 1.0, repetition_penalty: 1e-38, top_k, ..Sampling::default() };
        assert_eq!(sampler(&sampling, &[7], &[]).choose(&logits, None).unwrap().token, 7);
    }
}
