//! Decoders over the real library: one with random weights, and the default model.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

use std::ops::Range;

use hotpath_bundle::{Axis, Bundle, ElementType, Graph};
use hotpath_runtime::{Decode, Decoder, Step, Threads, chunk_at};
use hotpath_testing::{generation_bundle, golden_generations, library, tiny_decoder};

const CAPACITY: usize = 512;

fn load(bundle: &Bundle, graph: &Graph, rows: usize) -> Decoder {
    Decoder::load(&library(), bundle, graph, Threads::CALLER, rows, CAPACITY).unwrap()
}

fn tiny(rows: usize) -> Decoder {
    let bundle = tiny_decoder();
    load(&bundle, &bundle.manifest.graphs[0], rows)
}

fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    u32::try_from(logits.iter().position(|logit| *logit == best).unwrap()).unwrap()
}

/// Runs a prompt into a row in chunks; gives the logits after it.
fn prefill(decoder: &mut Decoder, row: usize, prompt: &[u32], chunk_tokens: usize) -> Vec<f32> {
    let (mut done, mut logits) = (0, Vec::new());
    while done < prompt.len() {
        let chunk = chunk_at(done, prompt.len(), chunk_tokens);
        let asked = if done + chunk == prompt.len() { chunk - 1..chunk } else { 0..0 };
        logits = decoder.prefill(row, done, &prompt[done..done + chunk], asked).unwrap().to_vec();
        done += chunk;
    }
    logits
}

/// Decodes rows that hold prompts, greedily and together; gives each one's logits at each step.
fn decode(decoder: &mut Decoder, first: usize, after: &[(usize, Vec<f32>)], steps: usize) -> Vec<Vec<Vec<f32>>> {
    let vocabulary = decoder.extent().vocabulary;
    let mut logits: Vec<Vec<Vec<f32>>> = after.iter().map(|(_, logits)| vec![logits.clone()]).collect();
    for _ in 0..steps {
        let next = logits
            .iter()
            .zip(after)
            .map(|(said, (length, _))| Step { token: argmax(said.last().unwrap()), length: length + said.len() - 1 });
        let together = decoder.decode(first, &next.collect::<Vec<_>>()).unwrap();
        for (said, row) in logits.iter_mut().zip(together.chunks(vocabulary)) {
            said.push(row.to_vec());
        }
    }
    logits
}

fn prompts(lengths: &[usize]) -> Vec<Vec<u32>> {
    let token = |length: usize, place: usize| u32::try_from((place * 7 + length * 3) % 250 + 2).unwrap();
    lengths.iter().map(|length| (0..*length).map(|place| token(*length, place)).collect()).collect()
}

fn golden_tokens_are_replayed(bundle: &Bundle) {
    let golden = golden_generations(bundle);
    let chunk_tokens = bundle.manifest.generation().unwrap().max_chunk_tokens as usize;
    for (index, graph) in bundle.manifest.graphs.iter().enumerate() {
        let mut decoder = load(bundle, graph, 2);
        for (number, case) in golden.cases.iter().enumerate() {
            let logits = prefill(&mut decoder, 1, &case.prompt_ids, chunk_tokens);
            let golden = &case.graphs[index];
            let asked: Vec<f32> = case.logit_ids.iter().map(|id| logits[*id as usize]).collect();
            assert_eq!(asked, golden.next_token_logits, "{} case {number}", graph.file);
            let steps = golden.token_ids.len() - 1;
            let said = decode(&mut decoder, 1, &[(case.prompt_ids.len(), logits)], steps).remove(0);
            let tokens: Vec<u32> = said.iter().map(|logits| argmax(logits)).collect();
            assert_eq!(tokens, golden.token_ids, "{} case {number}", graph.file);
        }
    }
}

#[test]
fn golden_bits_of_random_weights() {
    golden_tokens_are_replayed(&tiny_decoder());
}

#[test]
fn golden_tokens_of_the_default_model() {
    golden_tokens_are_replayed(&generation_bundle());
}

#[test]
fn chunk_plans_are_the_golden_ones() {
    for plan in &golden_generations(&tiny_decoder()).chunk_plans {
        let mut done = 0;
        for chunk in &plan.chunks {
            assert_eq!(chunk_at(done, plan.prompt_tokens as usize, plan.chunk_tokens as usize), *chunk as usize);
            done += *chunk as usize;
        }
        assert_eq!(done, plan.prompt_tokens as usize);
    }
}

/// Rows of different length decode together; each one's logits are bit for bit those that it has alone, in another row,
/// with its prompt in other chunks.
#[test]
fn no_bits_depend_on_the_batch() {
    let lengths = [1, 2, 31, 32, 33, 64, 65, 97, 200];
    let (mut decoder, prompts) = (tiny(lengths.len() + 1), prompts(&lengths));
    let alone: Vec<_> = prompts
        .iter()
        .map(|prompt| {
            let logits = prefill(&mut decoder, lengths.len(), prompt, 32);
            decode(&mut decoder, lengths.len(), &[(prompt.len(), logits)], 12).remove(0)
        })
        .collect();
    for chunk_tokens in [32, 20, 8] {
        let after: Vec<_> = prompts
            .iter()
            .enumerate()
            .map(|(row, prompt)| (prompt.len(), prefill(&mut decoder, row, prompt, chunk_tokens)))
            .collect();
        assert!(decode(&mut decoder, 0, &after, 12) == alone, "in chunks of {chunk_tokens}");
        assert!(decode(&mut decoder, 3, &after[3..6], 12) == alone[3..6], "again, fewer, on the same rows");
    }
}

#[test]
fn a_copied_row_goes_on_like_its_original() {
    let (mut decoder, prompts) = (tiny(3), prompts(&[40, 150]));
    let logits = prefill(&mut decoder, 0, &prompts[0], 32);
    prefill(&mut decoder, 2, &prompts[1], 32); // what the target held must not matter
    decoder.copy_row(0, 2, 40);
    let original = decode(&mut decoder, 0, &[(40, logits.clone())], 8);
    decoder.release_row(0);
    assert_eq!(decode(&mut decoder, 2, &[(40, logits)], 8), original);
}

#[test]
fn logits_of_a_whole_prompt_are_those_of_its_beginnings() {
    let (mut decoder, prompts) = (tiny(1), prompts(&[32]));
    let vocabulary = decoder.extent().vocabulary;
    let all = |decoder: &mut Decoder, asked: Range<usize>| decoder.prefill(0, 0, &prompts[0], asked).unwrap().to_vec();
    let whole = all(&mut decoder, 0..32);
    assert_eq!(whole.len(), 32 * vocabulary);
    assert_eq!(all(&mut decoder, 5..7), whole[5 * vocabulary..7 * vocabulary]);
    assert_eq!(all(&mut decoder, 31..32), whole[31 * vocabulary..]);
    assert!(all(&mut decoder, 0..0).is_empty());
}

#[test]
fn an_id_beyond_the_vocabulary_fails_and_leaves_rows_as_they_were() {
    let (mut decoder, prompts) = (tiny(2), prompts(&[40, 50]));
    let after: Vec<_> = (0..2).map(|row| (prompts[row].len(), prefill(&mut decoder, row, &prompts[row], 32))).collect();
    let before = decode(&mut decoder, 0, &after, 4);
    let beyond = u32::try_from(decoder.extent().vocabulary).unwrap();
    let steps = [Step { token: 3, length: 44 }, Step { token: beyond, length: 54 }];
    assert!(decoder.decode(0, &steps).unwrap_err().to_string().contains("is not below"));
    assert!(decoder.prefill(0, 40, &[3, beyond], 0..0).is_err());
    assert_eq!(decode(&mut decoder, 0, &after, 4), before);
}

#[test]
fn a_graph_that_is_no_such_decoder_is_refused_by_field() {
    type Change = fn(&mut Graph);
    let cases: [(Change, &str, &str); 6] = [
        (|graph| graph.inputs.swap(0, 1), "bundle.json", "graphs: model.int8.onnx: inputs"),
        (|graph| drop(graph.inputs.pop()), "bundle.json", "graphs: model.int8.onnx: inputs"),
        (|graph| graph.inputs[4].shape[1] = Axis::Fixed(5), "bundle.json", "graphs: model.int8.onnx: inputs"),
        (|graph| graph.outputs[0].shape[1] = Axis::Fixed(5), "bundle.json", "graphs: model.int8.onnx: outputs"),
        (|graph| graph.outputs.clear(), "bundle.json", "graphs: model.int8.onnx: outputs"),
        (|graph| graph.inputs[0].shape[1] = Axis::Symbolic("n".into()), "model.int8.onnx", "inputs[0].shape"),
    ];
    let bundle = tiny_decoder();
    for (change, file, field) in cases {
        let mut graph = bundle.manifest.graphs[0].clone();
        change(&mut graph);
        let refused = Decoder::load(&library(), &bundle, &graph, Threads::CALLER, 1, 64).unwrap_err();
        assert_eq!((refused.file.as_str(), refused.field.as_str()), (file, field), "{refused}");
    }
    assert_eq!(bundle.manifest.graphs[0].inputs[1].element_type, ElementType::Int32);
    let encoder = hotpath_testing::bundle();
    let refused = Decoder::load(&library(), &encoder, &encoder.manifest.graphs[0], Threads::CALLER, 1, 64).unwrap_err();
    assert_eq!(refused.field, "generation");
}
