"""From an origin to a promoted bundle: the steps in order, and the gates between them.

Any gate that fails raises, and then there is no bundle.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from triptych.bundle.v1 import bundle_pb2
from triptych_research import bundle, strict_json, texts
from triptych_research import card as common_card
from triptych_research.embedding import card, evaluate, golden, graph, quantize, speed
from triptych_research.embedding.checkpoint import Checkpoint, load
from triptych_research.embedding.evaluate import Quality
from triptych_research.embedding.inference import Batch, Encoder
from triptych_research.export import GOLDEN_FILE, TOKENIZER_FILE, ExportError, Step, fingerprint
from triptych_research.recipes import Recipe
from triptych_research.sources import Source
from triptych_research.store import Store

GRAPH_FILES = {"fp32": "model.fp32.onnx", "int8": "model.int8.onnx"}
# float32 arithmetic in another order than the reference's. Measured on the golden cases: 2e-7.
FP32_TOLERANCE = bundle_pb2.Tolerance(max_abs_error=1e-5, min_cosine=0.99999)
# int8 is an approximation. Measured on the golden cases: 0.0142 and 0.9978. The headroom is for other processors, whose
# float32 rounding moves an activation to the next of 255 steps here and there. Saturating multiplication (x86 without
# VNNI) is outside, with 0.9925, and is meant to be.
INT8_TOLERANCE = bundle_pb2.Tolerance(max_abs_error=0.03, min_cosine=0.995)
_SPEED_TEXTS = 200


@dataclass(frozen=True)
class TokenizedTexts:
    """The sets of texts.Texts as token ids."""

    calibration: Batch
    evaluation: Batch
    known: Batch
    known_topics: Sequence[str]
    asked: Batch
    asked_topics: Sequence[str]


@dataclass(frozen=True)
class Judgement:
    """What int8 keeps. Mappings are by precision: "fp32" and "int8"."""

    quality: Quality
    topics_found: Mapping[str, np.ndarray]  # [texts] of bool
    vectors: Mapping[str, np.ndarray]  # [texts, hidden] of the evaluation texts


def export(recipe: Recipe, store: Store, cache: pathlib.Path, step: Step) -> str:
    """Make a bundle, judge it, and put it into the store. Returns its revision; promoting it is the caller's to do.

    Raises SourceError, CheckpointError, ExportError (a quality gate) or BundleError (a golden case out of tolerance).
    """
    with step(f"Fetch {recipe.origin.identity().split()[0]}"):
        source = recipe.origin.fetch(cache)
        checkpoint = load(source)
    with step("Fetch texts to calibrate with and to judge by"):
        real_texts = tokenized(texts.load(cache), checkpoint)
    with step("Build the fp32 graph"):
        fp32 = graph.build(checkpoint, graph.Float32Weights())
    with step("Calibrate and build the int8 graph"):
        activations = quantize.calibrate(checkpoint, real_texts.calibration)
        int8 = graph.build(checkpoint, quantize.Int8Weights(activations))
    with step("Ask the NumPy reference for the golden cases"):
        files = bundle_files(recipe.name, source, checkpoint, fp32, int8)
    with step("Judge int8 on real texts"):
        judgement = judge(files, real_texts)
    with step("Measure speed"):
        speeds = measure_speed(files, real_texts.evaluation)
    measured = card.Measurements(
        fingerprint=fingerprint(recipe),
        date=common_card.today(),
        machine=common_card.machine(),
        calibration_texts=len(real_texts.calibration),
        evaluation_texts=len(real_texts.evaluation),
        evaluation_tokens=sum(map(len, real_texts.evaluation)),
        quality=judgement.quality,
        topics=card.Topics.count(judgement.topics_found["fp32"], judgement.topics_found["int8"]),
        tokens_per_second=speeds,
        size_bytes={precision: len(files[file]) for precision, file in GRAPH_FILES.items()},
    )
    with step("Replay the golden cases and write the bundle"):
        return store.add(recipe.name, files | card.render(recipe.name, source, checkpoint, measured, judgement.vectors))


def tokenized(real_texts: texts.Texts, checkpoint: Checkpoint) -> TokenizedTexts:
    """Return the texts' ids, each cut to the longest input that the model takes."""
    tokenizer = checkpoint.tokenizer()

    def ids(some: Sequence[str]) -> list[list[int]]:
        return [truncated(encoding.ids, checkpoint.max_tokens) for encoding in tokenizer.encode_batch(list(some))]

    return TokenizedTexts(
        calibration=ids(real_texts.calibration),
        evaluation=ids(real_texts.evaluation),
        known=ids(real_texts.known.texts),
        known_topics=real_texts.known.topics,
        asked=ids(real_texts.asked.texts),
        asked_topics=real_texts.asked.topics,
    )


def truncated(token_ids: list[int], limit: int) -> list[int]:
    """Keep at most `limit` tokens, the one that closes a text among them."""
    return token_ids if len(token_ids) <= limit else [*token_ids[: limit - 1], token_ids[-1]]


def bundle_files(
    name: str, source: Source, checkpoint: Checkpoint, fp32: onnx.ModelProto, int8: onnx.ModelProto
) -> dict[str, bytes]:
    """Return the bundle's files, its manifest among them."""
    content = {
        GRAPH_FILES["fp32"]: fp32.SerializeToString(deterministic=True),
        GRAPH_FILES["int8"]: int8.SerializeToString(deterministic=True),
        TOKENIZER_FILE: checkpoint.tokenizer_json,
        GOLDEN_FILE: strict_json.dump(golden.make(checkpoint)),
    }
    partial = bundle_pb2.Manifest(
        # Best first: int8 where the processor is made for it.
        graphs=[
            bundle.describe_graph(
                int8,
                file=GRAPH_FILES["int8"],
                precision=bundle_pb2.PRECISION_INT8,
                cpu_feature=bundle_pb2.CPU_FEATURE_INT8_DOT_PRODUCT,
                tolerance=INT8_TOLERANCE,
            ),
            bundle.describe_graph(
                fp32,
                file=GRAPH_FILES["fp32"],
                precision=bundle_pb2.PRECISION_FP32,
                cpu_feature=bundle_pb2.CPU_FEATURE_NONE,
                tolerance=FP32_TOLERANCE,
            ),
        ],
        tokenizer=bundle_pb2.Tokenizer(
            file=TOKENIZER_FILE,
            vocabulary_size=checkpoint.config.vocabulary_size,
            max_tokens=checkpoint.max_tokens,
        ),
        golden_file=GOLDEN_FILE,
        embedding=bundle_pb2.EmbeddingTask(
            pooling=bundle_pb2.POOLING_MEAN,
            normalize=checkpoint.normalize,
            dimensions=[checkpoint.config.hidden_size],
        ),
    )
    return bundle.with_manifest(name, source, content, partial)


def judge(files: Mapping[str, bytes], real_texts: TokenizedTexts) -> Judgement:
    """Compare int8 with fp32, and both with the labels. Raises ExportError when int8 misses a gate."""
    vectors, topics = {}, {}
    for precision, file in GRAPH_FILES.items():
        # Similarity is judged by the cosine, whether or not the model's own vectors have length 1.
        model = Encoder(files[file], normalize=True, threads=os.cpu_count() or 1)
        vectors[precision] = model.embed_all(real_texts.evaluation)
        asked, known = model.embed_all(real_texts.asked), model.embed_all(real_texts.known)
        topics[precision] = evaluate.topics_found(asked, real_texts.asked_topics, known, real_texts.known_topics)
    quality = evaluate.compare(vectors["int8"], vectors["fp32"])
    if failures := quality.failures():
        raise ExportError(f"int8 is too far from fp32: {'; '.join(failures)}")
    return Judgement(quality, topics, vectors)


def measure_speed(files: Mapping[str, bytes], evaluation: Batch) -> dict[str, float]:
    """Return tokens a second of one thread: the usual recipe, then the bundle's graphs."""
    some = evaluation[:: len(evaluation) // _SPEED_TEXTS]
    fp32, int8 = (Encoder(files[GRAPH_FILES[precision]], normalize=True) for precision in ("fp32", "int8"))
    runs = {
        "fp32, padded": (fp32, speed.padded(some)),
        "fp32, packed": (fp32, speed.packed(some)),
        "int8, packed": (int8, speed.packed(some)),
    }
    return speed.tokens_per_second(runs, sum(map(len, some)))
