//! The generation task of a manifest: the shape of the cache, and the markup of a conversation.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use hotpath_contract::bundle::v1::{self as proto, ChatPlace};

use crate::{
    Refused,
    fields::{check, enumerated, required, text, within},
};

/// Sizes of a cache: far more than any model has, and few enough that their product is a number of bytes.
const LAYERS: RangeInclusive<u32> = 1..=1024;
const HEADS: RangeInclusive<u32> = 1..=4096;
const HEAD_DIMENSIONS: RangeInclusive<u32> = 1..=4096;

const BEFORE_MESSAGES: [ChatPlace; 3] = [ChatPlace::BeforeSystem, ChatPlace::BeforeUser, ChatPlace::BeforeAssistant];

/// A checked `triptych.bundle.v1.GenerationTask`. The fields' meaning is documented there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Generation {
    pub kv_cache: KvCache,
    pub stop_token_ids: Vec<u32>,
    /// `None`: the model only continues text.
    pub chat_template: Option<ChatTemplate>,
}

/// Shape of the cache of one layer and side: [slots, `kv_heads`, capacity, `head_dimensions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct KvCache {
    pub layers: u32,
    pub kv_heads: u32,
    pub head_dimensions: u32,
}

/// What stands between the messages of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatTemplate {
    markup: BTreeMap<ChatPlace, Vec<MarkupPiece>>,
    /// Places before a message that is trimmed.
    trims: BTreeSet<ChatPlace>,
}

/// A control token or text between two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkupPiece {
    /// The token's name in the vocabulary, or the text.
    pub text: String,
    /// Whether it is a control token.
    pub control: bool,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Role {
    System,
    User,
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said. Names of control tokens are text here.
    pub content: String,
}

impl KvCache {
    /// Bytes of one head's key or value of a token, in float16.
    #[must_use]
    pub fn head_bytes(&self) -> usize {
        self.head_dimensions as usize * 2
    }

    /// Bytes that each token takes in all layers.
    #[must_use]
    pub fn token_bytes(&self) -> usize {
        self.layers as usize * 2 * self.kv_heads as usize * self.head_bytes()
    }
}

impl ChatTemplate {
    /// The markup of one place; empty where there is none.
    #[must_use]
    pub fn at(&self, place: ChatPlace) -> &[MarkupPiece] {
        self.markup.get(&place).map_or(&[], Vec::as_slice)
    }

    /// Whether white space at both ends of the message after this place is left out.
    #[must_use]
    pub fn trims_message(&self, before: ChatPlace) -> bool {
        self.trims.contains(&before)
    }

    /// All markup.
    pub fn pieces(&self) -> impl Iterator<Item = &MarkupPiece> {
        self.markup.values().flatten()
    }
}

/// Checks a task of a model whose ids are below `vocabulary_size`.
pub(crate) fn read(proto: proto::GenerationTask, vocabulary_size: u32) -> Result<Generation, Refused> {
    let stops = proto.stop_token_ids;
    check(!stops.is_empty(), "generation.stop_token_ids", || "there must be at least one".to_owned())?;
    let ascending = stops.windows(2).all(|pair| pair[0] < pair[1]);
    let known = stops.last().is_none_or(|last| *last < vocabulary_size);
    check(ascending && known, "generation.stop_token_ids", || {
        format!("{stops:?} are not ascending and below {vocabulary_size}")
    })?;
    Ok(Generation {
        kv_cache: kv_cache(required(proto.kv_cache, "generation.kv_cache")?)?,
        stop_token_ids: stops,
        chat_template: chat_template(proto.chat_template)?,
    })
}

fn kv_cache(proto: proto::KvCache) -> Result<KvCache, Refused> {
    Ok(KvCache {
        layers: within(proto.layers, LAYERS, "generation.kv_cache.layers")?,
        kv_heads: within(proto.kv_heads, HEADS, "generation.kv_cache.kv_heads")?,
        head_dimensions: within(proto.head_dimensions, HEAD_DIMENSIONS, "generation.kv_cache.head_dimensions")?,
    })
}

fn chat_template(proto: Vec<proto::ChatMarkup>) -> Result<Option<ChatTemplate>, Refused> {
    let (mut places, mut trims) = (BTreeMap::new(), BTreeSet::new());
    for (i, markup) in proto.into_iter().enumerate() {
        let at = format!("generation.chat_template[{i}]");
        let place = enumerated(markup.place, &format!("{at}.place"))?;
        check(!markup.pieces.is_empty(), &format!("{at}.pieces"), || "there must be at least one".to_owned())?;
        let pieces = markup.pieces.into_iter().enumerate().map(|(j, piece)| {
            Ok(MarkupPiece { text: text(piece.text, &format!("{at}.pieces[{j}].text"))?, control: piece.control })
        });
        let pieces = pieces.collect::<Result<_, Refused>>()?;
        if places.insert(place, pieces).is_some() {
            return Err(Refused::manifest(format!("{at}.place"), "is there twice"));
        }
        if markup.trims_message {
            check(BEFORE_MESSAGES.contains(&place), &format!("{at}.trims_message"), || {
                format!("{} is before no message", place.as_str_name())
            })?;
            trims.insert(place);
        }
    }
    Ok(if places.is_empty() { None } else { Some(ChatTemplate { markup: places, trims }) })
}
