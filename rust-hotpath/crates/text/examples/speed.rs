//! What tokenizing takes, by us and by the library, in turn: `cargo run --release -p hotpath-text --example speed`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a measurement's panic is its failure")]

use std::{fs, hint::black_box, path::Path, time::Duration};

use hotpath_testing::bundle;
use hotpath_text::Tokenizer;
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 9;
const WORDS: usize = 20;

/// Processor time, the best of some rounds in turn: what else the machine does only adds.
fn best<const N: usize>(mut works: [&mut dyn FnMut(); N]) -> [Duration; N] {
    let mut best = [Duration::MAX; N];
    for _ in 0..ROUNDS {
        for (work, best) in works.iter_mut().zip(&mut best) {
            let begin = clock();
            work();
            *best = clock().saturating_sub(begin).min(*best);
        }
    }
    best
}

fn clock() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

fn main() {
    let bundle = bundle();
    let own = Tokenizer::load(&bundle).unwrap();
    let file = bundle.path(&bundle.manifest.tokenizer().unwrap().file);
    let mut library = tokenizers::Tokenizer::from_file(file).unwrap();
    library.with_padding(None).with_truncation(None).unwrap();

    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs");
    let prose = fs::read_to_string(docs.join("architecture.md")).unwrap();
    let words: Vec<&str> = prose.split_whitespace().collect();
    let short: Vec<String> = words.chunks_exact(WORDS).map(|words| words.join(" ")).collect();
    let long = prose.repeat((1 << 20) / prose.len() + 1);
    let chinese = "自然语言处理是人工智能领域的一个重要方向,".repeat((1 << 20) / 60);
    let accents = "Größe, Übermut und Ärger überfielen die Bäckerin; ça va très bien à l’été ".repeat((1 << 20) / 80);

    let each = |encode: &dyn Fn(&str)| short.iter().map(String::as_str).for_each(encode);
    let ours = |text: &str| _ = black_box(own.ids(text, usize::MAX).unwrap());
    let placed = |text: &str| _ = black_box(own.tokens(text, usize::MAX).unwrap());
    let theirs = |text: &str| _ = black_box(library.encode_fast(text, true).unwrap());

    let times = best([&mut || each(&ours), &mut || each(&placed), &mut || each(&theirs)]);
    let [ours_ns, placed_ns, theirs_ns] = times.map(|time| time.as_nanos() / short.len() as u128);
    println!("{WORDS} words: {ours_ns} ns, with places {placed_ns} ns, library {theirs_ns} ns");
    for (name, text) in [("prose", &long), ("Chinese", &chinese), ("accents", &accents)] {
        let times = best([&mut || ours(text), &mut || placed(text), &mut || theirs(text)]);
        let [ours, placed, theirs] = times.map(|time| text.len() as u128 * 1000 / time.as_nanos());
        println!("{} bytes of {name}: {ours} MB/s, with places {placed} MB/s, library {theirs} MB/s", text.len());
    }
}
