"""Models folders of a test's own."""

import json
import pathlib
import shutil

from triptych.bundle.v1 import bundle_pb2
from triptych_research import bundle, strict_json
from triptych_research.store import Store

from e2e.vectors import MODEL
from stack.native import MODELS


def copy_current(folder: pathlib.Path) -> pathlib.Path:
    """Copy the model's current revision, and no other, to a new models folder."""
    source = Store(MODELS).current_path(MODEL)
    place = folder / MODEL / source.name
    shutil.copytree(source, place)
    switch(folder, place.name)
    return folder


def switch(folder: pathlib.Path, revision: str, *history: str) -> None:
    """Make a revision current by hand: the command would verify it first."""
    (folder / MODEL / "next").write_text(json.dumps({"revision": revision, "history": history}))
    (folder / MODEL / "next").rename(folder / MODEL / "current")


def add_revision(folder: pathlib.Path) -> str:
    """Add a bundle that differs in a word of its manifest, and so in its revision; return that."""
    store = Store(folder)
    current = store.current_path(MODEL)
    manifest = bundle_pb2.Manifest()
    manifest.CopyFrom(bundle.read(current).manifest)
    manifest.source.owner = "somebody else"
    files = {path.name: path.read_bytes() for path in current.iterdir()}
    return store.add(MODEL, {**files, bundle.MANIFEST: strict_json.dump(manifest)})


def damage(folder: pathlib.Path, revision: str) -> None:
    """Give a revision's tokenizer one byte too many."""
    with (folder / MODEL / revision / "tokenizer.json").open("ab") as file:
        file.write(b"\n")
