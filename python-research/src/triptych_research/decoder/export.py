"""Llama-architecture decoders as a family of models: one graph of 4- or 8-bit weights, judged by float32."""

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
from triptych_research.decoder.checkpoint import DecoderCheckpoint, load
from triptych_research.decoder.float32 import Float32Decoder
from triptych_research.decoder.graph import build
from triptych_research.decoder.session import DecoderSession, check_declared_shapes
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

FORM = "block_quantized"
# Of the golden logits, against the reference, as they are: a softmax takes differences. Measured: at most 0.76, at
# least 0.9997.
TOLERANCE = bundle_pb2.Tolerance(max_abs_error=1.5, min_cosine=0.99)


@dataclass(frozen=True)
class Generation(Family[DecoderCheckpoint]):
    """Llama's architecture, from a GGUF file or a folder."""

    stop_tokens: Sequence[str] = ()  # control tokens that end a text, beside those that the source names
    graphs: ClassVar[Mapping[str, GraphKind]] = {FORM: GraphKind(bundle_pb2.PRECISION_BLOCK_QUANTIZED, TOLERANCE)}

    def load(self, source: Source, cache: Path) -> DecoderCheckpoint:
        return load(source, self.stop_tokens)

    def check_reference(self, source: Source, cache: Path) -> float:
        return compare_decoder.with_torch(self.load(source, cache))

    def build(self, checkpoint: DecoderCheckpoint) -> Mapping[str, onnx.ModelProto]:
        return build_graphs(checkpoint)

    def golden(self, checkpoint: DecoderCheckpoint, graphs: Files) -> bundle_pb2.GenerationGoldenFile:
        context_tokens = checkpoint.weights.config.context_tokens
        cases = golden.cases(checkpoint.tokenizer(), checkpoint.chat_template(), context_tokens)
        return golden.make(cases, ReferenceDecoder(checkpoint.weights), golden.session(graphs[FORM], cases))

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
                stop_token_ids=checkpoint.stop_token_ids,
                chat_template=checkpoint.chat_markup,
                golden_processor=cpu.rounding(),
            ),
        )
        return manifest, {TOKENIZER_FILE: checkpoint.tokenizer_json}

    def judge(self, checkpoint: DecoderCheckpoint, files: Files, get_texts: GetTexts) -> Card:
        """Compare the graph with float32, on the package's own texts and on the reference's replies."""
        cases = strict_json.parse(files[GOLDEN_FILE], bundle_pb2.GenerationGoldenFile, GOLDEN_FILE)
        replies = [(case.prompt_ids, case.reference.token_ids) for case in cases.generations]
        tokenizer, context_tokens = checkpoint.tokenizer(), checkpoint.weights.config.context_tokens
        judged = quality.texts(tokenizer, replies, context_tokens)
        long = quality.long_text(tokenizer, get_texts().asked.texts, context_tokens)
        content, threads = files[graph_file(FORM)], os.cpu_count() or 1
        capacity = max(len(text.ids) for text in (*judged, long))
        graph = DecoderSession(content, slots=1, capacity=capacity, threads=threads)
        reference = Float32Decoder(checkpoint.weights, threads)
        comparison, along = (quality.compare(graph.score, reference.score, texts) for texts in (judged, [long]))
        measured = card.Measurements(
            quality=comparison.summary(along, graph.largest),
            tokens_per_second=speed.tokens_per_second(content),
            size_bytes=len(content),
        )
        failures = [*_out_of_tolerance(cases), *quality.BOUNDS.failures(measured.quality)]
        return card.make(checkpoint, measured, comparison, {FORM: "; ".join(failures)} if failures else {})


def _out_of_tolerance(cases: bundle_pb2.GenerationGoldenFile) -> list[str]:
    try:
        golden.check_answers(cases, 0, TOLERANCE)
    except OutOfToleranceError as error:
        return [str(error)]
    return []


def build_graphs(checkpoint: DecoderCheckpoint) -> dict[str, onnx.ModelProto]:
    """Return the bundle's only graph."""
    model = build(checkpoint.weights)
    check_declared_shapes(model)
    return {FORM: model}
