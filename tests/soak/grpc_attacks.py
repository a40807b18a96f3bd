"""Messages to the hot path that no gateway would send."""

import collections
import random
from typing import Any

import grpc
from triptych.inference.v1 import inference_pb2 as pb

from e2e.chats import MODEL as CHAT
from e2e.vectors import MODEL as EMBEDDING
from soak.attacks import HURTFUL_TEXTS, MODERATION, Wrong, compact
from soak.schemas import KINDS

TIMEOUT_S = 30
METHODS = ("Embed", "Tokenize", "Classify", "Generate")
# Faults of ours; DATA_LOSS and UNIMPLEMENTED would be, too.
FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}


def message(rng: random.Random, method: str) -> bytes:
    """Sometimes bytes, sometimes a message with a field or two that are absurd."""
    if rng.random() < 0.3:
        return rng.randbytes(rng.choice([0, 1, 50, 5000]))
    priority: Any = rng.choice([0, 1, 2, 99])
    scheduling = pb.Scheduling(fairness_key="k" * rng.choice([0, 4, 128, 129]), priority=priority)
    text = rng.choice(HURTFUL_TEXTS)(rng)[:500_000]
    ids = [rng.choice([0, 1, 29_000, 2**32 - 1]) for _ in range(rng.choice([0, 1, 600]))]
    if method == "Embed":
        given = rng.choice([pb.EmbedInput(), pb.EmbedInput(text=text), pb.EmbedInput(token_ids=pb.TokenIds(ids=ids))])
        dimensions, truncate = rng.choice([0, 0, 1, 2**32 - 1]), rng.random() < 0.5
        fields: Any = {"inputs": [given], "dimensions": dimensions, "truncate": truncate}
        return bytes(pb.EmbedRequest(model=EMBEDDING, scheduling=scheduling, **fields).SerializeToString())
    if method == "Tokenize":
        model = rng.choice([EMBEDDING, CHAT])
        return bytes(pb.TokenizeRequest(model=model, texts=[text], scheduling=scheduling).SerializeToString())
    if method == "Classify":
        return bytes(pb.ClassifyRequest(model=MODERATION, texts=[text], scheduling=scheduling).SerializeToString())
    return generation(rng, scheduling, text, ids)


def generation(rng: random.Random, scheduling: pb.Scheduling, text: str, ids: list[int]) -> bytes:
    request = pb.GenerateRequest(model=CHAT, scheduling=scheduling, max_tokens=rng.choice([0, 1, 8, 2**32 - 1]))
    if rng.random() < 0.5:
        request.text = text
    else:
        request.token_ids.ids.extend(ids)
    request.choices = rng.choice([0, 1, 2**32 - 1])
    request.sampling.temperature = rng.choice([0.0, 1.0, float("nan"), float("inf"), -1.0])
    request.stop.token_ids.extend(ids[:70])
    request.format.json_schema = compact(rng.choice(KINDS)(rng)).decode()
    return bytes(request.SerializeToString())


def attack(channel: grpc.Channel, rng: random.Random) -> str:
    """Call a method, and return what came of it in a word. Raises Wrong."""
    method = rng.choice(METHODS)
    sent = message(rng, method)
    path = f"/triptych.inference.v1.InferenceService/{method}"
    call: Any = channel.unary_stream(path) if method == "Generate" else channel.unary_unary(path)
    try:
        reply = call(sent, timeout=TIMEOUT_S)
        collections.deque(reply if method == "Generate" else [], maxlen=0)
    except grpc.RpcError as error:
        if error.code() in FAULTS:
            raise Wrong(f"{method}: {error.code()} {error.details()} for {sent[:200]!r}") from error
        return f"gRPC {error.code().name}"
    return "gRPC OK"
