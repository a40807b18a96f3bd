//! Conversations to token ids, by the manifest's template.
//!
//! A control token comes from the template and from nowhere else: what stands in a message is text, also where it is the
//! name of a control token.

use std::collections::HashMap;

use hotpath_bundle::{Bundle, ChatPlace, ChatTemplate, MarkupPiece, Message, Refused, Role};

use crate::{Found, Frame, LOOKED_AT_TEXTS, TokenizeError, Tokenizer};

/// A bundle's way to write conversations.
#[derive(Debug)]
pub struct Chat {
    template: ChatTemplate,
    /// The template's control tokens.
    controls: HashMap<String, u32>,
    /// Takes the names of control tokens for text.
    tokenizer: Tokenizer,
}

impl Chat {
    /// Reads a bundle's template; `None` when its model only continues text.
    ///
    /// # Errors
    /// [`Refused`] when the bundle is of another task, or the template names a control token that the vocabulary lacks.
    pub fn load(bundle: &Bundle, tokenizer: &Tokenizer) -> Result<Option<Self>, Refused> {
        let Some(template) = bundle.manifest.generation()?.chat_template.clone() else { return Ok(None) };
        let added = tokenizer.inner.get_added_tokens_decoder();
        let special = added.into_iter().filter(|(_, token)| token.special);
        let mut controls: HashMap<String, u32> = special.map(|(id, token)| (token.content, id)).collect();
        let named = |piece: &MarkupPiece| piece.control && !controls.contains_key(&piece.text);
        if let Some(unknown) = template.pieces().find(|piece| named(piece)) {
            let problem = format!("\"{}\" is no control token of the vocabulary", unknown.text);
            return Err(Refused::manifest("generation.chat_template", problem));
        }
        controls.retain(|name, _| template.pieces().any(|piece| piece.control && piece.text == *name));
        let mut inner = tokenizer.inner.clone();
        inner.set_encode_special_tokens(true);
        Ok(Some(Self { template, controls, tokenizer: Tokenizer::of(inner, Frame::default()) }))
    }

    /// The ids of a conversation, up to where the assistant's next turn begins. A long one is looked at until more than
    /// `most` are known.
    ///
    /// # Errors
    /// [`TokenizeError`].
    pub fn ids(&self, messages: &[Message], most: usize) -> Result<Found<Vec<u32>>, TokenizeError> {
        let mut ids = Vec::new();
        let mut text = String::new(); // since the last control token: tokenized as one, so there are no seams
        let last = std::iter::once(None);
        for piece in self.pieces(messages).map(Some).chain(last) {
            if let Some(Piece::Text(piece)) = piece {
                text.push_str(piece);
                continue;
            }
            let found = self.tokenizer.ids(&text, most.saturating_sub(ids.len()))?;
            text.clear();
            ids.extend(found.tokens);
            ids.extend(match piece {
                Some(Piece::Control(id)) => Some(id),
                _ => None,
            });
            if !found.is_all || piece.is_some() && ids.len() > most {
                return Ok(Found { tokens: ids, is_all: false });
            }
        }
        Ok(Found { tokens: ids, is_all: true })
    }

    /// So many ids a conversation has at least, by its first messages. A message's last word may go on in the next one.
    #[must_use]
    pub fn at_least(&self, messages: &[Message]) -> usize {
        let words = |message: &Message| self.tokenizer.at_least(&message.content).saturating_sub(1);
        messages.iter().take(LOOKED_AT_TEXTS).map(words).sum::<usize>().max(1)
    }

    fn pieces<'a>(&'a self, messages: &'a [Message]) -> impl Iterator<Item = Piece<'a>> {
        let begins_with_system = messages.first().is_some_and(|message| message.role == Role::System);
        let opening = if begins_with_system { ChatPlace::OpeningWithSystem } else { ChatPlace::Opening };
        let turns = messages.iter().flat_map(|message| {
            let (before, after) = places(message.role);
            let content =
                if self.template.trims_message(before) { trimmed(&message.content) } else { &message.content };
            let content = std::iter::once(Piece::Text(content));
            self.markup(before).chain(content).chain(self.markup(after))
        });
        self.markup(opening).chain(turns).chain(self.markup(ChatPlace::Reply))
    }

    fn markup(&self, place: ChatPlace) -> impl Iterator<Item = Piece<'_>> {
        self.template.at(place).iter().map(|piece| match self.controls.get(&piece.text) {
            Some(id) if piece.control => Piece::Control(*id),
            _ => Piece::Text(&piece.text),
        })
    }
}

/// A text without white space at its ends: all that Python's `str.strip` takes, for the templates' `trim` is that.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

/// A part of a conversation.
enum Piece<'a> {
    Control(u32),
    Text(&'a str),
}

fn places(role: Role) -> (ChatPlace, ChatPlace) {
    match role {
        Role::System => (ChatPlace::BeforeSystem, ChatPlace::AfterSystem),
        Role::User => (ChatPlace::BeforeUser, ChatPlace::AfterUser),
        Role::Assistant => (ChatPlace::BeforeAssistant, ChatPlace::AfterAssistant),
    }
}
