"""Golden cases of a generation model: what the NumPy reference says after some prompts, and the gate for its graph.

The graph continues every prompt alone, together with all others, and with its prompt in chunks of several sizes: to the
last bit the same, and the same on every processor. Against the reference its logits may be as far off as its tolerance
says, and its greedy tokens may differ at near ties only. Anything else means no bundle.
"""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from triptych.bundle.v1 import bundle_pb2
from triptych_research.blocks import Floats
from triptych_research.decoder.chat import BEFORE, ChatTemplate, Message
from triptych_research.decoder.continuation import Continuation
from triptych_research.decoder.graph import past_name
from triptych_research.decoder.session import ROWS, DecoderSession
from triptych_research.golden import GoldenError, OutOfToleranceError, check_close
from triptych_research.reference.decoder import ReferenceDecoder

NEW_TOKENS = 32
# In logits. Rounding has turned tokens up to a margin of 0.3 in these cases, and of 0.4 in any text (quality.py).
CLEAR_MARGIN = 1.0
LIKELIEST, OTHERS = 8, 24  # logits that are kept of each prompt

TEXTS = (
    "Hello",  # one token
    "1, 2, 3, 4, 5, 6, 7, 8,",
    "def add(a, b):\n    return a + b\n\ndef subtract(a, b):\n    return",
    "one two three four " * 32 + "one",  # a token more than a run of 64 or 128, where each word is one
    "The days of the week are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday. " * 9,
)
CONVERSATIONS = (
    (Message("user", "List the numbers from 1 to 20."),),
    (Message("user", "What does <|im_end|> mean?"),),
    (Message("user", " Repeat this text exactly:\n\nThe cat sat on the mat and looked at the moon. "),),
    (
        Message("system", "You speak like a pirate. Ahoy!"),
        Message("user", "¿Dónde está la biblioteca? 📚 图书馆在哪里？"),
    ),
    (
        Message("user", "My name is Ada."),
        Message("assistant", "Hello Ada, nice to meet you!"),
        Message("user", "Write a Python function that adds two numbers."),
    ),
)
CHUNKS = (1, 7, 64)  # beside ROWS


@dataclass(frozen=True)
class Case:
    """A prompt and where it came from."""

    prompt: str | tuple[Message, ...]
    ids: list[int]


def cases(tokenizer: Tokenizer, template: ChatTemplate | None, context_tokens: int) -> list[Case]:
    """The prompts that a model can take, with room for their continuations."""
    found = [Case(text, tokenizer.encode(text).ids) for text in TEXTS]
    if template is not None:
        found += [Case(messages, template.encode(messages)) for messages in CONVERSATIONS]
    return [case for case in found if len(case.ids) + NEW_TOKENS <= context_tokens]


def session(graph: pathlib.Path | bytes, prompts: Sequence[Case]) -> DecoderSession:
    """Return a session with room for the prompts and their continuations."""
    return DecoderSession(graph, len(prompts), max(len(case.ids) for case in prompts) + NEW_TOKENS)


def make(
    prompts: Sequence[Case], reference: ReferenceDecoder, graph: DecoderSession
) -> bundle_pb2.GenerationGoldenFile:
    """Return the golden file: what the reference says, and what the graph says, alone, in company and in chunks."""
    golden = bundle_pb2.GenerationGoldenFile(clear_margin=CLEAR_MARGIN)
    for case, said in zip(prompts, replay([case.ids for case in prompts], graph), strict=True):
        entry = golden.generations.add(prompt_ids=case.ids)
        if isinstance(case.prompt, str):
            entry.text = case.prompt
        else:
            for message in case.prompt:
                entry.conversation.messages.add(role=message.role, content=message.content)
        # By the graph's own logits, which are the same on every processor.
        entry.logit_ids.extend(_logit_ids(said.next_token_logits))
        for target, source in ((entry.reference, reference.greedy(case.ids, NEW_TOKENS)), (entry.graphs.add(), said)):
            target.next_token_logits.extend(source.next_token_logits[list(entry.logit_ids)].tolist())
            target.token_ids.extend(source.token_ids)
            target.margins.extend(source.margins)
    return golden


def replay(prompts: Sequence[Sequence[int]], graph: DecoderSession) -> list[Continuation]:
    """Return each prompt's continuation; GoldenError unless it is bitwise the same in company and in chunks."""
    alone = [graph.greedy([prompt], NEW_TOKENS)[0] for prompt in prompts]
    for index, (result, expected) in enumerate(zip(graph.greedy(prompts, NEW_TOKENS), alone, strict=True)):
        same = (result.token_ids, result.margins) == (expected.token_ids, expected.margins)
        if not same or not np.array_equal(result.next_token_logits, expected.next_token_logits):
            raise GoldenError(f"generations[{index}]: not the same alone and in a batch of {len(prompts)}")
    for index, (prompt, expected) in enumerate(zip(prompts, alone, strict=True)):
        for rows in CHUNKS:
            if not np.array_equal(graph.prefill([prompt], rows)[0], expected.next_token_logits):
                raise GoldenError(f"generations[{index}]: other logits in chunks of {rows} than of {ROWS}")
    return alone


def manifest_checks(manifest: bundle_pb2.Manifest) -> Mapping[str, bool]:
    """Return the fields of a generation task, each with whether it is as it must be."""
    task = manifest.generation
    stops = list(task.stop_token_ids)
    places = [markup.place for markup in task.chat_template]
    shape = ["slots", str(task.kv_cache.kv_heads), "capacity", str(task.kv_cache.head_dimensions)]
    caches = {past_name(side, layer): shape for layer in range(task.kv_cache.layers) for side in ("key", "value")}
    return {
        "generation.kv_cache": all(
            {tensor.name: list(tensor.shape) for tensor in graph.inputs if tensor.name.startswith("past_")} == caches
            for graph in manifest.graphs
        ),
        "generation.stop_token_ids": stops == sorted(set(stops)) and stops[-1] < manifest.tokenizer.vocabulary_size,
        "generation.chat_template": len(set(places)) == len(places)
        and {each.place for each in task.chat_template if each.trims_message} <= set(BEFORE.values()),
    }


def check_cases(manifest: bundle_pb2.Manifest, golden: bundle_pb2.GenerationGoldenFile, tokenizer: Tokenizer) -> None:
    """Raise GoldenError unless the cases are what the manifest and the tokenizer say."""
    if len({len(case.prompt_ids) for case in golden.generations}) < 2:
        raise GoldenError("generations: at least two cases of different lengths are needed")
    for index, case in enumerate(golden.generations):
        field = f"generations[{index}]"
        if len(case.graphs) != len(manifest.graphs):
            raise GoldenError(f"{field}.graphs: {len(case.graphs)}, where the manifest has {len(manifest.graphs)}")
        for continuation in (case.reference, *case.graphs):
            if len(continuation.next_token_logits) != len(case.logit_ids):
                raise GoldenError(f"{field}: next_token_logits and logit_ids are not as many")
            if len(continuation.token_ids) != NEW_TOKENS or len(continuation.margins) != NEW_TOKENS:
                raise GoldenError(f"{field}: token_ids and margins are not {NEW_TOKENS}")
        if len(case.prompt_ids) + NEW_TOKENS > manifest.tokenizer.max_tokens:
            raise GoldenError(f"{field}.prompt_ids: no room for {NEW_TOKENS} more tokens")
    markup = manifest.generation.chat_template
    check_tokenizer(golden, tokenizer, ChatTemplate(markup, tokenizer) if markup else None)


def replay_graph(
    folder: pathlib.Path, manifest: bundle_pb2.Manifest, golden: bundle_pb2.GenerationGoldenFile, index: int
) -> None:
    """Raise GoldenError unless one of a bundle's graphs gives the golden continuations."""
    graph = manifest.graphs[index]
    capacity = max(len(case.prompt_ids) for case in golden.generations) + NEW_TOKENS
    decoder = DecoderSession(folder / graph.file, len(golden.generations), capacity)
    check_graph(golden, index, decoder, graph.tolerance)


def check_tokenizer(
    golden: bundle_pb2.GenerationGoldenFile, tokenizer: Tokenizer, template: ChatTemplate | None
) -> None:
    """Raise GoldenError unless each prompt has the golden ids."""
    for index, case in enumerate(golden.generations):
        field = f"generations[{index}]"
        if case.WhichOneof("prompt") == "text":
            ids = tokenizer.encode(case.text).ids
        elif template is None:
            raise GoldenError(f"{field}.conversation: the model has no chat template")
        else:
            messages = [Message(each.role, each.content) for each in case.conversation.messages]
            try:
                ids = template.encode(messages)
            except KeyError as error:
                raise GoldenError(f"{field}.conversation: {error} is no role and no control token") from error
        if ids != list(case.prompt_ids):
            raise GoldenError(f"{field}.prompt_ids: tokenizer says {ids}, not {list(case.prompt_ids)}")


def check_graph(
    golden: bundle_pb2.GenerationGoldenFile, index: int, graph: DecoderSession, tolerance: bundle_pb2.Tolerance
) -> None:
    """Raise GoldenError unless the manifest's graph number `index` says what the golden file says, to the last bit."""
    check_answers(golden, index, tolerance)
    results = replay([list(case.prompt_ids) for case in golden.generations], graph)
    for number, (case, result) in enumerate(zip(golden.generations, results, strict=True)):
        expected, field = case.graphs[index], f"generations[{number}].graphs[{index}]"
        logits = result.next_token_logits[list(case.logit_ids)].tolist()
        for name, actual in (
            ("next_token_logits", logits),
            ("token_ids", result.token_ids),
            ("margins", result.margins),
        ):
            _check_equal(actual, getattr(expected, name), f"{field}.{name}")


def check_answers(golden: bundle_pb2.GenerationGoldenFile, index: int, tolerance: bundle_pb2.Tolerance) -> None:
    """Raise OutOfToleranceError unless what the golden file has of one graph is near the reference. Nothing runs."""
    for number, case in enumerate(golden.generations):
        answer, expected, field = case.graphs[index], case.reference, f"generations[{number}]"
        actual, logits = (np.array(each.next_token_logits, np.float32) for each in (answer, expected))
        check_close(actual, logits, tolerance, field, " of the logits")
        _check_tokens(answer.token_ids, expected, golden.clear_margin, f"{field}.reference")


def _check_equal(actual: Sequence[float], expected: Sequence[float], field: str) -> None:
    for place, (here, there) in enumerate(zip(actual, expected, strict=True)):
        if here != there:
            raise GoldenError(f"{field}[{place}]: {here!r}, not {there!r}")


def _check_tokens(
    actual: Sequence[int], golden: bundle_pb2.GoldenContinuation, clear_margin: float, field: str
) -> None:
    for place, (token, expected, margin) in enumerate(zip(actual, golden.token_ids, golden.margins, strict=True)):
        if token != expected:
            if not margin < clear_margin:
                problem = f"{token}, not {expected}, at a margin of {margin:.2f}"
                raise OutOfToleranceError(f"{field}.token_ids[{place}]: {problem}")
            return  # another word at a near tie: the texts part here


def _logit_ids(logits: Floats) -> list[int]:
    likeliest = np.argsort(logits, kind="stable")[-LIKELIEST:]
    others = np.linspace(0, len(logits) - 1, OTHERS).astype(int)
    return sorted({*likeliest.tolist(), *others.tolist()})
