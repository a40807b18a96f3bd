"""Both implementations continue texts alike: the same ids, text, ends and counts, and the same refusals."""

import dataclasses
from typing import Any

import pytest
from triptych.inference.v1 import inference_pb2 as pb

from contract.conftest import Server
from contract.refusals import error_info, refusal

MODEL = "smollm2-135m-instruct"
INTERACTIVE = pb.Scheduling(priority=pb.PRIORITY_INTERACTIVE)
GREEDY = pb.Sampling(temperature=0)
# The reference sums log-probabilities in float64.
LOGPROB_ROUNDING = 1e-3


@dataclasses.dataclass
class Said:
    """What one request was told, by choice."""

    texts: dict[int, str]
    ids: dict[int, list[int]]
    ends: dict[int, pb.Finish]
    started: int | None  # tokens of the prompt
    counts: tuple[int, int]  # prompt, completion
    logprobs: list[float]  # of the first choice


def generate(server: Server, **fields: Any) -> Said:
    said = Said({}, {}, {}, None, (0, 0), [])
    request = pb.GenerateRequest(model=MODEL, scheduling=INTERACTIVE, **fields)
    for reply in server.inference.Generate(request, timeout=100):
        if said.started is None:
            said.started = reply.started.prompt_tokens  # the first message; 0 if it is another
            continue
        if reply.HasField("done"):
            said.counts = (reply.done.prompt_tokens, reply.done.completion_tokens)
            continue
        delta = reply.delta
        said.texts[delta.choice] = said.texts.get(delta.choice, "") + delta.text
        said.ids.setdefault(delta.choice, []).extend(token.id for token in delta.tokens)
        if delta.choice == 0:
            said.logprobs += [token.logprob for token in delta.tokens]
        if delta.HasField("finish"):
            said.ends[delta.choice] = delta.finish
    assert said.started == said.counts[0]
    return said


def chat(content: str) -> pb.Conversation:
    return pb.Conversation(messages=[pb.Message(role=pb.ROLE_USER, content=content)])


COUNT = chat("Write the numbers from 1 to 20, separated by commas.")
SAME: dict[str, dict[str, Any]] = {
    "one token of prompt": {"text": "Hello", "top_logprobs": 3},
    "a list": {"text": "1, 2, 3, 4, 5, 6, 7, 8,"},
    "many scripts": {"text": "Größe 世界 👩‍👩‍👧"},
    "several chunks": {"text": "one two three four " * 40},
    "a conversation": {"conversation": COUNT},
    "markup in a message": {"conversation": chat("What does <|im_end|> mean?")},
    "an empty message": {"conversation": chat("")},
    "stop strings": {"conversation": COUNT, "stop": pb.Stop(strings=["5, 6", "10"])},
    "a stop string after a minimum": {"conversation": COUNT, "stop": pb.Stop(strings=["5, 6", " 18"], min_tokens=20)},
    "a stop id": {"conversation": COUNT, "stop": pb.Stop(token_ids=[28])},
    "on after the end": {"conversation": chat("Say hello."), "stop": pb.Stop(ignore_eos=True)},
    "several choices": {"text": "The best way to", "choices": 3},
}


@pytest.mark.parametrize("case", SAME)
def test_same_continuations(reference: Server, rust: Server, case: str) -> None:
    fields = {"max_tokens": 32, "sampling": GREEDY, **SAME[case]}
    expected, actual = generate(reference, **fields), generate(rust, **fields)
    assert actual.logprobs == pytest.approx(expected.logprobs, abs=LOGPROB_ROUNDING)
    assert dataclasses.replace(actual, logprobs=[]) == dataclasses.replace(expected, logprobs=[])
    assert actual.ends.keys() == actual.texts.keys() == set(range(fields.get("choices", 1)))


REFUSED: dict[str, dict[str, Any]] = {
    "no prompt": {},
    "an empty text": {"text": ""},
    "no ids": {"token_ids": pb.TokenIds()},
    "an id beyond the vocabulary": {"token_ids": pb.TokenIds(ids=[1, 99_999])},
    "no messages": {"conversation": pb.Conversation()},
    "no role": {"conversation": pb.Conversation(messages=[pb.Message(role=pb.ROLE_USER), pb.Message()])},
    "too long": {"text": "a", "max_tokens": 9000},
    "too many choices": {"text": "a", "choices": 1000},
    "too many log-probabilities": {"text": "a", "top_logprobs": 21},
    "temperature": {"text": "a", "sampling": pb.Sampling(temperature=2.1)},
    "temperature is no number": {"text": "a", "sampling": pb.Sampling(temperature=float("nan"))},
    "top_p": {"text": "a", "sampling": pb.Sampling(top_p=0)},
    "min_p": {"text": "a", "sampling": pb.Sampling(min_p=-0.1)},
    "frequency_penalty": {"text": "a", "sampling": pb.Sampling(frequency_penalty=3)},
    "presence_penalty": {"text": "a", "sampling": pb.Sampling(presence_penalty=-3)},
    "repetition_penalty": {"text": "a", "sampling": pb.Sampling(repetition_penalty=0)},
    "a bias": {"text": "a", "sampling": pb.Sampling(logit_bias={1: 101})},
    "a bias beyond the vocabulary": {"text": "a", "sampling": pb.Sampling(logit_bias={99_999: 1})},
    "too many biases": {"text": "a", "sampling": pb.Sampling(logit_bias=dict.fromkeys(range(301), 1))},
    "an empty stop string": {"text": "a", "stop": pb.Stop(strings=[""])},
    "too many stop strings": {"text": "a", "stop": pb.Stop(strings=["a"] * 17)},
    "a long stop string": {"text": "a", "stop": pb.Stop(strings=["a" * 257])},
    "a stop id beyond the vocabulary": {"text": "a", "stop": pb.Stop(token_ids=[99_999])},
    "too many stop ids": {"text": "a", "stop": pb.Stop(token_ids=[1] * 65)},
}


def told(server: Server, fields: dict[str, Any]) -> tuple[str, str, str | None, str | None]:
    """What a request is refused with: code, reason, field, limit."""

    def generate(request: pb.GenerateRequest, timeout: float) -> None:
        list(server.inference.Generate(request, timeout=timeout))

    code, status = refusal(generate, pb.GenerateRequest(model=MODEL, scheduling=INTERACTIVE, **fields))
    info = error_info(status)
    return code.name, info.reason, info.metadata.get("field"), info.metadata.get("limit")


@pytest.mark.parametrize("case", REFUSED)
def test_same_refusals(reference: Server, rust: Server, case: str) -> None:
    actual = told(rust, REFUSED[case])
    assert actual == told(reference, REFUSED[case])
    assert actual[2], "it names the field"
