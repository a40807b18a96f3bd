"""From a committed head to a classification model's bundle: the steps in order, and the gates between them.

Any gate that fails raises, and then there is no bundle.
"""

import pathlib

import numpy as np
import onnx

from triptych.bundle.v1 import bundle_pb2
from triptych_research import bundle, strict_json
from triptych_research import card as common_card
from triptych_research.classification import card, golden, graph
from triptych_research.classification.head import Head, load
from triptych_research.embedding.checkpoint import Checkpoint
from triptych_research.embedding.checkpoint import load as load_encoder
from triptych_research.export import GOLDEN_FILE, ExportError, Step, fingerprint
from triptych_research.recipes import RECIPES, HeadRecipe
from triptych_research.sources import Source
from triptych_research.store import Store

GRAPH_FILE = "model.fp32.onnx"
# Of the head alone, in float32 against float64, on the same vectors. Measured: 1.2e-7.
HEAD_ERROR = 1e-5
# From text to scores, whichever of the encoder's graphs is served. Measured on the golden cases: 0.019 and 0.9985 for
# int8, 4e-7 for fp32. The headroom is for other processors, as in export.py.
TOLERANCE = bundle_pb2.Tolerance(max_abs_error=0.05, min_cosine=0.98)


def export(recipe: HeadRecipe, store: Store, cache: pathlib.Path, step: Step) -> str:
    """Make a bundle and put it into the store. Returns its revision; promoting it is the caller's to do.

    Raises SourceError, CheckpointError, ExportError, BundleError (a golden case) or StoreError when the store has no
    current bundle of the encoder, on which the golden cases are replayed.
    """
    store.current_path(recipe.encoder)
    with step(f"Fetch {recipe.encoder}"):
        source = recipe.origin.fetch(cache)
        head = load(source)
        encoder_source = RECIPES[recipe.encoder].origin.fetch(cache)
        checkpoint = load_encoder(encoder_source)
    if (head.encoder, head.encoder_sha256) != (recipe.encoder, encoder_source.sha256):
        raise ExportError(f"head.json: trained on {head.encoder} {head.encoder_sha256}: train it again")
    with step("Ask the NumPy references for the golden cases"):
        files = bundle_files(recipe.name, source, head, checkpoint)
    mistakes = card.Probes(card.PROBES, golden.reference_scores(head, checkpoint, card.PROBES))
    files |= card.render(recipe.name, source, head, mistakes, fingerprint(recipe), common_card.today())
    with step("Replay the golden cases and write the bundle"):
        return store.add(recipe.name, files)


def bundle_files(name: str, source: Source, head: Head, checkpoint: Checkpoint) -> dict[str, bytes]:
    """Return the bundle's files, its manifest among them. Raises ExportError when the graph is not the head."""
    if head.matrix().shape[1] != checkpoint.config.hidden_size:
        raise ExportError(f"head.json: weights: {head.matrix().shape[1]}, not {checkpoint.config.hidden_size}")
    model = graph.build(head)
    content = {
        GRAPH_FILE: model.SerializeToString(deterministic=True),
        GOLDEN_FILE: strict_json.dump(golden.make(head, checkpoint)),
    }
    check_graph(head, content[GRAPH_FILE])
    partial = bundle_pb2.Manifest(
        graphs=[_describe(model)],
        golden_file=GOLDEN_FILE,
        classification=bundle_pb2.ClassificationTask(
            encoder=head.encoder,
            encoder_sha256=head.encoder_sha256,
            labels=[bundle_pb2.ClassLabel(name=label.name, threshold=label.threshold) for label in head.labels],
        ),
    )
    return bundle.with_manifest(name, source, content, partial)


def check_graph(head: Head, content: bytes) -> None:
    """Raise ExportError unless ONNX Runtime gives the head's own scores, on vectors in all directions."""
    vectors = np.random.default_rng(0).normal(size=(256, head.matrix().shape[1])).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    error = float(np.abs(graph.HeadSession(content).scores(vectors) - head.scores(vectors.astype(np.float64))).max())
    if not error <= HEAD_ERROR:  # written so that a NaN fails
        raise ExportError(f"the graph's scores are off by {error:.2g}, above {HEAD_ERROR:g}")


def _describe(model: onnx.ModelProto) -> bundle_pb2.Graph:
    return bundle.describe_graph(
        model,
        file=GRAPH_FILE,
        precision=bundle_pb2.PRECISION_FP32,
        cpu_feature=bundle_pb2.CPU_FEATURE_NONE,
        tolerance=TOLERANCE,
    )
