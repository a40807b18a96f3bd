"""What a request must be: each check names its field and its limit."""

import math
from collections.abc import Sequence
from typing import Any

from triptych.inference.v1 import inference_pb2 as pb

from contract.reference.generator import ROLES, Generator, Terms
from contract.reference.model import Embedder
from contract.reference.refusal import Refusal

MAX_INPUTS = 2048
MAX_FAIRNESS_KEY = 128  # bytes
MAX_WEIGHT = 16
MAX_CHOICES = 8
DEFAULT_MAX_TOKENS = 512
MAX_TOP_LOGPROBS = 20
MAX_BIASES = 300
MAX_STOP_STRINGS, MAX_STOP_STRING_BYTES = 16, 256
MAX_STOP_IDS = 64
# Lowest and highest value; those of ABOVE_ZERO may not be 0.
RANGES = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "repetition_penalty": (0, 10),
}
ABOVE_ZERO = {"top_p", "repetition_penalty"}
OPTIONAL = {"temperature", "top_p", "repetition_penalty"}


def check_scheduling(request: Any) -> None:
    """Check what every request of InferenceService has."""
    if not request.HasField("scheduling"):
        raise Refusal("MISSING_FIELD", "scheduling is required", field="scheduling")
    if request.scheduling.priority not in (pb.PRIORITY_INTERACTIVE, pb.PRIORITY_BATCH):
        raise Refusal("INVALID_VALUE", "scheduling.priority is not one of Priority", field="scheduling.priority")
    length = len(request.scheduling.fairness_key.encode())
    if length > MAX_FAIRNESS_KEY:
        message = f"scheduling.fairness_key has {length} bytes; at most {MAX_FAIRNESS_KEY}"
        raise Refusal("INVALID_VALUE", message, "scheduling.fairness_key", MAX_FAIRNESS_KEY, length)
    weight = request.scheduling.weight
    if weight > MAX_WEIGHT:
        message = f"scheduling.weight is {weight}; at most {MAX_WEIGHT}"
        raise Refusal("INVALID_VALUE", message, "scheduling.weight", MAX_WEIGHT, weight)


def check_charge(scheduling: pb.Scheduling, tokens: int) -> None:
    if 0 < scheduling.max_charge < tokens:
        message = f"the request may come to {tokens} tokens; {scheduling.max_charge} may be charged"
        raise Refusal("CHARGE_TOO_HIGH", message, limit=scheduling.max_charge, actual=tokens)


def check_count(inputs: Sequence[Any], field: str) -> None:
    if not inputs:
        raise Refusal("EMPTY_INPUT", f"{field} is empty", field=field)
    if len(inputs) > MAX_INPUTS:
        raise Refusal("TOO_MANY_INPUTS", f"{len(inputs)} inputs; at most {MAX_INPUTS}", field, MAX_INPUTS, len(inputs))


def check_texts(texts: Sequence[str]) -> None:
    check_count(texts, "texts")
    for index, text in enumerate(texts):
        if not text:
            raise Refusal("EMPTY_INPUT", f"texts[{index}] is empty", field=f"texts[{index}]")


def check_ids(ids: Sequence[int], field: str, vocabulary_size: int) -> None:
    for token in ids:
        if token >= vocabulary_size:
            message = f"{field} has token id {token}; ids are below {vocabulary_size}"
            raise Refusal("TOKEN_ID_OUT_OF_RANGE", message, field, vocabulary_size, token)


def check_dimensions(model: Embedder, wanted: int) -> int:
    offered = list(model.bundle.manifest.embedding.dimensions)
    if wanted and wanted not in offered:
        message = f"the model has vectors of {', '.join(map(str, offered))} dimensions, not of {wanted}"
        raise Refusal("DIMENSIONS_UNSUPPORTED", message, field="dimensions", actual=wanted)
    return wanted or offered[0]


def check_prompt(request: pb.GenerateRequest) -> None:
    field = request.WhichOneof("prompt")
    if field is None or (field == "text" and not request.text) or (field == "token_ids" and not request.token_ids.ids):
        raise Refusal("EMPTY_INPUT", f"{field or 'prompt'} is empty", field=field or "prompt")
    if field == "conversation":
        if not request.conversation.messages:
            raise Refusal("EMPTY_INPUT", "conversation.messages is empty", field="conversation.messages")
        for index, message in enumerate(request.conversation.messages):
            if message.role not in ROLES:
                field = f"conversation.messages[{index}].role"
                raise Refusal("INVALID_VALUE", f"{field} is not one of Role", field=field)


def check_terms(model: Generator, request: pb.GenerateRequest, prompt: int) -> Terms:
    """Return what holds for the continuations of a prompt of so many tokens."""
    vocabulary_size = model.bundle.manifest.tokenizer.vocabulary_size
    if request.HasField("format"):
        raise invalid("format", "is not supported here")
    within("choices", request.choices, 0, MAX_CHOICES)
    check_sampling(request.sampling, vocabulary_size)
    top_logprobs = request.top_logprobs if request.HasField("top_logprobs") else None
    within("top_logprobs", top_logprobs or 0, 0, MAX_TOP_LOGPROBS)
    check_stop(request.stop, vocabulary_size)
    tokens = max_tokens(request, prompt, model.bundle.manifest.tokenizer.max_tokens)
    if request.sampling != pb.Sampling(temperature=0):
        raise invalid("sampling", "is other than greedy, which is not supported here")
    return Terms(
        max_tokens=tokens,
        choices=request.choices or 1,
        stop=request.stop,
        top_logprobs=top_logprobs,
    )


def check_sampling(sampling: pb.Sampling, vocabulary_size: int) -> None:
    for name, (low, high) in RANGES.items():
        if name not in OPTIONAL or sampling.HasField(name):
            within(f"sampling.{name}", getattr(sampling, name), low, high)
            if name in ABOVE_ZERO and getattr(sampling, name) == 0:
                raise invalid(f"sampling.{name}", "is 0; it must be above")
    if len(sampling.logit_bias) > MAX_BIASES:
        raise invalid("sampling.logit_bias", f"has {len(sampling.logit_bias)} entries; at most {MAX_BIASES}")
    for token, bias in sorted(sampling.logit_bias.items()):
        within("sampling.logit_bias", bias, -100, 100)
        if token >= vocabulary_size:
            raise invalid("sampling.logit_bias", f"has token id {token}; ids are below {vocabulary_size}")


def check_stop(stop: pb.Stop, vocabulary_size: int) -> None:
    if len(stop.strings) > MAX_STOP_STRINGS:
        raise invalid("stop.strings", f"has {len(stop.strings)} entries; at most {MAX_STOP_STRINGS}")
    if len(stop.token_ids) > MAX_STOP_IDS:
        raise invalid("stop.token_ids", f"has {len(stop.token_ids)} entries; at most {MAX_STOP_IDS}")
    for index, string in enumerate(stop.strings):
        if not 1 <= len(string.encode()) <= MAX_STOP_STRING_BYTES:
            raise invalid(f"stop.strings[{index}]", f"must have 1 to {MAX_STOP_STRING_BYTES} bytes")
    check_ids(stop.token_ids, "stop.token_ids", vocabulary_size)


def max_tokens(request: pb.GenerateRequest, prompt: int, limit: int) -> int:
    """Return how many tokens each choice may have: what is asked, or the default, or what the prompt leaves."""
    field, wanted = str(request.WhichOneof("prompt")), request.max_tokens or 1
    if prompt + wanted > limit:
        message = f"{field} has {prompt} tokens and max_tokens is {wanted}; the model takes {limit} together"
        raise Refusal("INPUT_TOO_LONG", message, field, limit, prompt + wanted)
    return request.max_tokens or min(DEFAULT_MAX_TOKENS, limit - prompt)


def within(field: str, value: float, low: float, high: float) -> None:
    if math.isnan(value) or not low <= value <= high:
        raise invalid(field, f"is {value:g}; it may be {low:g} to {high:g}")


def invalid(field: str, problem: str) -> Refusal:
    return Refusal("INVALID_VALUE", f"{field} {problem}", field=field)
