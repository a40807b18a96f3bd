"""Fixtures: a tiny model for what holds of every model, and the real one, which `make models` makes."""

import os
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import tiny
from hypothesis import settings

from triptych.bundle.v1 import bundle_pb2
from triptych_research import bundle, confined, cpu, export, strict_json
from triptych_research.bundle import Bundle
from triptych_research.embedding import graph, quantize
from triptych_research.embedding.checkpoint import Checkpoint, load
from triptych_research.embedding.export import Embedding, build_graphs
from triptych_research.embedding.inference import Encoder
from triptych_research.sources import Folder
from triptych_research.store import Store

ROOT = pathlib.Path(__file__).parents[2]
MODELS = pathlib.Path(os.environ.get("TRIPTYCH_MODELS_DIR", ROOT / "models"))
CACHE = ROOT / ".cache/wheels"

# What this runs under, if anything: an emulator, or what hides features of the processor. An x86 one then has no VNNI.
EMULATOR = os.environ.get("TRIPTYCH_EMULATOR", "")
settings.register_profile("default", deadline=None)  # a machine may be busy
settings.register_profile("emulated", deadline=None, max_examples=5)
settings.load_profile("emulated" if EMULATOR else "default")
if EMULATOR and "aarch64" not in EMULATOR and cpu.has_int8_dot_product():
    pytest.exit(f"{EMULATOR}: a processor with an int8 dot product, or none that is emulated", returncode=1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The tiny model's files. Not to be changed."""
    return tiny.write(tmp_path_factory.mktemp("source") / "tiny")


@pytest.fixture(scope="session")
def checkpoint(tiny_folder: pathlib.Path) -> Checkpoint:
    """The tiny model's checkpoint."""
    return load(Folder(tiny_folder, "MIT", "somebody").fetch(CACHE))


@pytest.fixture(scope="session")
def int8_weights(checkpoint: Checkpoint) -> quantize.Int8Weights:
    random = np.random.default_rng(1)
    texts = [random.integers(5, 60, length).tolist() for length in (3, 9, 17, 40)]
    return quantize.Int8Weights(quantize.calibrate(checkpoint, texts))


@pytest.fixture(scope="session", params=["fp32", "int8"])
def weights(request: pytest.FixtureRequest, int8_weights: quantize.Int8Weights) -> graph.Weights:
    """Each precision in turn."""
    return int8_weights if request.param == "int8" else graph.Float32Weights()


@pytest.fixture(scope="session")
def tiny_encoder(checkpoint: Checkpoint, weights: graph.Weights) -> Encoder:
    """The tiny model in each precision in turn."""
    return Encoder(graph.build(checkpoint, weights).SerializeToString(), checkpoint.normalize)


@pytest.fixture(scope="session")
def tiny_files(
    tiny_folder: pathlib.Path, checkpoint: Checkpoint, int8_weights: quantize.Int8Weights
) -> dict[str, bytes]:
    """The files of a bundle of the tiny model."""
    source = Folder(tiny_folder, "MIT", "somebody").fetch(CACHE)
    return export.bundle_files("tiny", source, Embedding(), checkpoint, build_graphs(checkpoint, int8_weights))


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Store:
    """An empty models folder."""
    return Store(tmp_path / "models")


@pytest.fixture
def tiny_bundle(store: Store, tiny_files: dict[str, bytes]) -> Bundle:
    """A bundle of the tiny model in a store, to be damaged at will."""
    return bundle.read(store.path("tiny", store.add("tiny", tiny_files)))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give child processes less time and memory than usual, so that tests need not wait for the bounds."""
    monkeypatch.setattr(confined, "CPU_SECONDS", 2)
    monkeypatch.setattr(confined, "MEMORY_BYTES", 512 * 2**20)


Change = Callable[[bundle_pb2.Manifest], None]


@pytest.fixture
def with_manifest(tiny_bundle: Bundle) -> Callable[[Change], pathlib.Path]:
    """Change the bundle's manifest and give the folder the name that this makes its revision."""

    def rewrite(change: Change) -> pathlib.Path:
        manifest = bundle_pb2.Manifest()
        manifest.CopyFrom(tiny_bundle.manifest)
        change(manifest)
        return write_manifest(tiny_bundle.path, strict_json.dump(manifest))

    return rewrite


def write_manifest(path: pathlib.Path, content: bytes) -> pathlib.Path:
    """Replace a bundle's manifest and rename its folder accordingly."""
    (path / bundle.MANIFEST).write_bytes(content)
    return path.rename(path.with_name(bundle.revision_of(content)))


@pytest.fixture(scope="session")
def real_models() -> Store:
    """The models folder that `make models` fills."""
    if not MODELS.is_dir():
        pytest.fail(f"{MODELS}: no such folder: run `make models`, or set TRIPTYCH_MODELS_DIR")
    return Store(MODELS)


@pytest.fixture(scope="session")
def minilm(real_models: Store) -> Bundle:
    """The default model's current bundle."""
    return bundle.read(real_models.current_path("all-minilm-l6-v2"))
