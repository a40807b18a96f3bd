"""Compiles a Jinja chat template into the manifest's pieces of markup, so that serving needs no template engine.

Rendering a conversation to one string and tokenizing that reads control tokens out of a user's message: a message that
says `<|im_end|>` would end itself. So the template is taken apart once, here, into control tokens and plain text. A
conversation's ids are then made piece by piece, and what stands in a message stays text. The text between two control
tokens, markup and message together, is tokenized as one, so there are no seams: without control tokens in its messages,
a conversation has exactly the ids of the rendered string. `compile_template` proves that on sample conversations, whose
messages hold what templates are known to take out: white space, thoughts, calls of tools, names of control tokens.

A template is a program from outside: it may loop, recurse and multiply. It runs where it can be stopped (`confined`).
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from triptych.bundle.v1 import bundle_pb2
from triptych.bundle.v1.bundle_pb2 import ChatMarkup, ChatPlace, MarkupPiece
from triptych_research import confined
from triptych_research.json_fields import CheckpointError
from triptych_research.sources import max_bytes
from triptych_research.tokenizer_file import control_tokens

BEFORE = {
    "system": bundle_pb2.CHAT_PLACE_BEFORE_SYSTEM,
    "user": bundle_pb2.CHAT_PLACE_BEFORE_USER,
    "assistant": bundle_pb2.CHAT_PLACE_BEFORE_ASSISTANT,
}
AFTER = {
    "system": bundle_pb2.CHAT_PLACE_AFTER_SYSTEM,
    "user": bundle_pb2.CHAT_PLACE_AFTER_USER,
    "assistant": bundle_pb2.CHAT_PLACE_AFTER_ASSISTANT,
}

MAX_TEMPLATE = max_bytes("chat_template.jinja")  # characters; the largest that are published have 20,000
MAX_RENDERED = 2**15  # characters of a sample conversation, whose messages have a few dozen

_Piece = tuple[str, bool]  # text, and whether it is a control token


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str  # "system", "user" or "assistant"
    content: str


class ChatTemplate:
    """Turns conversations into token ids by a manifest's chat template."""

    def __init__(self, markup: Sequence[ChatMarkup], tokenizer: Tokenizer) -> None:
        self.markup = {each.place: list(each.pieces) for each in markup}
        trims = {each.place for each in markup if each.trims_message}
        self.trimmed = {role for role, place in BEFORE.items() if place in trims}
        self.controls = control_tokens(tokenizer)
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.encode_special_tokens = True  # take the names of control tokens for text

    def pieces(self, messages: Sequence[Message], reply: bool = True) -> Iterator[MarkupPiece]:
        """A conversation as control tokens and text; with `reply`, up to where the assistant's next turn begins."""
        begins_with_system = bool(messages) and messages[0].role == "system"
        yield from self._at(
            bundle_pb2.CHAT_PLACE_OPENING_WITH_SYSTEM if begins_with_system else bundle_pb2.CHAT_PLACE_OPENING
        )
        for message in messages:
            yield from self._at(BEFORE[message.role])
            yield MarkupPiece(text=message.content.strip() if message.role in self.trimmed else message.content)
            yield from self._at(AFTER[message.role])
        if reply:
            yield from self._at(bundle_pb2.CHAT_PLACE_REPLY)

    def encode(self, messages: Sequence[Message], reply: bool = True) -> list[int]:
        """Token ids of a conversation."""
        ids: list[int] = []
        for control, run in itertools.groupby(self.pieces(messages, reply), key=lambda piece: piece.control):
            if control:
                ids += [self.controls[piece.text] for piece in run]
            else:
                text = "".join(piece.text for piece in run)
                ids += self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _at(self, place: ChatPlace) -> list[MarkupPiece]:
        return self.markup.get(place, [])


def compile_template(
    source: str, tokenizer: Tokenizer, bos_token: str = "", eos_token: str = ""
) -> list[bundle_pb2.ChatMarkup]:
    """Take a template apart.

    Raises CheckpointError when it cannot be said in this form, as when it changes a message's text or moves it, and
    when it is longer, or takes more time or memory, than markup around messages can need.
    """
    if len(source) > MAX_TEMPLATE:
        raise CheckpointError(f"chat template: {len(source)} characters; at most {MAX_TEMPLATE} are read")
    places = confined.call("chat template", _compile, source, tokenizer.to_str(), bos_token, eos_token)
    return [
        ChatMarkup(
            place=place,
            pieces=[MarkupPiece(text=text, control=control) for text, control in pieces],
            trims_message=trims_message,
        )
        for place, pieces, trims_message in places
    ]


def _compile(
    source: str, tokenizer_json: str, bos_token: str, eos_token: str
) -> list[tuple[ChatPlace, list[_Piece], bool]]:
    """Return each place's markup; for a child process, which gets and returns JSON values."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    jinja = _Jinja(source, bos_token, eos_token)
    controls = control_tokens(tokenizer)
    parts, trims = sorted(_take_apart(jinja).items()), _trims(jinja)
    markup = [
        ChatMarkup(place=place, pieces=_split(text, controls), trims_message=place in trims)
        for place, text in parts
        if text
    ]
    _prove(ChatTemplate(markup, tokenizer), jinja, tokenizer)
    return [(each.place, [(piece.text, piece.control) for piece in each.pieces], each.trims_message) for each in markup]


class _Jinja:
    """The template as its author wrote it."""

    def __init__(self, source: str, bos_token: str, eos_token: str) -> None:
        # Templates come with weights, from anywhere: they must not reach into Python.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _refuse_date}
        environment.filters["tojson"] = _to_json
        try:
            self.template = environment.from_string(source)
        except _OUT_OF_BOUNDS:
            raise
        except Exception as error:  # of the template's syntax, or of the Python that it becomes
            raise CheckpointError(str(error)) from error
        self.tokens = {"bos_token": bos_token, "eos_token": eos_token}

    def render(self, messages: Sequence[Message], reply: bool = False) -> str:
        turns: list[dict[str, Any]] = [{"role": each.role, "content": each.content} for each in messages]
        text = ""
        try:
            for part in self.template.generate(messages=turns, add_generation_prompt=reply, **self.tokens):
                text += part
                if len(text) > MAX_RENDERED:
                    break
        except _OUT_OF_BOUNDS:
            raise
        except Exception as error:  # a template is a program, and may fail as programs do
            roles = ", ".join(message.role for message in messages)
            raise CheckpointError(f"refuses the roles {roles}: {error}") from error
        if len(text) > MAX_RENDERED:
            raise CheckpointError(f"renders more than {MAX_RENDERED} characters of a short conversation")
        return text


_OUT_OF_BOUNDS = (MemoryError, RecursionError)  # for `confined` to say


class _Generation(Extension):
    """`{% generation %}`, which marks for training what the assistant says, and renders as what is in it."""

    tags = {"generation"}  # noqa: RUF012  # as Jinja declares it

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _refuse_date(_format: str) -> NoReturn:
    raise TemplateError("it writes today's date (strftime_now), which is another one when the model serves")


def _to_json(value: Any, ensure_ascii: bool = False, **settings: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **settings)  # Jinja's own is for HTML


def _take_apart(jinja: _Jinja) -> dict[ChatPlace, str]:
    """Find the markup in conversations whose messages are marks that occur nowhere else."""
    user, assistant = Message("user", "[[1]]"), Message("assistant", "[[2]]")
    system, last = Message("system", "[[3]]"), Message("user", "[[4]]")
    opening_user, user_assistant, assistant_system, system_user, after_user = _between(
        jinja, [user, assistant, system, last]
    )
    opening_system, *_ = _between(jinja, [system, last])
    # Between two messages stand the end of one and the beginning of the next. Ends are known from a conversation's end.
    *_, after_assistant = _between(jinja, [user, assistant])
    _, _, assistant_user, _ = _between(jinja, [user, assistant, last])
    before_user = _without_prefix(assistant_user, after_assistant)
    before_system = _without_prefix(assistant_system, after_assistant)
    return {
        bundle_pb2.CHAT_PLACE_OPENING_WITH_SYSTEM: _without_suffix(opening_system, before_system),
        bundle_pb2.CHAT_PLACE_OPENING: _without_suffix(opening_user, before_user),
        bundle_pb2.CHAT_PLACE_BEFORE_SYSTEM: before_system,
        bundle_pb2.CHAT_PLACE_AFTER_SYSTEM: _without_suffix(system_user, before_user),
        bundle_pb2.CHAT_PLACE_BEFORE_USER: before_user,
        bundle_pb2.CHAT_PLACE_AFTER_USER: after_user,
        bundle_pb2.CHAT_PLACE_BEFORE_ASSISTANT: _without_prefix(user_assistant, after_user),
        bundle_pb2.CHAT_PLACE_AFTER_ASSISTANT: after_assistant,
        bundle_pb2.CHAT_PLACE_REPLY: _without_prefix(jinja.render([user], reply=True), jinja.render([user])),
    }


def _trims(jinja: _Jinja) -> set[ChatPlace]:
    """Find before which messages the template takes white space away at their ends."""
    wide = " \n[[1]] \n"
    turns = [Message("user", "[[2]]"), Message("assistant", "[[3]]")]
    conversations = {"system": [Message("system", wide), *turns]}
    conversations |= {
        turn.role: [Message(each.role, wide if each is turn else each.content) for each in turns] for turn in turns
    }
    return {BEFORE[role] for role, messages in conversations.items() if wide not in jinja.render(messages)}


def _between(jinja: _Jinja, messages: Sequence[Message]) -> list[str]:
    """What the template writes before, between and after the messages."""
    parts, rest = [], jinja.render(messages)
    for message in messages:
        before, mark, rest = rest.partition(message.content)
        if not mark:
            raise CheckpointError(f"the {message.role}'s message is not in its place in what it renders")
        parts.append(before)
    return [*parts, rest]


def _without_prefix(text: str, prefix: str) -> str:
    if not text.startswith(prefix):
        raise CheckpointError(f"{text!r} does not begin with {prefix!r}, which ends a conversation")
    return text[len(prefix) :]


def _without_suffix(text: str, suffix: str) -> str:
    if not text.endswith(suffix):
        raise CheckpointError(f"{text!r} does not end with {suffix!r}, which stands there elsewhere")
    return text[: len(text) - len(suffix)]


def _split(text: str, controls: dict[str, int]) -> Iterator[MarkupPiece]:
    """Split at control tokens; the longest wins where one begins another."""
    by_length = sorted(controls, key=len, reverse=True)
    plain, position = "", 0
    while position < len(text):
        token = next((token for token in by_length if text.startswith(token, position)), None)
        if token is None:
            plain, position = plain + text[position], position + 1
            continue
        if plain:
            yield MarkupPiece(text=plain)
        yield MarkupPiece(text=token, control=True)
        plain, position = "", position + len(token)
    if plain:
        yield MarkupPiece(text=plain)


SAMPLE_CONTENTS = (
    "Hi.",
    " two\n\nlines \n",
    "x = {'a': 1}  # {{ 2 }}",
    "Grüße, 世界 👩‍👩‍👧",
    "2026",
    "",
    "<think>\nTwo and two.\n</think>\n\nFour.",  # some templates leave out what was thought
    "Five.</think>Six, <think>seven",
    '<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call>',
    "<tool_response>\n4\n</tool_response>",
    "\u00a0wide\u2003\t",
    "[TOOL_CALLS] [INST] <<SYS>>\na\n<</SYS>>\n\nb [/INST] c",
)
_MOST_NAMES = 32  # of control tokens in a sample
SAMPLE_ROLES = (
    ("user",),
    ("system",),
    ("system", "user"),
    ("user", "assistant", "user"),
    ("system", "user", "assistant", "user"),
    ("user", "assistant", "system", "user", "assistant"),
)


def _prove(template: ChatTemplate, jinja: _Jinja, tokenizer: Tokenizer) -> None:
    """Compare pieces with the rendered string, as text and as ids, on conversations of several shapes and contents."""
    # Each content comes in each place, for the numbers of contents, 13, and of messages have no common factor.
    used = [piece.text for pieces in template.markup.values() for piece in pieces if piece.control]
    names = list(dict.fromkeys(filter(None, [*jinja.tokens.values(), *used, *template.controls])))
    samples = (*SAMPLE_CONTENTS, " and ".join(["these", *names[:_MOST_NAMES], "too"]))
    contents = itertools.cycle(samples)
    for roles, reply, _ in itertools.product(SAMPLE_ROLES, (False, True), samples):
        messages = [Message(role, next(contents)) for role in roles]
        rendered = jinja.render(messages, reply)
        text = "".join(piece.text for piece in template.pieces(messages, reply))
        if text != rendered:
            raise CheckpointError(f"cannot be said in pieces: {text!r} is not {rendered!r}")
        if any(control in message.content for control in template.controls for message in messages):
            continue  # it has other ids, and is to have them
        if template.encode(messages, reply) != tokenizer.encode(rendered, add_special_tokens=False).ids:
            raise CheckpointError(f"pieces of {rendered!r} have other ids than the whole")
