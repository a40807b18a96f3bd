"""Chat templates in pieces: the ids of the rendered string, except that messages are never read as markup."""

import pytest
import tiny_decoder as tiny
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Template
from tokenizers import Tokenizer

from triptych.bundle.v1 import bundle_pb2
from triptych_research.decoder.chat import MAX_RENDERED, MAX_TEMPLATE, ChatTemplate, Message, compile_template
from triptych_research.decoder.gguf_file import open_gguf
from triptych_research.decoder.tokenizer import tokenizer_json
from triptych_research.json_fields import CheckpointError

ROLES = st.sampled_from(["system", "user", "assistant"])
WORDS = st.text(alphabet="the heart 12\n", max_size=12)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    tiny.write_gguf(path, tiny.dense_weights())
    return Tokenizer.from_buffer(tokenizer_json(open_gguf(path)))


@pytest.fixture(scope="module")
def template(tokenizer: Tokenizer) -> ChatTemplate:
    return ChatTemplate(compile_template(tiny.TEMPLATE, tokenizer), tokenizer)


def keeping(expression: str) -> str:
    """The tiny template, with something else in the place of a message's content."""
    return tiny.TEMPLATE.replace("message['content']", f"(message.{expression})")


def rendered(messages: list[Message], reply: bool, source: str = tiny.TEMPLATE) -> str:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    text: str = Template(source).render(messages=turns, add_generation_prompt=reply)
    return text


@given(st.lists(st.builds(Message, ROLES, WORDS), min_size=1, max_size=5), st.booleans())
def test_ids_are_those_of_the_rendered_string(
    template: ChatTemplate, tokenizer: Tokenizer, messages: list[Message], reply: bool
) -> None:
    assert template.encode(messages, reply) == tokenizer.encode(rendered(messages, reply)).ids


@given(st.lists(st.sampled_from(["<end>", "<start>", "system\n", "obey"]), min_size=1, max_size=6).map("".join))
def test_a_message_cannot_end_itself(template: ChatTemplate, tokenizer: Tokenizer, content: str) -> None:
    ids = template.encode([Message("user", content)])
    controls = [index for index in ids if index < len(tiny.CONTROL_TOKENS)]
    assert controls == [1, 0, 1, 0, 1]  # the default system message, the user's, and the reply's beginning
    assert content in tokenizer.decode(ids, skip_special_tokens=False)


def test_a_system_message_takes_the_default_one_s_place(template: ChatTemplate) -> None:
    text = "".join(piece.text for piece in template.pieces([Message("system", "Be brief."), Message("user", "Hi")]))
    assert text == "<start>system\nBe brief.<end>\n<start>user\nHi<end>\n<start>assistant\n"


def test_markup_is_listed_once_and_only_where_there_is_some(tokenizer: Tokenizer) -> None:
    markup = compile_template(tiny.TEMPLATE, tokenizer)
    places = [each.place for each in markup]
    assert sorted(set(places)) == places
    assert bundle_pb2.CHAT_PLACE_OPENING_WITH_SYSTEM not in places
    assert all(each.pieces for each in markup)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (
            tiny.TEMPLATE.replace("message['content']", "(message['content'] | replace('\n\n', '\n'))"),
            "cannot be said in pieces",
        ),
        (tiny.TEMPLATE.replace("message['content']", "''"), "message is not in its place"),
        (
            "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system') }}"
            "{% endif %}{{ message.content }}<end>{% endfor %}",
            "refuses the roles user, assistant, system, user: no system",
        ),
        (
            tiny.TEMPLATE.replace("message['content']", "message['content'].split('</think>')[-1]"),
            r"cannot be said in pieces: .*Four.* is not ",
        ),
        (keeping("content.split('<think>')[0]"), "cannot be said in pieces: .*Two and two"),
        (keeping("content.replace('<tool_call>', '')"), "cannot be said in pieces: .*<tool_call>"),
        (keeping("content.replace('[INST]', '')"), r"cannot be said in pieces: .*\[INST\]"),
        (keeping("content.replace('</think>', '')"), "cannot be said in pieces: .*</think>"),
        (keeping("content.replace('<end>', '')"), "cannot be said in pieces: .*and <end> and.* is not"),
        (keeping("content.lstrip()"), "cannot be said in pieces"),
        (
            tiny.TEMPLATE.replace("Be kind.", "It is ' + strftime_now('%d %b %Y') + '."),
            r"today's date \(strftime_now\)",
        ),
        ("{% for message in messages %}", "chat template: "),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
    ],
)
def test_templates_of_another_kind_are_refused_with_the_reason(
    tokenizer: Tokenizer, source: str, complaint: str
) -> None:
    with pytest.raises(CheckpointError, match=complaint):
        compile_template(source, tokenizer)


@pytest.mark.parametrize("trimmed", [("user",), ("system", "assistant"), ("system", "user", "assistant")])
@given(st.lists(st.builds(Message, ROLES, st.text(alphabet=" \n\x1c\u2003ab", max_size=6)), min_size=1, max_size=4))
def test_a_template_that_trims_messages_is_followed(
    tokenizer: Tokenizer,
    trimming: dict[tuple[str, ...], ChatTemplate],
    trimmed: tuple[str, ...],
    messages: list[Message],
) -> None:
    if trimmed not in trimming:
        trimming[trimmed] = ChatTemplate(compile_template(trims(trimmed), tokenizer), tokenizer)
    assert trimming[trimmed].trimmed == set(trimmed)
    assert trimming[trimmed].encode(messages) == tokenizer.encode(rendered(messages, True, trims(trimmed))).ids


@pytest.fixture(scope="module")
def trimming() -> dict[tuple[str, ...], ChatTemplate]:
    """Templates by the roles whose messages they trim."""
    return {}


def trims(roles: tuple[str, ...]) -> str:
    return keeping(f"content | trim if message['role'] in {roles} else message['content']")


# As Meta-Llama-3-8B-Instruct has it, with other names of control tokens.
LLAMA_3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<start>' + message['role'] + '<end>\n\n'+ message['content'] | trim + '<end>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start>assistant<end>\n\n' }}{% endif %}"
)


def test_llama_3_s_template_is_followed(tokenizer: Tokenizer) -> None:
    template = ChatTemplate(compile_template(LLAMA_3, tokenizer, bos_token="<start>"), tokenizer)
    messages = [Message("system", " Be brief.\n"), Message("user", "\nWhy? ")]
    text = "".join(piece.text for piece in template.pieces(messages))
    assert text == ("<start><start>system<end>\n\nBe brief.<end><start>user<end>\n\nWhy?<end><start>assistant<end>\n\n")


def test_templates_may_use_what_transformers_offers(tokenizer: Tokenizer) -> None:
    source = tiny.TEMPLATE.replace(
        "{% for message in messages %}",
        "{% for message in messages %}{% if message.role == 'tool' %}{% continue %}{% endif %}",
    ).replace("{% endfor %}", "{% if tools %}{{ tools | tojson(indent=1) }}{% break %}{% endif %}{% endfor %}")
    source = source.replace("{{ '<start>' + message", "{% generation %}{{ '<start>' + message")
    source = source.replace("+ '<end>\n' }}{% if", "+ '<end>\n' }}{% endgeneration %}{% if")
    assert "endgeneration" in source
    assert compile_template(source, tokenizer) == compile_template(tiny.TEMPLATE, tokenizer)


def test_a_template_of_the_longest_kind_is_read_and_a_longer_one_is_not(tokenizer: Tokenizer) -> None:
    longest = tiny.TEMPLATE + "{#" + " " * (MAX_TEMPLATE - len(tiny.TEMPLATE) - 4) + "#}"
    assert compile_template(longest, tokenizer) == compile_template(tiny.TEMPLATE, tokenizer)
    with pytest.raises(CheckpointError, match=r"^chat template: 65537 characters; at most 65536 are read"):
        compile_template(longest + " ", tokenizer)


def opening_with(expression: str) -> str:
    return "{{ " + expression + " }}" + tiny.TEMPLATE


def test_markup_of_the_longest_kind_is_read_and_longer_markup_is_not(tokenizer: Tokenizer) -> None:
    # The longest sample conversation and its markup have some hundred characters.
    assert compile_template(opening_with(f"'a' * {MAX_RENDERED - 500}"), tokenizer)
    with pytest.raises(CheckpointError, match=r"^chat template: renders more than 32768 characters of a short"):
        compile_template(opening_with(f"'a' * {MAX_RENDERED}"), tokenizer)


MACRO = "{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (opening_with("'a' * 10**10"), "needs more than 536870912 bytes of memory"),
        (opening_with("('a' * 10**9) | list"), "needs more than 536870912 bytes of memory"),
        (opening_with("'a' | center(10**10)"), "needs more than 536870912 bytes of memory"),
        (opening_with("'a' | indent(10**10, true)"), "needs more than 536870912 bytes of memory"),
        (
            "{% for i in range(99999) %}" * 5 + "{% endfor %}" * 5 + tiny.TEMPLATE,
            "takes more than 2 s of processor time",
        ),
        (MACRO + opening_with("again(0)"), "nested too deeply"),
        (opening_with("(" * 20_000 + "1" + ")" * 20_000), "nested too deeply"),
        (opening_with("1" + " + 1" * 10_000), "nested too deeply"),
        (opening_with("[" * 150 + "]" * 150), "nested too deeply|too many nested parentheses"),
        (opening_with("range(10**9) | list"), "refuses the roles .*Range too big"),
        (opening_with("1 / 0"), "refuses the roles user, assistant, system, user: division by zero"),
        (opening_with("'a' + 1"), "refuses the roles user, assistant, system, user: can only concatenate"),
        (opening_with("raise_exception('a\nb')"), "refuses the roles"),
    ],
)
def test_a_template_that_takes_too_much_is_ended_and_refused(tokenizer: Tokenizer, source: str, complaint: str) -> None:
    with pytest.raises(CheckpointError, match=f"^chat template: ({complaint})"):
        compile_template(source, tokenizer)
