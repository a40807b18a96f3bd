//! The cases of `tests/cases/routing`, which the gateway's own rule is held to as well.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

use std::{fs, path::Path};

use hotpath_simulation::rule::{Candidate, Rank, Work, address_hash, order};
use serde::Deserialize;

#[derive(Deserialize)]
struct Table {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    replicas: Vec<Replica>,
    /// In decimals: it may be more than a JSON number holds.
    home: String,
    random: Vec<usize>,
    want: Vec<usize>,
}

#[derive(Deserialize)]
struct Replica {
    address: String,
    rank: Rank,
    ejected: bool,
    full: bool,
    work: Vec<Change>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Begin(i64),
    End(i64),
    Tell(i64),
    Forget(#[allow(dead_code, reason = "all of it")] i64),
}

fn candidate(replica: &Replica) -> Candidate {
    let mut work = Work::default();
    for change in &replica.work {
        match change {
            Change::Begin(tokens) => work.begin(*tokens),
            Change::End(tokens) => work.end(*tokens),
            Change::Tell(tokens) => work.tell(*tokens),
            Change::Forget(_) => work.forget(),
        }
    }
    let Replica { address, rank, ejected, full, .. } = replica;
    Candidate { address: address_hash(address), rank: *rank, ejected: *ejected, full: *full, load: work.load() }
}

#[test]
fn the_rule_is_the_gateways() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/cases/routing/picks.json");
    let table: Table = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert!(table.cases.len() > 100);
    for case in table.cases {
        let candidates: Vec<Candidate> = case.replicas.iter().map(candidate).collect();
        let mut numbers = case.random.iter();
        let got = order(&candidates, case.home.parse().unwrap(), |count| numbers.next().map_or(0, |next| next % count));
        assert_eq!(got, case.want, "{}", case.name);
    }
}
