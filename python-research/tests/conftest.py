"""Fixtures: a tiny model for what holds of every model, and the real one, which `make models` makes."""

import os
import pathlib
from collections.abc import Callable

import kernel_paths
import pytest
import tiny
from hypothesis import settings

from triptych.bundle.v1 import bundle_pb2
from triptych_research import bundle, confined, export, strict_json
from triptych_research.bundle import Bundle
from triptych_research.embedding import graph
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
if EMULATOR and "avx512_vnni" in kernel_paths.available():
    pytest.exit(f"{EMULATOR}: a processor with VNNI, or none that is emulated", returncode=1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The tiny model's files. Not to be changed."""
    return tiny.write(tmp_path_factory.mktemp("source") / "tiny")


@pytest.fixture(scope="session")
def checkpoint(tiny_folder: pathlib.Path) -> Checkpoint:
    """The tiny model's checkpoint."""
    return load(Folder(tiny_folder, "MIT", "somebody").fetch(CACHE))


@pytest.fixture(scope="session")
def tiny_encoder(checkpoint: Checkpoint) -> Encoder:
    """The tiny model."""
    return Encoder(graph.build(checkpoint).SerializeToString(), checkpoint.normalize)


@pytest.fixture(scope="session")
def tiny_files(tiny_folder: pathlib.Path, checkpoint: Checkpoint) -> dict[str, bytes]:
    """The files of a bundle of the tiny model."""
    source = Folder(tiny_folder, "MIT", "somebody").fetch(CACHE)
    return export.bundle_files("tiny", source, Embedding(), checkpoint, build_graphs(checkpoint))


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
