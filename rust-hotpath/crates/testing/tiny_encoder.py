"""Writes a bundle of a sentence encoder with random weights, small enough that a text takes a millisecond.

    python tiny_encoder.py MODEL_FOLDER

Checkpoint and exporter are the research side's own, so the hot path is tested with what it will be given.
"""

import sys
import tempfile
from pathlib import Path

import tiny
from triptych_research.embedding.checkpoint import load
from triptych_research.embedding.export import Embedding, build_graphs
from triptych_research.export import bundle_files
from triptych_research.sources import Folder
from triptych_research.store import Store


def main(model_folder: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Folder(tiny.write(Path(folder) / "tiny"), license="Apache-2.0", owner="tests").fetch(Path(folder))
        checkpoint = load(source)
    store = Store(model_folder.parent)
    files = bundle_files(model_folder.name, source, Embedding(), checkpoint, build_graphs(checkpoint))
    store.promote(model_folder.name, store.add(model_folder.name, files))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
