//! What cannot be simulated is told, and neither panics nor runs for days.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

use hotpath_simulation::{Costs, Scenario, simulate};
use serde_json::{Value, json};

fn all() -> Value {
    json!({
        "name": "all", "replicas": 2, "policy": "affinity", "seconds": 2.0, "settings": {},
        "traffic": [
            {"synthetic": {
                "rate_per_s": 2.0, "prompt": {"lognormal": {"median": 9.0, "sigma": 1.0, "most": 20}}, "output": {"exactly": 3},
                "bursts": {"times": 2.0, "for_s": 1.0, "after_s": 1.0},
                "returns": {"share": 0.5, "think_s": 1.0, "question": {"exponential": {"mean": 4.0, "most": 9}}}
            }},
            {"recorded": [{"at_s": 1.0, "prompt_tokens": 9}]}
        ],
        "troubles": [
            {"slow": {"replica": 0, "times": 2.0, "from_s": 0.5, "for_s": 0.5}},
            {"fails": {"replica": 1, "share": 0.5, "from_s": 0.5, "for_s": 0.5}},
            {"dies": {"replica": 1, "at_s": 0.5}},
            {"dies_at_random": {"every_s": 1.0}},
            {"rolling_update": {"from_s": 0.5, "at_once": 1}}
        ]
    })
}

fn said_of(scenario: Value) -> String {
    let scenario: Scenario = serde_json::from_value(scenario).unwrap();
    scenario.check().map_or_else(|problem| problem.to_string(), |()| "nothing".to_owned())
}

#[test]
fn what_is_out_of_bounds_is_told() {
    assert_eq!(said_of(all()), "nothing");
    let (synthetic, recorded) = ("/traffic/0/synthetic", "/traffic/1/recorded/0");
    for (place, values, field) in [
        ("/replicas", vec![json!(0), json!(10_001)], "replicas"),
        ("/seconds", vec![json!(0), json!(-1), json!(1e300)], "seconds"),
        ("/traffic", vec![json!([])], "the number of sources in traffic"),
        ("/settings", vec![json!({"context_tokens": 1})], "settings.context_tokens"),
        ("/settings", vec![json!({"granule": 64, "cache_tokens": 63})], "settings.cache_tokens"),
        ("/settings", vec![json!({"max_wait_s": -1.0}), json!({"max_wait_s": 1e300})], "settings.max_wait_s"),
        ("/settings", vec![json!({"cores": 0}), json!({"cores": 1_000_000_000})], "settings.cores"),
        (&format!("{synthetic}/rate_per_s"), vec![json!(0), json!(-1), json!(1e300)], "rate_per_s"),
        (&format!("{synthetic}/prompt"), vec![json!({"exactly": 1_000_000_000})], "prompt"),
        (&format!("{synthetic}/prompt/lognormal/sigma"), vec![json!(-1), json!(1e9)], "prompt.lognormal.sigma"),
        (&format!("{synthetic}/bursts/for_s"), vec![json!(0)], "bursts.for_s"),
        (&format!("{synthetic}/returns/share"), vec![json!(1), json!(-1)], "returns.share"),
        (&format!("{recorded}/at_s"), vec![json!(-1), json!(1e300)], "at_s"),
        (&format!("{recorded}/prompt_tokens"), vec![json!(1_000_000_000_000_u64)], "prompt_tokens"),
        ("/troubles/0/slow/replica", vec![json!(2)], "replica"),
        ("/troubles/0/slow/times", vec![json!(0), json!(-3)], "slow.times"),
        ("/troubles/2/dies/at_s", vec![json!(-1), json!(1e300)], "dies.at_s"),
        ("/troubles/3/dies_at_random/every_s", vec![json!(0)], "dies_at_random.every_s"),
    ] {
        for value in values {
            let mut scenario = all();
            *scenario.pointer_mut(place).unwrap() = value.clone();
            let said = said_of(scenario);
            assert!(said.starts_with(field), "{place} {value}: {said}");
        }
    }
    for (changes, field) in [
        (vec![("/replicas", json!(100)), ("/seconds", json!(1e6))], "seconds of all replicas is "),
        (vec![("/seconds", json!(1e6)), ("/traffic/0/synthetic/rate_per_s", json!(11))], "the number of requests is "),
        (
            vec![("/seconds", json!(1e3)), ("/troubles/3/dies_at_random/every_s", json!(1e-4))],
            "the number of deaths is ",
        ),
    ] {
        let mut scenario = all();
        for (place, value) in changes {
            *scenario.pointer_mut(place).unwrap() = value;
        }
        let said = said_of(scenario);
        assert!(said.starts_with(field), "{said}");
    }
    let report = simulate(&serde_json::from_value(all()).unwrap(), &Costs::default_costs());
    assert!(report.outcomes.done > 0);
}

#[test]
fn costs_are_times() {
    let mut costs = Costs::default_costs();
    assert_eq!(costs.check(), Ok(()));
    for wrong in [-1.0, 1e300, f64::NAN] {
        costs.decoder.row_us = wrong;
        assert!(costs.check().unwrap_err().to_string().starts_with("decoder.row_us is "));
    }
}
