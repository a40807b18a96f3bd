//! How much memory a decoder's rows take. A process of its own, because what other tests take would be counted too.

#![cfg(target_os = "linux")] // elsewhere the system takes memory back when it likes
#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

use hotpath_runtime::{Decode, Decoder, Step, Threads};
use hotpath_testing::{library, tiny_decoder};

const TOKENS: usize = 512;
const ROWS: usize = 200;

/// Bytes of memory that no file backs.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = status.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn rows_take_memory_for_their_tokens_alone() {
    let bundle = tiny_decoder();
    let graph = &bundle.manifest.graphs[0];
    // 4000 rows of 512 tokens: 1 GB of addresses.
    let mut decoder = Decoder::load(&library(), &bundle, graph, Threads::CALLER, 4000, TOKENS).unwrap();
    for start in (0..TOKENS).step_by(32) {
        decoder.prefill(0, start, &[5; 32], 0..0).unwrap();
    }
    let before = resident();
    for row in 1..ROWS {
        decoder.copy_row(0, row, TOKENS);
    }
    let taken = resident() - before;
    let expected = (ROWS - 1) * TOKENS * decoder.extent().token_bytes();
    assert!((expected..expected * 5 / 4).contains(&taken), "{taken} bytes for {expected}");
    for row in 1..ROWS {
        decoder.release_row(row);
    }
    let kept = resident().saturating_sub(before);
    assert!(kept < expected / 4, "{kept} of {expected} bytes are still there");
    // Steps of all sizes share their logits.
    let steps = [Step { token: 5, length: 0 }; ROWS];
    decoder.decode(0, &steps).unwrap();
    let before = resident();
    for rows in 1..ROWS {
        decoder.decode(0, &steps[..rows]).unwrap();
    }
    let taken = resident().saturating_sub(before);
    let apart = (1..ROWS).sum::<usize>() * decoder.extent().vocabulary * size_of::<f32>();
    assert!(taken < apart / 4, "{taken} bytes for steps whose logits have {apart}");
}
