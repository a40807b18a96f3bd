//! Decoders over the real library: one with random weights, and the default model.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

use hotpath_bundle::{Axis, Bundle, ElementType, Graph, OperatorSet};
use hotpath_runtime::{Decode, Decoder, Kernels, Row, Threads};
use hotpath_testing::{generation_bundle, golden_generations, library, tiny_decoder};

const CAPACITY: usize = 512;

fn load(bundle: &Bundle, graph: &Graph, slots: usize) -> Decoder {
    Decoder::load(&library(), bundle, graph, Threads::CALLER, slots, CAPACITY).unwrap()
}

fn tiny(slots: usize) -> Decoder {
    let bundle = tiny_decoder();
    load(&bundle, &bundle.manifest.graphs[0], slots)
}

fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    u32::try_from(logits.iter().position(|logit| *logit == best).unwrap()).unwrap()
}

/// Tokens of a sequence from a position on.
fn rows(slot: usize, position: usize, tokens: &[u32]) -> impl Iterator<Item = Row> {
    (position..).zip(tokens).map(move |(position, token)| Row { token: *token, slot, position })
}

/// Reads a prompt into a slot in chunks; gives the logits after it.
fn prefill(decoder: &mut Decoder, slot: usize, prompt: &[u32], chunk_tokens: usize) -> Vec<f32> {
    let mut logits = Vec::new();
    for (number, chunk) in prompt.chunks(chunk_tokens).enumerate() {
        let rows: Vec<Row> = rows(slot, number * chunk_tokens, chunk).collect();
        logits = decoder.run(&rows, &[rows.len() - 1]).unwrap().to_vec();
    }
    logits
}

/// A sequence that is continued greedily.
#[derive(Debug, Clone, PartialEq)]
struct Text {
    slot: usize,
    length: usize,
    /// After the prompt, and after each token that was chosen.
    logits: Vec<Vec<f32>>,
}

impl Text {
    fn begin(decoder: &mut Decoder, slot: usize, prompt: &[u32], chunk_tokens: usize) -> Self {
        Self { slot, length: prompt.len(), logits: vec![prefill(decoder, slot, prompt, chunk_tokens)] }
    }

    fn row(&self) -> Row {
        let position = self.length + self.logits.len() - 1;
        Row { token: argmax(self.logits.last().unwrap()), slot: self.slot, position }
    }
}

/// Continues texts together.
fn decode(decoder: &mut Decoder, texts: &mut [Text], steps: usize) {
    let vocabulary = decoder.extent().vocabulary;
    for _ in 0..steps {
        let rows: Vec<Row> = texts.iter().map(Text::row).collect();
        let all: Vec<usize> = (0..rows.len()).collect();
        let together = decoder.run(&rows, &all).unwrap();
        for (text, logits) in texts.iter_mut().zip(together.chunks(vocabulary)) {
            text.logits.push(logits.to_vec());
        }
    }
}

/// What follows a prompt alone in a slot.
fn alone(decoder: &mut Decoder, slot: usize, prompt: &[u32], steps: usize) -> Vec<Vec<f32>> {
    let mut text = [Text::begin(decoder, slot, prompt, 32)];
    decode(decoder, &mut text, steps);
    let [text] = text;
    text.logits
}

fn prompts(lengths: &[usize]) -> Vec<Vec<u32>> {
    let token = |length: usize, place: usize| u32::try_from((place * 7 + length * 3) % 250 + 2).unwrap();
    lengths.iter().map(|length| (0..*length).map(|place| token(*length, place)).collect()).collect()
}

fn golden_bits_are_replayed(bundle: &Bundle) {
    let golden = golden_generations(bundle);
    for (index, graph) in bundle.manifest.graphs.iter().enumerate() {
        let mut decoder = load(bundle, graph, 2);
        for (number, case) in golden.cases.iter().enumerate() {
            let golden = &case.graphs[index];
            let said = alone(&mut decoder, 1, &case.prompt_ids, golden.token_ids.len() - 1);
            let asked: Vec<f32> = case.logit_ids.iter().map(|id| said[0][*id as usize]).collect();
            assert_eq!(asked, golden.next_token_logits, "{} case {number}", graph.file);
            let tokens: Vec<u32> = said.iter().map(|logits| argmax(logits)).collect();
            assert_eq!(tokens, golden.token_ids, "{} case {number}", graph.file);
        }
    }
}

#[test]
fn golden_bits_of_random_weights() {
    golden_bits_are_replayed(&tiny_decoder());
}

#[test]
fn golden_answers_of_the_default_model() {
    golden_bits_are_replayed(&generation_bundle());
}

/// Sequences of different length decode together; each one's logits are bit for bit those that it has alone, in another slot,
/// with its prompt in other chunks.
#[test]
fn no_bits_depend_on_the_batch() {
    let lengths = [1, 2, 31, 32, 33, 64, 65, 97, 200];
    let (mut decoder, prompts) = (tiny(lengths.len() + 1), prompts(&lengths));
    let alone: Vec<_> = prompts.iter().map(|prompt| alone(&mut decoder, lengths.len(), prompt, 12)).collect();
    for chunk_tokens in [32, 7, 1] {
        let texts = prompts.iter().enumerate();
        let texts = texts.map(|(slot, prompt)| Text::begin(&mut decoder, slot, prompt, chunk_tokens));
        let mut texts: Vec<Text> = texts.collect();
        decode(&mut decoder, &mut texts, 12);
        let together: Vec<_> = texts.into_iter().map(|text| text.logits).collect();
        assert!(together == alone, "in chunks of {chunk_tokens}");
    }
}

/// Parts of prompts run along with tokens of others, and with several tokens of one sequence of which not all are kept.
#[test]
fn no_bits_depend_on_what_else_a_run_is_for() {
    let (mut decoder, prompts) = (tiny(4), prompts(&[40, 90, 25]));
    let expected: Vec<_> = prompts.iter().map(|prompt| alone(&mut decoder, 3, prompt, 12)).collect();
    let mut texts = [0, 2].map(|slot| Text::begin(&mut decoder, slot, &prompts[slot], 16));
    let vocabulary = decoder.extent().vocabulary;
    for (number, chunk) in prompts[1].chunks(10).enumerate() {
        // What is drafted behind a token is taken back by the next run.
        let draft = Row { token: 7, position: texts[0].row().position + 1, ..texts[0].row() };
        let chunk = rows(1, number * 10, chunk);
        let run: Vec<Row> = [texts[0].row(), draft].into_iter().chain(chunk).chain([texts[1].row()]).collect();
        let logits = decoder.run(&run, &[run.len() - 1, 0, run.len() - 2]).unwrap();
        let mut logits = logits.chunks(vocabulary).map(<[f32]>::to_vec);
        texts[1].logits.push(logits.next().unwrap());
        texts[0].logits.push(logits.next().unwrap());
        if number == 8 {
            assert_eq!(logits.next().unwrap(), expected[1][0]);
        }
    }
    assert!(texts[0].logits == expected[0][..10] && texts[1].logits == expected[2][..10]);
}

#[test]
fn a_copy_goes_on_like_its_original_and_said_tokens_are_as_good_as_read_ones() {
    let (mut decoder, prompts) = (tiny(3), prompts(&[40, 150]));
    let mut original = [Text::begin(&mut decoder, 0, &prompts[0], 32)];
    prefill(&mut decoder, 2, &prompts[1], 32); // what the target held must not matter
    decoder.copy(0, 2, 40);
    let mut copy = [Text { slot: 2, ..original[0].clone() }];
    decode(&mut decoder, &mut original, 8);
    decoder.release(0);
    decode(&mut decoder, &mut copy, 8);
    assert_eq!(copy[0].logits, original[0].logits);
    let said = original[0].logits.iter().map(|logits| argmax(logits));
    let whole: Vec<u32> = prompts[0].iter().copied().chain(said).collect();
    assert_eq!(prefill(&mut decoder, 0, &whole[..48], 32), original[0].logits[8], "read as a prompt");
}

#[test]
fn logits_are_those_of_the_rows_that_are_named() {
    let (mut decoder, prompts) = (tiny(1), prompts(&[32]));
    let vocabulary = decoder.extent().vocabulary;
    let rows: Vec<Row> = rows(0, 0, &prompts[0]).collect();
    let mut of = |asked: &[usize]| decoder.run(&rows, asked).unwrap().to_vec();
    let whole = of(&(0..32).collect::<Vec<_>>());
    assert_eq!(whole.len(), 32 * vocabulary);
    assert_eq!(of(&[5, 6]), whole[5 * vocabulary..7 * vocabulary]);
    assert_eq!(of(&[31]), whole[31 * vocabulary..]);
    assert!(of(&[]).is_empty());
}

#[test]
fn an_id_beyond_the_vocabulary_fails_and_leaves_slots_as_they_were() {
    let (mut decoder, prompts) = (tiny(2), prompts(&[40, 50]));
    let begin = [0, 1].map(|slot| Text::begin(&mut decoder, slot, &prompts[slot], 32));
    let mut before = begin.clone();
    decode(&mut decoder, &mut before, 4);
    let beyond = u32::try_from(decoder.extent().vocabulary).unwrap();
    let run = [Row { token: 3, slot: 0, position: 44 }, Row { token: beyond, slot: 1, position: 54 }];
    assert!(decoder.run(&run, &[0, 1]).unwrap_err().to_string().contains("is not below"));
    let mut again = begin;
    decode(&mut decoder, &mut again, 4);
    assert_eq!(again, before);
}

#[test]
fn every_path_of_this_processor_gives_the_same_bits() {
    let bundle = tiny_decoder();
    let prompt = &prompts(&[70])[0];
    let best = alone(&mut tiny(1), 0, prompt, 6);
    let names = Kernels::named("none").unwrap_err();
    for name in names.rsplit_once("for ").unwrap().1.split(", ") {
        let library = library().with_kernels(Kernels::named(name).unwrap());
        let graph = &bundle.manifest.graphs[0];
        let mut decoder = Decoder::load(&library, &bundle, graph, Threads::CALLER, 1, CAPACITY).unwrap();
        assert!(alone(&mut decoder, 0, prompt, 6) == best, "{name}");
    }
}

#[test]
fn operators_that_are_not_there_are_refused_with_both_versions() {
    let bundle = tiny_decoder();
    for (domain, version) in [("hotpath.kernels", 77), ("elsewhere", 1)] {
        let mut graph = bundle.manifest.graphs[0].clone();
        graph.operator_sets = vec![OperatorSet { domain: domain.to_owned(), version }];
        let refused = Decoder::load(&library(), &bundle, &graph, Threads::CALLER, 1, 64).unwrap_err();
        assert_eq!(refused.field, format!("graphs: {}: operator_sets", graph.file));
        let said = format!("has \"{domain}\" version {version}; this program has \"hotpath.kernels\" version ");
        assert!(refused.problem.starts_with(&said), "{refused}");
    }
}

#[test]
fn a_graph_that_is_no_such_decoder_is_refused_by_field() {
    type Change = fn(&mut Graph);
    let bundle = tiny_decoder();
    let file = bundle.manifest.graphs[0].file.as_str();
    let (inputs, outputs) = (format!("graphs: {file}: inputs"), format!("graphs: {file}: outputs"));
    let cases: [(Change, &str, &str); 6] = [
        (|graph| graph.inputs.swap(0, 1), "bundle.json", &inputs),
        (|graph| drop(graph.inputs.pop()), "bundle.json", &inputs),
        (|graph| graph.inputs[4].shape[1] = Axis::Fixed(5), "bundle.json", &inputs),
        (|graph| graph.outputs[0].shape[1] = Axis::Fixed(5), "bundle.json", &outputs),
        (|graph| graph.outputs.clear(), "bundle.json", &outputs),
        (|graph| graph.inputs[0].shape[0] = Axis::Symbolic("n".into()), file, "inputs[0].shape"),
    ];
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
