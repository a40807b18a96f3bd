//! The first sessions of our operators. In processes of their own, because in any other one there soon was a session before.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

use std::{env, process::Command, sync::Barrier, thread};

use hotpath_runtime::{Decoder, Threads};
use hotpath_testing::{library, tiny_decoder};

const AT_ONCE: usize = 64;
/// A third of them failed once.
const PROCESSES: usize = 12;

#[test]
fn all_are_loaded_that_come_first_at_once() {
    let _ = tiny_decoder(); // is made once
    for _ in 0..PROCESSES {
        let mut process = Command::new(env::current_exe().unwrap());
        let output = process.args(["--exact", "--ignored", "sessions_come_first_at_once"]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
    }
}

#[test]
#[ignore = "the test above runs it"]
fn sessions_come_first_at_once() {
    let (library, bundle, together) = (library(), tiny_decoder(), Barrier::new(AT_ONCE));
    let graph = &bundle.manifest.graphs[0];
    let load = || {
        together.wait();
        Decoder::load(&library, &bundle, graph, Threads::CALLER, 1, 64).map(drop)
    };
    thread::scope(|scope| {
        let loading: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(load)).collect();
        for thread in loading {
            thread.join().unwrap().unwrap();
        }
    });
}
