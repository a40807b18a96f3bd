//! How much memory a decoder's slots take. A process of its own, because what other tests take would be counted too.

#![cfg(target_os = "linux")] // elsewhere the system takes memory back when it likes
#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

use hotpath_runtime::{Decode, Decoder, Row, Threads};
use hotpath_testing::{library, tiny_decoder};

const TOKENS: usize = 512;
const SLOTS: usize = 200;

/// Bytes of memory that no file backs.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = status.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn slots_take_memory_for_their_tokens_alone() {
    let bundle = tiny_decoder();
    let graph = &bundle.manifest.graphs[0];
    // 4000 slots of 512 tokens: 1 GB of addresses.
    let mut decoder = Decoder::load(&library(), &bundle, graph, Threads::CALLER, 4000, TOKENS).unwrap();
    let rows: Vec<Row> = (0..TOKENS).map(|position| Row { token: 5, slot: 0, position }).collect();
    for chunk in rows.chunks(32) {
        decoder.run(chunk, &[]).unwrap();
    }
    let before = resident();
    for slot in 1..SLOTS {
        decoder.copy(0, slot, TOKENS);
    }
    let taken = resident() - before;
    let expected = (SLOTS - 1) * TOKENS * decoder.extent().token_bytes();
    assert!((expected..expected * 5 / 4).contains(&taken), "{taken} bytes for {expected}");
    for slot in 1..SLOTS {
        decoder.release(slot);
    }
    let kept = resident().saturating_sub(before);
    assert!(kept < expected / 4, "{kept} of {expected} bytes are still there");
    // Runs of all sizes share their logits.
    let rows: Vec<Row> = (0..SLOTS).map(|slot| Row { token: 5, slot, position: 0 }).collect();
    let all: Vec<usize> = (0..SLOTS).collect();
    decoder.run(&rows, &all).unwrap();
    let before = resident();
    for count in 1..SLOTS {
        decoder.run(&rows[..count], &all[..count]).unwrap();
    }
    let taken = resident().saturating_sub(before);
    let apart = (1..SLOTS).sum::<usize>() * decoder.extent().vocabulary * size_of::<f32>();
    assert!(taken < apart / 4, "{taken} bytes for runs whose logits have {apart}");
}
