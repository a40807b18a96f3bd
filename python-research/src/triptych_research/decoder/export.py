"""Llama-architecture decoders as a family of models: two graphs in 8 bits, judged by float32."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx

from triptych.bundle.v1 import bundle_pb2
from triptych_research import cpu, strict_json
from triptych_research.card import Card
from triptych_research.decoder import card, golden, quality, speed
from triptych_research.decoder.chat import Message
from triptych_research.decoder.checkpoint import DecoderCheckpoint, load
from triptych_research.decoder.chunks import largest_chunk
from triptych_research.decoder.graph import WeightForm, build
from triptych_research.decoder.session import DecoderSession, check_declared_shapes
from triptych_research.decoder.smoothing import calibrate, smooth
from triptych_research.family import (
    GOLDEN_FILE,
    TOKENIZER_FILE,
    Family,
    Files,
    GetTexts,
    GraphKind,
    graph_file,
)
from triptych_research.golden import OutOfToleranceError
from triptych_research.reference import compare_decoder
from triptych_research.reference.decoder import ReferenceDecoder
from triptych_research.sources import Source

CALIBRATION_TEXTS, CALIBRATION_TOKENS = 64, 128  # how many, and the most of each
# Of the golden logits, against the reference, as they are: a softmax takes differences. Measured:
# at most 0.7, at least 0.998. Processors round activations to 8 bits at other places and are as far from each other as
# from float32.
TOLERANCE = bundle_pb2.Tolerance(max_abs_error=1.5, min_cosine=0.99)
# With an instruction for it, int8 reads prompts two to four times as fast, and serves many at once better. In blocks
# it runs well on any processor. Blocks of 4 bits would be nearer to float32, but ONNX Runtime has no kernel for
# these that gives a row the same bits alone and in a batch on processors with AVX2 alone (docs/decoder-speed.md).
GRAPHS: Mapping[WeightForm, GraphKind] = {
    WeightForm.INT8: GraphKind(bundle_pb2.PRECISION_INT8, bundle_pb2.CPU_FEATURE_INT8_DOT_PRODUCT, TOLERANCE),
    WeightForm.INT8_BLOCK: GraphKind(bundle_pb2.PRECISION_INT8_BLOCK, bundle_pb2.CPU_FEATURE_NONE, TOLERANCE),
}


@dataclass(frozen=True)
class Generation(Family[DecoderCheckpoint]):
    """Llama's architecture, from a GGUF file or a folder."""

    stop_tokens: Sequence[str] = ()  # control tokens that end a text, beside those that the source names
    graphs: ClassVar[Mapping[str, GraphKind]] = {form.value: kind for form, kind in GRAPHS.items()}

    def load(self, source: Source, cache: Path) -> DecoderCheckpoint:
        return load(source, self.stop_tokens)

    def check_reference(self, source: Source, cache: Path) -> float:
        return compare_decoder.with_torch(self.load(source, cache))

    def build(self, checkpoint: DecoderCheckpoint, get_texts: GetTexts) -> Mapping[str, onnx.ModelProto]:
        return build_graphs(checkpoint, calibration_ids(checkpoint, get_texts().calibration.texts))

    def golden(self, checkpoint: DecoderCheckpoint, graphs: Files) -> bundle_pb2.GenerationGoldenFile:
        context_tokens = checkpoint.weights.config.context_tokens
        cases = golden.cases(checkpoint.tokenizer(), checkpoint.chat_template(), context_tokens)
        sessions = [golden.session(graphs[precision], cases) for precision in self.graphs if precision in graphs]
        return golden.make(cases, ReferenceDecoder(checkpoint.weights), sessions)

    def manifest(self, checkpoint: DecoderCheckpoint) -> tuple[bundle_pb2.Manifest, Files]:
        config = checkpoint.weights.config
        manifest = bundle_pb2.Manifest(
            tokenizer=bundle_pb2.Tokenizer(
                file=TOKENIZER_FILE, vocabulary_size=config.vocabulary_size, max_tokens=config.context_tokens
            ),
            generation=bundle_pb2.GenerationTask(
                kv_cache=bundle_pb2.KvCache(
                    layers=config.layers, kv_heads=config.kv_heads, head_dimensions=config.head_dim
                ),
                max_chunk_tokens=largest_chunk(config.head_dim),
                stop_token_ids=checkpoint.stop_token_ids,
                chat_template=checkpoint.chat_markup,
                golden_processor=cpu.rounding(),
            ),
        )
        return manifest, {TOKENIZER_FILE: checkpoint.tokenizer_json}

    def judge(self, checkpoint: DecoderCheckpoint, files: Files, get_texts: GetTexts) -> Card:
        """Compare the graphs with float32, on the package's own texts and on the reference's replies."""
        cases = strict_json.parse(files[GOLDEN_FILE], bundle_pb2.GenerationGoldenFile, GOLDEN_FILE)
        replies = [(case.prompt_ids, case.reference.token_ids) for case in cases.generations]
        judged = quality.texts(checkpoint.tokenizer(), replies, checkpoint.weights.config.context_tokens)
        capacity = max(len(text.ids) for text in judged)

        def session(graph: bytes) -> DecoderSession:
            return DecoderSession(graph, slots=1, capacity=capacity, threads=os.cpu_count() or 1)

        graphs = {form: files[graph_file(form)] for form in self.graphs}
        reference = session(build(checkpoint.weights, WeightForm.FP32).SerializeToString())
        comparisons = quality.compare({form: session(graph) for form, graph in graphs.items()}, reference, judged)
        failures = {
            form: [*_out_of_tolerance(cases, index), *quality.BOUNDS[form].failures(comparisons[form].summary())]
            for index, form in enumerate(self.graphs)
        }
        measured = card.Measurements(
            quality={form: comparison.summary() for form, comparison in comparisons.items()},
            tokens_per_second=speed.tokens_per_second(graphs),
            size_bytes={form: len(graph) for form, graph in graphs.items()},
        )
        left_out = {form: "; ".join(some) for form, some in failures.items() if some}
        return card.make(checkpoint, measured, comparisons, left_out)


def _out_of_tolerance(cases: bundle_pb2.GenerationGoldenFile, index: int) -> list[str]:
    try:
        golden.check_answers(cases, index, TOLERANCE)
    except OutOfToleranceError as error:
        return [str(error)]
    return []


def calibration_ids(checkpoint: DecoderCheckpoint, some_texts: Sequence[str]) -> list[list[int]]:
    """Return some of the texts as token ids: of a model that speaks in conversations every other one as a message."""
    tokenizer, template = checkpoint.tokenizer(), checkpoint.chat_template()
    chosen = some_texts[:: max(1, len(some_texts) // CALIBRATION_TEXTS)]
    found = [tokenizer.encode(text).ids for text in chosen]
    if template is not None:
        found[::2] = [template.encode([Message("user", text)]) for text in chosen[::2]]
    limit = min(CALIBRATION_TOKENS, checkpoint.weights.config.context_tokens)
    return [ids[:limit] for ids in found]


def build_graphs(checkpoint: DecoderCheckpoint, calibration: Sequence[Sequence[int]]) -> dict[str, onnx.ModelProto]:
    """Return the bundle's graphs, best first."""
    smoothed = smooth(checkpoint.weights, calibrate(checkpoint.weights, calibration))
    models: dict[str, onnx.ModelProto] = {
        WeightForm.INT8: build(smoothed, WeightForm.INT8),
        WeightForm.INT8_BLOCK: build(checkpoint.weights, WeightForm.INT8_BLOCK),
    }
    for model in models.values():
        check_declared_shapes(model)
    return models
