"""From an origin to a generation model's bundle: the steps in order, and the gates between them.

Any gate that fails raises, and then there is no bundle.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from triptych.bundle.v1 import bundle_pb2
from triptych_research import bundle, strict_json, texts
from triptych_research import card as common_card
from triptych_research.decoder import card, golden, quality, speed
from triptych_research.decoder.chat import Message
from triptych_research.decoder.checkpoint import DecoderCheckpoint, load
from triptych_research.decoder.chunks import largest_chunk
from triptych_research.decoder.graph import WeightForm, build
from triptych_research.decoder.quality import Comparison
from triptych_research.decoder.session import DecoderSession, check_declared_shapes
from triptych_research.decoder.smoothing import calibrate, smooth
from triptych_research.export import GOLDEN_FILE, TOKENIZER_FILE, ExportError, Step, fingerprint
from triptych_research.golden import GoldenError
from triptych_research.recipes import DecoderRecipe
from triptych_research.reference.decoder import ReferenceDecoder
from triptych_research.sources import Source
from triptych_research.store import Store


@dataclass(frozen=True)
class GraphKind:
    """What the manifest says of a weight form."""

    precision: bundle_pb2.Precision
    cpu_feature: bundle_pb2.CpuFeature


# With an instruction for it, int8 reads prompts two to four times as fast, and serves many at once better. In blocks
# it runs well on any processor. Blocks of 4 bits would be nearer to float32, but ONNX Runtime has no kernel for
# these that gives a row the same bits alone and in a batch on processors with AVX2 alone (docs/decoder-speed.md).
GRAPHS: Mapping[WeightForm, GraphKind] = {
    WeightForm.INT8: GraphKind(bundle_pb2.PRECISION_INT8, bundle_pb2.CPU_FEATURE_INT8_DOT_PRODUCT),
    WeightForm.INT8_BLOCK: GraphKind(bundle_pb2.PRECISION_INT8_BLOCK, bundle_pb2.CPU_FEATURE_NONE),
}
CALIBRATION_TEXTS, CALIBRATION_TOKENS = 64, 128  # how many, and the most of each
# Of the golden logits, against the reference. Measured: at most 0.7, at least 0.998. Processors round activations to
# 8 bits at other places and are as far from each other as from float32.
TOLERANCE = bundle_pb2.Tolerance(max_abs_error=1.5, min_cosine=0.99)


def export(recipe: DecoderRecipe, store: Store, cache: pathlib.Path, step: Step) -> str:
    """Make a bundle, judge it, and put it into the store. Returns its revision; promoting it is the caller's to do.

    Raises SourceError, CheckpointError, ExportError (a quality bound) or BundleError (a golden case).
    """
    with step(f"Fetch {recipe.origin.identity().split()[0]}"):
        source = recipe.origin.fetch(cache)
        checkpoint = load(source, recipe.stop_tokens)
    with step("Fetch texts to calibrate with"):
        calibration = calibration_ids(checkpoint, texts.load(cache).calibration)
    with step("Calibrate and build the graphs"):
        models = build_graphs(checkpoint, calibration)
    with step("Ask the NumPy reference for the golden cases"):
        files = bundle_files(recipe.name, source, checkpoint, models)
    with step("Judge the graphs by float32"):
        graphs: dict[str, bytes] = {form: files[graph_file(form)] for form in models}
        comparisons = judge(checkpoint, files, graphs)
    with step("Measure speed"):
        speeds = speed.tokens_per_second(graphs)
    measured = card.Measurements(
        fingerprint=fingerprint(recipe),
        date=common_card.today(),
        machine=common_card.machine(),
        quality={form: comparison.summary() for form, comparison in comparisons.items()},
        tokens_per_second=speeds,
        size_bytes={form: len(graph) for form, graph in graphs.items()},
    )
    with step("Replay the golden cases and write the bundle"):
        return store.add(recipe.name, files | card.render(recipe.name, source, checkpoint, measured, comparisons))


def graph_file(form: WeightForm) -> str:
    """Return the name of a graph's file."""
    return f"model.{form}.onnx"


def calibration_ids(checkpoint: DecoderCheckpoint, some_texts: Sequence[str]) -> list[list[int]]:
    """Return some of the texts as token ids: of a model that speaks in conversations every other one as a message."""
    tokenizer, template = checkpoint.tokenizer(), checkpoint.chat_template()
    chosen = some_texts[:: max(1, len(some_texts) // CALIBRATION_TEXTS)]
    found = [tokenizer.encode(text).ids for text in chosen]
    if template is not None:
        found[::2] = [template.encode([Message("user", text)]) for text in chosen[::2]]
    limit = min(CALIBRATION_TOKENS, checkpoint.weights.config.context_tokens)
    return [ids[:limit] for ids in found]


def build_graphs(
    checkpoint: DecoderCheckpoint, calibration: Sequence[Sequence[int]]
) -> dict[WeightForm, onnx.ModelProto]:
    """Return the bundle's graphs, best first."""
    smoothed = smooth(checkpoint.weights, calibrate(checkpoint.weights, calibration))
    models = {
        WeightForm.INT8: build(smoothed, WeightForm.INT8),
        WeightForm.INT8_BLOCK: build(checkpoint.weights, WeightForm.INT8_BLOCK),
    }
    for model in models.values():
        check_declared_shapes(model)
    return models


def bundle_files(
    name: str, source: Source, checkpoint: DecoderCheckpoint, models: Mapping[WeightForm, onnx.ModelProto]
) -> dict[str, bytes]:
    """Return the bundle's files, its manifest among them. Raises ExportError when a graph depends on its company."""
    config = checkpoint.weights.config
    content = {graph_file(form): model.SerializeToString(deterministic=True) for form, model in models.items()}
    content[TOKENIZER_FILE] = checkpoint.tokenizer_json
    cases = golden.cases(checkpoint.tokenizer(), checkpoint.chat_template(), config.context_tokens)
    sessions = [golden.session(content[graph_file(form)], cases) for form in models]
    try:
        golden_file = golden.make(cases, ReferenceDecoder(checkpoint.weights), sessions)
    except GoldenError as error:
        raise ExportError(str(error)) from error
    content[GOLDEN_FILE] = strict_json.dump(golden_file)
    partial = bundle_pb2.Manifest(
        graphs=[
            bundle.describe_graph(
                model,
                file=graph_file(form),
                precision=GRAPHS[form].precision,
                cpu_feature=GRAPHS[form].cpu_feature,
                tolerance=TOLERANCE,
            )
            for form, model in models.items()
        ],
        tokenizer=bundle_pb2.Tokenizer(
            file=TOKENIZER_FILE, vocabulary_size=config.vocabulary_size, max_tokens=config.context_tokens
        ),
        golden_file=GOLDEN_FILE,
        generation=_task(checkpoint),
    )
    return bundle.with_manifest(name, source, content, partial)


def judge(
    checkpoint: DecoderCheckpoint, files: Mapping[str, bytes], graphs: Mapping[str, bytes]
) -> dict[str, Comparison]:
    """Compare the graphs with float32. Raises ExportError when one does not keep its bounds."""
    golden_file = strict_json.parse(files[GOLDEN_FILE], bundle_pb2.GenerationGoldenFile, GOLDEN_FILE)
    replies = [(case.prompt_ids, case.reference.token_ids) for case in golden_file.generations]
    judged = quality.texts(checkpoint.tokenizer(), replies, checkpoint.weights.config.context_tokens)
    capacity = max(len(text.ids) for text in judged)

    def session(graph: bytes) -> DecoderSession:
        return DecoderSession(graph, slots=1, capacity=capacity, threads=os.cpu_count() or 1)

    reference = session(build(checkpoint.weights, WeightForm.FP32).SerializeToString())
    comparisons = quality.compare({form: session(graph) for form, graph in graphs.items()}, reference, judged)
    failures = [
        f"{form}: {failure}"
        for form, comparison in comparisons.items()
        for failure in quality.BOUNDS[form].failures(comparison.summary())
    ]
    if failures:
        raise ExportError(f"too far from float32: {'; '.join(failures)}")
    return comparisons


def _task(checkpoint: DecoderCheckpoint) -> bundle_pb2.GenerationTask:
    config = checkpoint.weights.config
    return bundle_pb2.GenerationTask(
        kv_cache=bundle_pb2.KvCache(layers=config.layers, kv_heads=config.kv_heads, head_dimensions=config.head_dim),
        max_chunk_tokens=largest_chunk(config.head_dim),
        stop_token_ids=checkpoint.stop_token_ids,
        chat_template=checkpoint.chat_markup,
    )
