//! What a simulation promises: theory where there is some, and accounts that balance.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

use hotpath_simulation::{
    Bursts, Costs, DecoderCosts, Distribution, EncoderCosts, Lengths, Policy, Recorded, Returns, Scenario, Settings,
    Synthetic, Traffic, Trouble, WayCosts, simulate,
};

/// Nothing takes time but a token.
fn costs(token_us: f64) -> Costs {
    Costs {
        decoder: DecoderCosts {
            run_us: 0.0,
            row_us: token_us,
            cached_token_us: 0.0,
            prompt_token_us: token_us,
            prompt_cached_token_us: 0.0,
            copied_token_us: 0.0,
        },
        encoder: EncoderCosts { run_us: 0.0, token_us },
        way: WayCosts { there_us: 0.0, back_us: 0.0 },
        ..Costs::default_costs()
    }
}

/// Those of a slow processor. The repository's own change with what they are measured on.
fn slow() -> Costs {
    Costs {
        decoder: DecoderCosts {
            run_us: 4400.0,
            row_us: 700.0,
            cached_token_us: 2.0,
            prompt_token_us: 780.0,
            prompt_cached_token_us: 0.7,
            copied_token_us: 1.0,
        },
        encoder: EncoderCosts { run_us: 100.0, token_us: 83.0 },
        way: WayCosts { there_us: 500.0, back_us: 200.0 },
        ..Costs::default_costs()
    }
}

fn chats(rate_per_s: f64) -> Synthetic {
    Synthetic {
        rate_per_s,
        prompt: Lengths::Lognormal { median: 60.0, sigma: 0.8, most: 800 },
        output: Some(Lengths::Lognormal { median: 12.0, sigma: 0.8, most: 100 }),
        inputs: Lengths::Exactly(1),
        spare_tokens: 20,
        bursts: None,
        returns: Some(Returns { share: 0.5, think_s: 4.0, question: Lengths::Exactly(20) }),
        tenants: 3,
        batch_share: 0.0,
    }
}

fn texts(rate_per_s: f64, prompt: Lengths) -> Synthetic {
    Synthetic { prompt, output: None, returns: None, tenants: 1, ..chats(rate_per_s) }
}

fn scenario(replicas: usize, traffic: Synthetic, seconds: f64) -> Scenario {
    Scenario {
        name: "test".to_owned(),
        seed: 1,
        replicas,
        gateways: 1,
        policy: Policy::Affinity,
        traffic: vec![Traffic::Synthetic(traffic)],
        seconds,
        warmup_s: 0.0,
        settings: Settings::default(),
        troubles: Vec::new(),
    }
}

/// No bound is met.
fn unbounded() -> Settings {
    Settings {
        max_queued_tokens: usize::MAX / 8,
        max_wait_s: 1e6,
        generation_max_wait_s: 1e6,
        timeout_s: 1e6,
        batch_tokens: SHORT,
        ..Settings::default()
    }
}

/// Texts are this long in the mean, and a core does as many tokens in a millisecond. Those that are longer than [`SHORT`], as nearly
/// all are, run alone.
const MEAN: f64 = 10_000.0;
const TOKEN_US: f64 = 0.1;
const SHORT: usize = 400;

/// A queue with one server, exponential gaps and exponential service (M/M/1): a request is there for 1 ÷ (μ − λ) in the mean, and
/// that time is exponential too.
#[test]
fn one_encoder_is_the_queue_of_the_textbook() {
    for share in [0.5, 0.7] {
        let lengths = Lengths::Exponential { mean: MEAN, most: usize::MAX };
        let one = Scenario { settings: unbounded(), ..scenario(1, texts(1000.0 * share, lengths), 150.0) };
        let report = simulate(&one, &costs(TOKEN_US)); // μ = 1000 a second
        let expected = 1e3 / (1000.0 - 1000.0 * share);
        let Distribution { mean, p50, p99, .. } = report.latency_ms;
        let is_near = |found: f64, expected: f64, part: f64| (found / expected - 1.0).abs() < part;
        assert!(is_near(mean, expected, 0.05), "{mean} and not {expected} at {share}");
        assert!(is_near(p50, expected * 2_f64.ln(), 0.05), "{p50} at {share}");
        assert!(is_near(p99, expected * 100_f64.ln(), 0.12), "{p99} at {share}");
        assert!((report.utilisation - share).abs() < 0.02, "{}", report.utilisation);
    }
}

/// The same of a decoder with one row. Service is a whole number of steps here, so the mean wait is that of Pollaczek and Khinchine.
#[test]
fn one_row_of_a_decoder_is_too() {
    let (mean, token_us, share) = (20.0, 1000.0, 0.6);
    let chat = Synthetic {
        prompt: Lengths::Exactly(1),
        output: Some(Lengths::Exponential { mean, most: 2000 }),
        returns: None,
        tenants: 1,
        spare_tokens: 0,
        ..chats(share * 1000.0 / (mean + 0.5))
    };
    let settings = Settings { max_rows: 1, ..unbounded() };
    let report = simulate(&Scenario { settings, ..scenario(1, chat, 300.0) }, &costs(token_us));
    // An exponential that is rounded up: its mean is about half a token more, its variance the same and a twelfth.
    let (service, square) = (mean + 0.5, (mean + 0.5).powi(2) + mean.powi(2) + 1.0 / 12.0);
    let expected = service + share * square / service / 2.0 / (1.0 - share);
    let found = report.latency_ms.mean;
    assert!((found / expected - 1.0).abs() < 0.08, "{found} ms and not {expected}");
    assert!((report.utilisation - share).abs() < 0.02, "{}", report.utilisation);
}

/// Two choices are exponentially better than one (Mitzenmacher 1996); turns are in between as long as requests are alike.
#[test]
fn the_less_loaded_of_two_is_better_than_any() {
    let p99 = |policy| {
        let lengths = Lengths::Exponential { mean: MEAN, most: usize::MAX };
        let many = Scenario { policy, settings: unbounded(), ..scenario(16, texts(16_000.0 * 0.9, lengths), 2.0) };
        simulate(&many, &costs(TOKEN_US)).latency_ms.p99
    };
    let (of_two, turns, any) = (p99(Policy::LeastOfTwo), p99(Policy::RoundRobin), p99(Policy::Random));
    assert!(of_two * 2.0 < any && of_two < turns && turns < any, "{of_two}, {turns}, {any} ms");
}

#[test]
fn what_belongs_together_is_computed_once() {
    let reused = |policy| {
        let report = simulate(&Scenario { policy, ..scenario(8, chats(24.0), 20.0) }, &slow());
        assert_eq!(report.outcomes.all(), report.outcomes.done, "{:?}", report.outcomes);
        report.reused_share
    };
    let (together, apart) = (reused(Policy::Affinity), reused(Policy::LeastOfTwo));
    assert!(together > 0.35 && apart < together / 2.0, "{together} and {apart}");
}

#[test]
fn every_request_ends_once_whatever_happens() {
    let bursts = Some(Bursts { times: 6.0, for_s: 2.0, after_s: 6.0 });
    let troubles = vec![
        Trouble::Dies { replica: 0, at_s: 4.0 },
        Trouble::DiesAtRandom { every_s: 20.0 },
        Trouble::Slow { replica: 1, times: 5.0, from_s: 3.0, for_s: 10.0 },
        Trouble::Fails { replica: 2, share: 1.0, from_s: 5.0, for_s: 10.0 },
        Trouble::RollingUpdate { from_s: 8.0, at_once: 2 },
    ];
    let small = Settings {
        max_rows: 4,
        max_queued_tokens: 600,
        cache_tokens: 8192,
        start_s: 1.0,
        cores: 2,
        workers: 2,
        ..Settings::default()
    };
    for policy in [Policy::Affinity, Policy::LeastOfTwo, Policy::RoundRobin, Policy::Random] {
        let both = vec![
            Traffic::Synthetic(Synthetic { bursts, batch_share: 0.3, ..chats(100.0) }),
            Traffic::Synthetic(Synthetic {
                batch_share: 0.5,
                inputs: Lengths::Exactly(3),
                ..texts(50.0, Lengths::Exactly(30))
            }),
        ];
        let settings = small.clone();
        let all = Scenario {
            policy,
            traffic: both,
            gateways: 3,
            troubles: troubles.clone(),
            settings,
            ..scenario(4, chats(1.0), 12.0)
        };
        let report = simulate(&all, &slow()); // which asserts that each ended, and once
        let of = report.outcomes;
        assert!(of.done > 300 && of.lost > 0 && of.failed > 0 && of.refused > 0, "{policy:?}: {of:?}");
        assert_eq!(of.done, report.latency_ms.count);
    }
}

#[test]
fn a_seed_says_all() {
    let troubles = vec![Trouble::DiesAtRandom { every_s: 10.0 }];
    let one = Scenario { troubles, gateways: 2, ..scenario(4, chats(10.0), 10.0) };
    let report = simulate(&one, &slow());
    assert_eq!(report, simulate(&one, &slow()));
    assert_ne!(report, simulate(&Scenario { seed: 2, ..one }, &slow()));
}

#[test]
fn a_rolling_update_loses_nothing() {
    // On so long a way many are sent to one that drains, and have to go elsewhere.
    let costs = Costs { way: WayCosts { there_us: 50_000.0, back_us: 0.0 }, ..slow() };
    for policy in [Policy::Affinity, Policy::Random] {
        let troubles = vec![Trouble::RollingUpdate { from_s: 2.0, at_once: 1 }];
        let settings = Settings { start_s: 2.0, ..Settings::default() };
        let report = simulate(&Scenario { policy, troubles, settings, ..scenario(4, chats(20.0), 16.0) }, &costs);
        assert_eq!(report.outcomes.done, report.outcomes.all(), "{:?}", report.outcomes);
        assert!(report.updated_s > 10.0, "each of four took two seconds to start: {}", report.updated_s);
    }
}

#[test]
fn a_death_loses_what_was_there_and_no_more() {
    let troubles = vec![Trouble::Dies { replica: 1, at_s: 5.0 }];
    let report = simulate(&Scenario { troubles, ..scenario(4, chats(8.0), 15.0) }, &slow());
    let of = report.outcomes;
    assert!(of.lost > 0 && of.lost < 20 && of.done + of.lost == of.all(), "{of:?}");
}

/// One that fails at once looks idle, and would get all calls.
#[test]
fn one_that_fails_is_ejected() {
    let troubles = vec![Trouble::Fails { replica: 0, share: 1.0, from_s: 2.0, for_s: 100.0 }];
    let report = simulate(&Scenario { troubles, ..scenario(4, chats(20.0), 20.0) }, &slow());
    let of = report.outcomes;
    assert!(of.failed >= 5 && of.failed < of.all() / 10, "{of:?}");
}

#[test]
fn what_was_recorded_comes_as_it_did() {
    let recorded = |at_s: f64, prompt_tokens, output_tokens, conversation| Recorded {
        at_s,
        prompt_tokens,
        output_tokens,
        conversation,
        tenant: 0,
        batch: false,
    };
    let requests = vec![
        recorded(9.0, 240, 10, Some(7)),
        recorded(0.5, 200, 20, Some(7)),
        recorded(1.0, 30, 0, None),
        recorded(2.0, 200, 20, None),
    ];
    let traffic = vec![Traffic::Recorded(requests)];
    let report = simulate(&Scenario { traffic, ..scenario(2, chats(1.0), 20.0) }, &slow());
    assert_eq!((report.outcomes.done, report.first_token_ms.count), (4, 3));
    let all = 200.0 + 200.0 + 240.0;
    assert!((report.reused_share * all - 219.0).abs() < 1e-9, "all that was read and said, but for the last token");
}

#[test]
fn a_full_queue_refuses() {
    let settings = Settings { max_queued_tokens: 2000, ..Settings::default() };
    let report = simulate(&Scenario { settings, ..scenario(1, chats(60.0), 10.0) }, &slow());
    let of = report.outcomes;
    assert!(of.refused > of.all() / 4 && of.done > 50 && of.done + of.refused == of.all(), "{of:?}");
    assert!(report.utilisation > 0.95, "{}", report.utilisation);
    let done = report.requests_per_s * 10.0; // what waited at the end was done later
    assert!(
        done < number(of.done) && done + report.drained_s * report.requests_per_s > number(of.done) * 0.8,
        "{done}"
    );
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}
