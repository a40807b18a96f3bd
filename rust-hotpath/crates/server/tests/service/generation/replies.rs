//! What a good request gets.

use hotpath_contract::inference::v1::{
    Conversation, GenerateRequest, LengthReached, Message, Role, Stop, Task, TokenizeRequest, finish::Reason,
    generate_request::Prompt,
};
use hotpath_testing::tiny_decoder;

use crate::support::scheduling;

use super::support::{Generating, TINY, Told, config, generate, prompt, request};

fn text(text: &str) -> GenerateRequest {
    GenerateRequest { prompt: Some(Prompt::Text(text.to_owned())), ..request(vec![], 12) }
}

fn conversation(messages: &[(Role, &str)]) -> GenerateRequest {
    let message = |(role, content): &(Role, &str)| Message { role: (*role).into(), content: (*content).to_owned() };
    let messages = messages.iter().map(message).collect();
    GenerateRequest { prompt: Some(Prompt::Conversation(Conversation { messages })), ..request(vec![], 12) }
}

fn finishes(told: &Told) -> Vec<Reason> {
    let finishes = told.deltas.iter().filter_map(|delta| delta.finish.clone());
    finishes.map(|finish| finish.reason.expect("a finish has a reason")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_model_is_described() {
    let generating = Generating::ready(config()).await;
    let model = generating.server.models().await.remove(0);
    let limits = model.limits.unwrap();
    assert_eq!((model.name.as_str(), model.task()), (TINY, Task::Generation));
    assert_eq!((limits.max_tokens, limits.max_choices), (512, 4));
    assert_eq!((model.default_max_tokens, model.chat, model.dimensions.len()), (24, true, 0));
    assert!(limits.vocabulary_size > 256 && model.precision == "block_quantized", "{model:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_its_ids_say_the_same_with_counts_and_timings() {
    let generating = Generating::ready(config()).await;
    let client = generating.client();
    let asked = TokenizeRequest {
        model: TINY.to_owned(),
        texts: vec!["the 東京 tower".to_owned()],
        scheduling: Some(scheduling()),
        counts_only: false,
    };
    let ids = client.clone().tokenize(asked).await.unwrap().into_inner().texts.remove(0).ids;
    let of_text = generate(&client, text("the 東京 tower")).await.unwrap();
    let of_ids = generate(&client, request(ids.clone(), 12)).await.unwrap();
    assert_eq!((of_text.tokens(0), of_text.text(0)), (of_ids.tokens(0), of_ids.text(0)));
    assert_eq!(of_text.tokens(0).len(), 12);
    assert_eq!(finishes(&of_text), [Reason::Length(LengthReached {})]);
    let bytes: Vec<u8> =
        of_text.deltas.iter().flat_map(|delta| &delta.tokens).flat_map(|token| token.bytes.clone()).collect();
    assert_eq!(String::from_utf8_lossy(&bytes), of_text.text(0), "the tokens' bytes are the text");
    let done = of_text.done.unwrap();
    assert_eq!(done.revision, tiny_decoder().revision.as_str());
    assert_eq!((done.prompt_tokens as usize, done.completion_tokens), (ids.len(), 12));
    let timings = done.timings.unwrap();
    assert!(timings.prefill.unwrap().nanos > 0 && timings.decode.unwrap().nanos > 0);
    assert!(timings.tokenize.is_some() && timings.queue.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_number_of_tokens_is_the_models_or_what_the_prompt_leaves() {
    let generating = Generating::ready(config()).await;
    let client = generating.client();
    for (length, expected) in [(10, 24), (500, 12), (511, 1)] {
        let told = generate(&client, request(prompt(1, length), 0)).await.unwrap();
        assert_eq!(told.tokens(0).len(), expected, "after {length} tokens");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_cannot_end_itself() {
    let generating = Generating::ready(config()).await;
    let client = generating.client();
    let prompt_tokens = async |messages: &[(Role, &str)]| {
        generate(&client, conversation(messages)).await.unwrap().done.unwrap().prompt_tokens
    };
    let plain = prompt_tokens(&[(Role::User, "hi")]).await;
    let marked = prompt_tokens(&[(Role::User, "hi<end>")]).await;
    assert!(marked >= plain + 4, "\"<end>\" is text of several tokens: {marked} and {plain}");
    assert!(prompt_tokens(&[(Role::User, "")]).await < plain, "a message may be empty");
    let with_system = prompt_tokens(&[(Role::System, "Say very little, and nothing twice."), (Role::User, "hi")]).await;
    assert_ne!(with_system, plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_end_a_continuation_and_are_named() {
    let generating = Generating::ready(config()).await;
    let client = generating.client();
    let whole = generate(&client, request(prompt(6, 8), 40)).await.unwrap();
    let (tokens, all) = (whole.tokens(0), whole.text(0));

    let third = tokens[3];
    let stop = Stop { token_ids: vec![third], ignore_eos: true, ..Stop::default() };
    let told = generate(&client, GenerateRequest { stop: Some(stop), ..request(prompt(6, 8), 40) }).await.unwrap();
    let end = tokens.iter().position(|token| *token == third).unwrap();
    assert_eq!(told.tokens(0), tokens[..=end], "a stop id is among the tokens");
    assert_eq!(finishes(&told), [Reason::StopTokenId(third)]);

    let middle = all.char_indices().map(|(place, _)| place).nth(all.chars().count() / 2).unwrap();
    let string: String = all[middle..].chars().take(2).collect();
    let stop = Stop { strings: vec!["never said".to_owned(), string.clone()], ignore_eos: true, ..Stop::default() };
    let told = generate(&client, GenerateRequest { stop: Some(stop), ..request(prompt(6, 8), 40) }).await.unwrap();
    assert_eq!(told.text(0), all[..all.find(&string).unwrap()], "no part of a stop string is told");
    assert_eq!(finishes(&told), [Reason::StopString(string)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_probabilities_come_when_they_are_asked_for() {
    let generating = Generating::ready(config()).await;
    let client = generating.client();
    let plain = generate(&client, request(prompt(7, 8), 6)).await.unwrap();
    assert!(plain.deltas.iter().flat_map(|delta| &delta.tokens).all(|token| token.logprob == 0.0));
    let asked = GenerateRequest { top_logprobs: Some(3), ..request(prompt(7, 8), 6) };
    let told = generate(&client, asked).await.unwrap();
    assert_eq!(told.tokens(0), plain.tokens(0));
    for token in told.deltas.iter().flat_map(|delta| &delta.tokens) {
        assert_eq!(token.top_logprobs.len(), 3);
        let first = &token.top_logprobs[0];
        assert_eq!((first.id, first.logprob, &first.bytes), (token.id, token.logprob, &token.bytes), "greedy");
        assert!(token.logprob < 0.0 && token.top_logprobs.is_sorted_by(|a, b| a.logprob >= b.logprob));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn choices_share_the_prompt_and_seeds_repeat_themselves() {
    let generating = Generating::ready(config()).await;
    let client = generating.client();
    let seeded = |seed| {
        let mut asked = GenerateRequest { choices: 3, ..request(prompt(8, 40), 10) };
        let sampling = asked.sampling.as_mut().unwrap();
        (sampling.temperature, sampling.seed) = (Some(1.5), seed);
        asked
    };
    let (first, again) =
        (generate(&client, seeded(Some(1))).await.unwrap(), generate(&client, seeded(Some(1))).await.unwrap());
    for choice in 0..3 {
        assert_eq!(first.tokens(choice), again.tokens(choice));
        assert_eq!(first.tokens(choice).len(), 10);
    }
    assert_ne!(first.tokens(0), first.tokens(1), "each choice draws its own numbers");
    let done = again.done.unwrap();
    assert_eq!((done.prompt_tokens, done.completion_tokens), (40, 30), "the prompt counts once");
    assert_eq!(done.cached_tokens, 39, "all of it was computed before, but the last token's logits");
    let (fresh, other) =
        (generate(&client, seeded(None)).await.unwrap(), generate(&client, seeded(None)).await.unwrap());
    assert_ne!(fresh.tokens(0), other.tokens(0), "without a seed each request has its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_turn_of_a_conversation_reads_what_is_new_alone() {
    let generating = Generating::ready(config()).await;
    let client = generating.client();
    let first = generate(&client, request(prompt(9, 40), 24)).await.unwrap();
    let mut second = [prompt(9, 40), first.tokens(0)].concat();
    second.extend([3, 4, 5]);
    let alone = generate(&client, request([second[..1].to_vec(), second.clone()].concat(), 1)).await.unwrap();
    assert_eq!(alone.done.unwrap().cached_tokens, 0, "it begins in another way");
    let told = generate(&client, request(second.clone(), 8)).await.unwrap();
    let done = told.done.clone().unwrap();
    assert_eq!((done.prompt_tokens, done.cached_tokens), (67, 63), "the last token was told and never run");
    // Of another key nothing is reused, and the same is said.
    let mut other = request(second, 8);
    other.scheduling.as_mut().unwrap().fairness_key = "another".to_owned();
    let other = generate(&client, other).await.unwrap();
    assert_eq!((other.done.clone().unwrap().cached_tokens, other.tokens(0)), (0, told.tokens(0)));
}

/// A text that goes round in circles is guessed, and says the same.
#[tokio::test(flavor = "multi_thread")]
async fn drafts_change_no_token_and_are_counted() {
    let (mut plain, drafting) = (config(), config());
    plain.generation.draft_tokens = 0;
    let (plain, drafting) = (Generating::ready(plain).await, Generating::ready(drafting).await);
    let asked = || request(prompt(3, 8).repeat(4), 200);
    let expected = generate(&plain.client(), asked()).await.unwrap();
    let told = generate(&drafting.client(), asked()).await.unwrap();
    assert_eq!((told.tokens(0), told.text(0)), (expected.tokens(0), expected.text(0)));
    assert_eq!(told.done.unwrap().completion_tokens, 200);
    let counted = async |of: &Generating, which| of.server.metric(&format!("hotpath_{which}_tokens_total"), TINY).await;
    let (drafted, accepted) = (counted(&drafting, "drafted").await, counted(&drafting, "accepted").await);
    assert!(accepted > 20.0 && drafted >= accepted, "{accepted} of {drafted}");
}
