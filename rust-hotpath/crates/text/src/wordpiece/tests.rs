//! The library is the oracle, whatever the rules and whatever the text.

use std::{fs, path::Path, sync::LazyLock};

use hotpath_testing::bundle;
use proptest::prelude::*;
use tokenizers::{
    AddedToken, Model as _,
    models::{bpe::BPE, wordpiece::WordPiece as Model},
};

use super::*;
use crate::{Encoder, Frame, Tokenizer};

/// A tokenizer, and what it is compared with.
struct Pair {
    library: tokenizers::Tokenizer,
    own: WordPiece,
}

type Placed = Vec<(u32, Range<usize>)>;

impl Pair {
    fn new(library: tokenizers::Tokenizer) -> Self {
        let own = WordPiece::of(&library).unwrap();
        Self { library, own }
    }

    /// Other rules by number, of 24.
    fn with(rules: usize) -> Self {
        let (on, accents) = (|bit: usize| rules & (1 << bit) != 0, [None, Some(false), Some(true)]);
        let normalizer = BertNormalizer::new(on(0), on(1), accents[rules / 8], on(2));
        let mut library = LIBRARY.clone();
        let mut model = model();
        model.max_input_chars_per_word = if rules.is_multiple_of(2) { 100 } else { 5 };
        library.with_model(model).with_normalizer(Some(normalizer)).unwrap();
        // One begins another, and one goes on as a word may.
        let added = ["[", "[SEP]]", "<s", "<s>É x"].map(|content| AddedToken::from(content, true));
        library.add_special_tokens(added).unwrap();
        Self::new(library)
    }

    fn by_library(&self, text: &str) -> Placed {
        let encoding = self.library.encode(text, false).unwrap();
        let places = encoding.get_offsets().iter().map(|(start, end)| *start..*end);
        encoding.get_ids().iter().copied().zip(places).collect()
    }

    fn by_us(&self, text: &str) -> Placed {
        let mut tokens = Vec::new();
        let is_all = self.own.encode(text, |id, place| {
            tokens.push((id, place));
            ControlFlow::Continue(())
        });
        assert_eq!(is_all, Ok(true));
        tokens
    }
}

/// The tokenizer of the default model.
static LIBRARY: LazyLock<tokenizers::Tokenizer> = LazyLock::new(|| {
    let bundle = bundle();
    tokenizers::Tokenizer::from_file(bundle.path(&bundle.manifest.tokenizer().unwrap().file)).unwrap()
});

fn model() -> Model {
    let ModelWrapper::WordPiece(model) = LIBRARY.get_model() else { unreachable!() };
    model.clone()
}

static DEFAULT: LazyLock<Pair> = LazyLock::new(|| Pair::new(LIBRARY.clone()));

/// All rules, and words that are soon too long.
static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| (0..24).map(Pair::with).collect());

/// What the rules tell apart, next to each other.
fn texts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => "[a-zA-Z]{1,6}",
        4 => "[ ]{1,3}|[\t\n\r\u{b}\u{c}\u{85}\u{a0}\u{2000}\u{2001}\u{2028}\u{3000}]{1,2}",
        3 => "[0-9]{1,4}",
        3 => "[!-/:-@\\[-`{-~]{1,3}|[’“”…—¿·\u{37e}\u{387}\u{1fef}、。]{1,2}",
        2 => "[东京大学你好㐀豈\u{fa10}𠀀\u{2a700}\u{2b820}\u{2f800}]{1,3}",
        2 => "[ÀéîõüßøĐσΣςİĲẛǅ≠≮ﬁ\u{2126}\u{212a}\u{344}\u{f73}\u{f76}\u{1d15f}]{1,3}|[가각힣\u{1100}\u{1161}]{1,2}",
        // Accents, and characters that combine and are none; their order differs from that in the text.
        3 => "[\u{300}-\u{305}\u{316}\u{323}\u{338}\u{345}\u{f71}\u{f72}\u{94d}\u{93c}\u{302e}\u{302f}\u{1b44}\u{a953}\u{1d165}\u{1d16d}\u{16ff0}]{1,4}",
        2 => "[\u{0}\u{1}\u{1c}\u{7f}\u{80}\u{ad}\u{200b}\u{200d}\u{feff}\u{fffd}\u{e000}\u{f0000}\u{378}]{1,2}",
        2 => "\\[CLS\\]|\\[SEP\\]{1,2}|\\[MASK|\\[\\[PAD\\]|<s>|<s>É x|\\[sep\\]|##a",
        1 => prop::sample::select(vec![99, 100, 101, 250]).prop_map(|length| "aé".repeat(length).chars().take(length).collect()),
        2 => "\\PC{1,3}|(?s:.{1,3})",
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

/// Texts to be compared: `TEXTS=1000000` for an hour's.
fn cases() -> ProptestConfig {
    let cases = std::env::var("TEXTS").ok().and_then(|count| count.parse().ok());
    ProptestConfig::with_cases(cases.unwrap_or(500))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_text_under_any_rules(text in texts(), pair in 0..24_usize) {
        for pair in [&*DEFAULT, &PAIRS[pair]] {
            prop_assert_eq!(pair.by_us(&text), pair.by_library(&text), "{:?}", pair.own.rules);
        }
    }
}

/// Between letters, where its kind is seen. The library takes seconds for all that exist.
#[test]
fn every_character() {
    let planes = [0..0x3400, 0x4DB0..0x4E10, 0x9FF0..0xAC10, 0xD7A0..0xE010, 0xF8F0..0x1_3000, 0x1_6000..0x1_BD00];
    let more = [0x1_D000..0x1_F800, 0x1_FFF0..0x2_0010, 0x2_A6D0..0x2_B830, 0x2_CEA0..0x2_D000, 0x2_F7F0..0x2_FB00];
    let characters: Vec<char> =
        planes.into_iter().chain(more).flatten().chain(0xE_0000..0xE_0200).filter_map(char::from_u32).collect();
    let text: String = characters.iter().flat_map(|character| ['a', *character, 'B', ' ']).collect();
    let only_lowercase = Pair::with(0b1100);
    for pair in [&DEFAULT, &only_lowercase] {
        let (ours, theirs) = (pair.by_us(&text), pair.by_library(&text));
        let different = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
        assert_eq!(different, None, "{:?}", different.map(|(ours, _)| &text[ours.1.clone()]));
        assert_eq!(ours.len(), theirs.len());
    }
}

#[test]
fn real_texts() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let files = fs::read_dir(repository.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    assert!(!files.is_empty());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(DEFAULT.by_us(&text), DEFAULT.by_library(&text), "{}", file.display());
    }
}

#[test]
fn it_ends_where_no_more_are_wanted() {
    for word in ["word ", "語", "é,"] {
        let text = word.repeat(1000);
        let mut count = 0;
        let is_all = DEFAULT.own.encode(&text, |_, _| {
            count += 1;
            if count == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((is_all, count), (Ok(false), 10), "{word}");
    }
}

#[test]
fn what_is_held_is_bounded() {
    let tokens = DEFAULT.by_us(&"a".repeat(1_000_000));
    assert_eq!(tokens, [(model().token_to_id("[UNK]").unwrap(), 0..1_000_000)]);
    let accents = |count: usize| format!("e{}", "\u{301}".repeat(count));
    let encode = |text: &str| DEFAULT.own.encode(text, |_, _| ControlFlow::Continue(()));
    assert_eq!(encode(&accents(LONGEST_PIECE / 2)), Ok(true));
    assert_eq!(encode(&accents(LONGEST_PIECE / 2 + 1)), Err(TokenizeError::Unbroken { limit: LONGEST_PIECE }));
}

#[test]
fn another_form_is_left_to_the_library() {
    let with = |change: &dyn Fn(&mut tokenizers::Tokenizer)| {
        let mut library = LIBRARY.clone();
        change(&mut library);
        WordPiece::of(&library).is_some()
    };
    let with_model = |change: fn(&mut Model)| {
        with(&|library| {
            let mut model = model();
            change(&mut model);
            library.with_model(model);
        })
    };
    let with_token = |token: AddedToken| {
        with(&|library| {
            library.add_tokens([token.clone()]).unwrap();
        })
    };
    assert!(with(&|_| ()));
    assert!(matches!(Tokenizer::of(LIBRARY.clone(), Frame::default()).encoder, Encoder::WordPiece(_)));
    assert!(!with(&|library| library.set_encode_special_tokens(true)));
    assert!(!with(&|library| _ = library.with_normalizer(None::<BertNormalizer>).unwrap()));
    assert!(!with(&|library| _ = library.with_pre_tokenizer(None::<PreTokenizerWrapper>)));
    assert!(!with(&|library| _ = library.with_model(BPE::default())));
    assert!(!with_model(|model| model.continuing_subword_prefix = "@@".to_owned()));
    assert!(!with_model(|model| model.max_input_chars_per_word = 0));
    assert!(!with_model(|model| model.unk_token = "no such token".to_owned()));
    let token = || AddedToken::from("<x>", true);
    assert!(with_token(token()));
    assert!(!with_token(token().normalized(true)));
    assert!(!with_token(token().lstrip(true)));
    assert!(!with_token(token().rstrip(true)));
    assert!(!with_token(token().single_word(true)));
    assert!(!with_token(AddedToken::from("x>", true)));
}
