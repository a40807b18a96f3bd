//! How fast the default decoder runs here, in this process: streams together, a long prompt beside a stream, the second turn of a
//! conversation, a text that repeats itself.
//!
//!     cargo run --release -p hotpath-generation --example decoder_speed [THREADS] [CHUNK_TOKENS] [DRAFT_TOKENS] [TIMES]
//!
//! With `TIMES`, of these the long prompt beside a stream alone, so many times.

#![allow(clippy::unwrap_used, missing_docs, reason = "a program for developers")]
#![allow(clippy::cast_precision_loss)]

use std::{
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use hotpath_generation::{Class, Engine, Event, Limits, Observer, Ran, Sampling, Settings, Stop, Stream, Work};
use hotpath_runtime::{Decoder, Threads};
use hotpath_testing::{generation_bundle, library};
use hotpath_text::{Tokenizer, Vocabulary};

struct Silent;

impl Observer for Silent {
    fn ran(&self, _: &Ran) {}
}

fn limits(chunk_tokens: usize, draft_tokens: usize) -> Limits {
    Limits {
        batch: 80,
        cache_tokens: 60_000,
        granule: 16,
        context_tokens: 4096,
        chunk_tokens,
        draft_tokens,
        reuse_tokens: 16,
        max_queued_tokens: 1_000_000,
        max_wait: Duration::from_mins(10),
        max_parked: Duration::from_mins(10),
        share_prefixes: false,
    }
}

fn prompt(seed: usize, tokens: usize) -> Vec<u32> {
    (0..tokens).map(|place| u32::try_from(1000 + (seed * 7919 + place * 104_729) % 40_000).unwrap()).collect()
}

fn submit(engine: &Engine, prompt: Vec<u32>, max_tokens: usize) -> Stream {
    let work = Work {
        class: Class::Interactive,
        key: format!("{}", prompt[0]).into(),
        deadline: None,
        prompt,
        max_tokens,
        choices: 1,
        sampling: Sampling::default(),
        stop: Stop { ignore_eos: true, ..Stop::default() },
        format: None,
    };
    engine.submit(work).unwrap()
}

/// Reads a stream to its end: what it said and when, and how many tokens of its prompt were reused.
async fn hear(mut stream: Stream) -> (Vec<u32>, Vec<Instant>, usize) {
    let (mut tokens, mut times, mut reused) = (Vec::new(), Vec::new(), 0);
    while let Some(event) = stream.next().await {
        match event {
            Event::Delta(delta) => {
                tokens.push(delta.token.token);
                times.push(Instant::now());
            }
            Event::Done(done) => reused = done.cached_tokens,
            Event::Started(_) => (),
            Event::Failed(failure) => panic!("{failure}"),
        }
    }
    (tokens, times, reused)
}

fn gaps(times: &[Instant]) -> Vec<Duration> {
    let mut gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort();
    gaps
}

fn median(gaps: &[Duration]) -> Duration {
    gaps[gaps.len() / 2]
}

async fn long_prompt_beside_a_stream(engine: &Engine, seed: usize) {
    let stream = tokio::spawn(hear(submit(engine, prompt(seed, 32), 250)));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    let (_, times, _) = hear(submit(engine, prompt(seed + 1, 2000), 1)).await;
    let (first, (_, all, _)) = (times[0], stream.await.unwrap());
    let during: Vec<Instant> = all.iter().copied().filter(|time| (began..=first).contains(time)).collect();
    let (alone, beside) = (gaps(&all.into_iter().filter(|time| *time < began).collect::<Vec<_>>()), gaps(&during));
    let (longest, usual) = (beside.last().unwrap(), median(&alone));
    println!(
        "2000 tokens arrive in {:?}: gaps of {:?}, at most {longest:?}; otherwise {usual:?}: {:.1} times",
        first - began,
        median(&beside),
        longest.as_secs_f64() / usual.as_secs_f64()
    );
}

#[tokio::main]
async fn main() {
    let mut args = env::args().skip(1).map(|arg| arg.parse().unwrap());
    let (threads, chunk_tokens) = (args.next().unwrap_or(2), args.next().unwrap_or(64));
    let bundle = generation_bundle();
    let tokenizer = Tokenizer::load(&bundle).unwrap();
    let vocabulary = Arc::new(Vocabulary::load(&bundle, &tokenizer).unwrap());
    let limits = limits(chunk_tokens, args.next().unwrap_or(0));
    let of_session = Threads { count: threads, spin: Duration::from_micros(50) };
    let graph = &bundle.manifest.graphs[0];
    let session = Decoder::load(&library(), &bundle, graph, of_session, limits.slots(), limits.context_tokens).unwrap();
    let settings = Settings {
        limits,
        stop_ids: Vec::new(),
        vocabulary,
        buffer: 1024,
        cores: Arc::new(hotpath_cores::Cores::new(threads)),
        threads,
    };
    let engine = Engine::start(Box::new(session), settings, Arc::new(Silent)).unwrap();
    println!("{threads} threads, at most {chunk_tokens} tokens of prompts in a run");
    hear(submit(&engine, prompt(99, 64), 16)).await;
    if let Some(times) = args.next() {
        for time in 0..times {
            long_prompt_beside_a_stream(&engine, 1000 + 2 * time).await;
        }
        return engine.close();
    }

    for streams in [1, 8, 64] {
        let all = join_all((0..streams).map(|seed| hear(submit(&engine, prompt(seed, 32), 100)))).await;
        let from = all.iter().map(|(_, times, _)| times[0]).max().unwrap();
        let to = all.iter().map(|(_, times, _)| *times.last().unwrap()).min().unwrap();
        let said: usize =
            all.iter().map(|(_, times, _)| times.iter().filter(|time| (from..=to).contains(*time)).count() - 1).sum();
        println!("{streams} streams: {:.1} tokens/s", said as f64 / (to - from).as_secs_f64());
    }

    let began = Instant::now();
    let (_, times, _) = hear(submit(&engine, prompt(200, 400), 1)).await;
    println!("prefill: {:.0} tokens/s", 400.0 / (times[0] - began).as_secs_f64());

    long_prompt_beside_a_stream(&engine, 300).await;

    let mut ratios = Vec::new();
    for seed in 400..403 {
        let began = Instant::now();
        let (said, times, _) = hear(submit(&engine, prompt(seed, 400), 100)).await;
        let first = times[0] - began;
        let second = [prompt(seed, 400), said, prompt(seed + 50, 20)].concat();
        let (tokens, began) = (second.len(), Instant::now());
        let (_, times, reused) = hear(submit(&engine, second, 1)).await;
        let second = times[0] - began;
        let began = Instant::now();
        let (_, times, _) = hear(submit(&engine, prompt(seed + 100, tokens), 1)).await;
        let as_long = times[0] - began;
        println!("first turn {first:?}; second, {reused} of {tokens} tokens reused, {second:?}; as long {as_long:?}");
        ratios.push(second.as_secs_f64() / as_long.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    println!("second turn: {:.2} of a first turn as long", ratios[1]);
    engine.close();
}
