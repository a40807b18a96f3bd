//! What bytes from outside may do to the decoder of messages: be refused, soon, in memory in proportion to their number.
//!
//! A process of its own, because its memory is measured.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

use std::{
    fmt::Debug,
    fs,
    time::{Duration, Instant},
};

use hotpath_contract::inference::v1::{
    ClassifyRequest, Conversation, EmbedInput, EmbedRequest, GenerateRequest, Message as Turn, Sampling, Stop,
    TokenIds, TokenizeRequest, embed_input::Input, generate_request::Prompt,
};
use proptest::prelude::*;
use prost::Message;

/// A quarter of the largest message that the hot path takes by default.
const MESSAGE_BYTES: usize = 4 << 20;

/// A byte may become so many in memory: two make an empty message in a list that doubles when it is full.
const BLOW_UP: usize = 32;

const LIMIT: Duration = Duration::from_secs(10);

/// A message of one repeated until it has so many bytes.
fn full<M: Message>(one: &M) -> Vec<u8> {
    let one = one.encode_to_vec();
    one.iter().copied().cycle().take(MESSAGE_BYTES / one.len() * one.len()).collect()
}

/// Decodes it as every request that the hot path takes.
fn decode(bytes: &[u8]) {
    fn one<M: Message + Default + Debug>(bytes: &[u8]) {
        let began = Instant::now();
        let _ = M::decode(bytes);
        assert!(began.elapsed() < LIMIT, "{:?} for {} bytes", began.elapsed(), bytes.len());
    }
    one::<EmbedRequest>(bytes);
    one::<TokenizeRequest>(bytes);
    one::<ClassifyRequest>(bytes);
    one::<GenerateRequest>(bytes);
}

/// Most memory that this process had since it was last asked; nothing where the system does not say.
fn peak_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let _ = fs::write("/proc/self/clear_refs", "5");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok()).map_or(0, |kilobytes| kilobytes << 10)
}

fn prompt(prompt: Prompt) -> GenerateRequest {
    GenerateRequest { prompt: Some(prompt), ..GenerateRequest::default() }
}

#[test]
fn a_message_takes_memory_in_proportion_to_its_bytes() {
    let ids = TokenIds { ids: vec![1] };
    let empty = EmbedInput { input: None };
    let bias = |key| Sampling { logit_bias: [(key, 0.0)].into(), ..Sampling::default() };
    let biases = GenerateRequest {
        sampling: Some(Sampling { logit_bias: (0..500_000).map(|id| (id, 0.0)).collect(), ..bias(0) }),
        ..GenerateRequest::default()
    };
    let stop = Stop { strings: vec![String::new()], ..Stop::default() };
    let stop = GenerateRequest { stop: Some(stop), ..GenerateRequest::default() };
    let turn = Conversation { messages: vec![Turn::default()] };
    let shapes = [
        ("empty inputs", full(&EmbedRequest { inputs: vec![empty], ..EmbedRequest::default() })),
        (
            "token ids",
            full(&EmbedRequest {
                inputs: vec![EmbedInput { input: Some(Input::TokenIds(ids.clone())) }],
                ..EmbedRequest::default()
            }),
        ),
        ("empty texts", full(&TokenizeRequest { texts: vec![String::new()], ..TokenizeRequest::default() })),
        ("a prompt again and again", full(&prompt(Prompt::TokenIds(ids)))),
        ("messages", full(&prompt(Prompt::Conversation(turn)))),
        ("biases", biases.encode_to_vec()),
        ("stop strings", full(&stop)),
        // Field 99 of no message, begun and never ended.
        ("groups", [0x9b, 0x06].repeat(MESSAGE_BYTES / 2)),
    ];
    peak_bytes();
    let before = peak_bytes(); // what the allocator keeps of one shape is there for the next, so all are counted from here
    for (shape, bytes) in shapes {
        decode(&bytes);
        let taken = peak_bytes().saturating_sub(before);
        println!("{shape}: {} MiB for {} MiB", taken >> 20, bytes.len() >> 20);
        assert!(taken <= BLOW_UP * bytes.len(), "{shape}: {taken} bytes for {}", bytes.len());
    }
}

#[test]
fn nesting_ends_at_a_depth() {
    // A group of field 99 in a group: bytes that a decoder has to skip.
    let nested = |depth| [[0x9b, 0x06].repeat(depth), [0x9c, 0x06].repeat(depth)].concat();
    assert!(EmbedRequest::decode(&*nested(90)).is_ok());
    assert!(EmbedRequest::decode(&*nested(110)).unwrap_err().to_string().contains("recursion"));
    assert!(EmbedRequest::decode(&*nested(1_000_000)).unwrap_err().to_string().contains("recursion"));
}

fn request() -> impl Strategy<Value = GenerateRequest> {
    let strings = || prop::collection::vec(".{0,8}", 0..4);
    let ids = || prop::collection::vec(any::<u32>(), 0..8);
    let prompt =
        prop_oneof![".{0,40}".prop_map(Prompt::Text), ids().prop_map(|ids| Prompt::TokenIds(TokenIds { ids }))];
    (prompt, strings(), ids(), prop::collection::hash_map(any::<u32>(), any::<f32>(), 0..4)).prop_map(
        |(prompt, strings, token_ids, logit_bias)| GenerateRequest {
            prompt: Some(prompt),
            stop: Some(Stop { strings, token_ids, ..Stop::default() }),
            sampling: Some(Sampling { logit_bias, ..Sampling::default() }),
            ..GenerateRequest::default()
        },
    )
}

proptest! {
    /// Bytes of no message, and messages in which a few bytes are others.
    #[test]
    fn any_bytes_are_taken_or_refused(
        noise in prop::collection::vec(any::<u8>(), 0..4096),
        request in request(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        decode(&noise);
        let mut bytes = request.encode_to_vec();
        decode(&bytes[..cut.index(bytes.len() + 1)]);
        for (place, byte) in changes {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
        }
        decode(&bytes);
    }
}
