"""From an origin to a bundle in the store: the steps in order, whatever the family, and the gates between them.

A graph that keeps too little of the model is left out, and named. Where none is left, or another gate fails, there is
no bundle.
"""

import hashlib
import importlib.metadata
import pathlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import onnx

from triptych_research import bundle, strict_json, texts
from triptych_research.family import GOLDEN_FILE, C, ExportError, Family, graph_file
from triptych_research.recipes import Recipe
from triptych_research.sources import Source
from triptych_research.store import Store, StoreError

# What decides, beside this package's own files, which bytes a bundle has.
_LIBRARIES = ("gguf", "jinja2", "numpy", "onnx", "onnxruntime", "protobuf", "safetensors", "tokenizers")

# Announces a step that takes a while, until the context ends.
Step = Callable[[str], AbstractContextManager[None]]


def up_to_date(recipe: Recipe, store: Store) -> str | None:
    """Return the current revision if exporting again would make the same bundle, and it is whole; else None."""
    try:
        current = store.current(recipe.name)
        if current is None:
            return None
        path = store.path(recipe.name, current.revision)
        bundle.read(path)  # which bounds its files
        measured = strict_json.loads((path / bundle.MEASUREMENTS).read_bytes(), bundle.MAX_CARD_BYTES)
    except (StoreError, bundle.BundleError, OSError, ValueError):
        return None  # whatever is wrong with it, exporting makes it good
    same = isinstance(measured, dict) and measured.get("fingerprint") == fingerprint(recipe)
    return current.revision if same else None


@dataclass(frozen=True)
class Exported:
    """A bundle that is in the store."""

    revision: str
    left_out: Mapping[str, str]  # graphs that it lacks, by precision, each with the reason


def export(recipe: Recipe, store: Store, cache: pathlib.Path, step: Step) -> Exported:
    """Make a bundle, judge it, and put it into the store; promoting it is the caller's to do.

    Raises SourceError, CheckpointError, ExportError (a quality gate), GoldenError or BundleError (a golden case), or
    StoreError when the store lacks a model that this one needs.
    """
    family, get_texts = recipe.family, texts.load
    for name in family.needs():
        store.current_path(name)
    with step(f"Fetch {recipe.origin.identity().split()[0]}"):
        source = recipe.origin.fetch(cache)
        checkpoint = family.load(source, cache)
    with step("Build the graphs"):
        models = family.build(checkpoint)
    with step("Ask the NumPy reference for the golden cases"):
        files = bundle_files(recipe.name, source, family, checkpoint, models)
    with step("Judge the graphs and measure speed"):
        card = family.judge(checkpoint, files, get_texts)
    if card.left_out:
        kept = {precision: model for precision, model in models.items() if precision not in card.left_out}
        if not kept:
            reasons = "; ".join(f"{precision}: {reason}" for precision, reason in card.left_out.items())
            raise ExportError(f"no graph keeps enough of the model: {reasons}")
        with step(f"Leave out {', '.join(card.left_out)}"):
            files = bundle_files(recipe.name, source, family, checkpoint, kept)
    with step("Replay the golden cases and write the bundle"):
        revision = store.add(recipe.name, files | card.render(recipe.name, source, fingerprint(recipe)))
    return Exported(revision, card.left_out)


def fingerprint(recipe: Recipe) -> str:
    """Return a hash of all that decides which bytes a bundle has: origin, this package, and the libraries it uses."""
    digest = hashlib.sha256(f"{recipe.name} {recipe.origin.identity()}".encode())
    for path in sorted(pathlib.Path(__file__).parent.rglob("*")):
        if path.suffix in (".py", ".txt", ".json"):
            digest.update(path.read_bytes())
    for library in _LIBRARIES:
        digest.update(f"{library}=={importlib.metadata.version(library)}".encode())
    return digest.hexdigest()


def bundle_files(
    name: str, source: Source, family: Family[C], checkpoint: C, models: Mapping[str, onnx.ModelProto]
) -> dict[str, bytes]:
    """Return the bundle's files, its manifest among them. `models` are the graphs, by precision, that it is to have."""
    graphs = {precision: model.SerializeToString(deterministic=True) for precision, model in models.items()}
    manifest, files = family.manifest(checkpoint)
    manifest.golden_file = GOLDEN_FILE
    for precision, kind in family.graphs.items():
        if precision in models:
            graph = bundle.describe_graph(
                models[precision],
                file=graph_file(precision),
                precision=kind.precision,
                tolerance=kind.tolerance,
            )
            manifest.graphs.append(graph)
    content = {
        **{graph_file(precision): graph for precision, graph in graphs.items()},
        **files,
        GOLDEN_FILE: strict_json.dump(family.golden(checkpoint, graphs)),
    }
    return bundle.with_manifest(name, source, content, manifest)
