"""What the exports of all families share: when there is nothing to do, and what may go wrong."""

import hashlib
import importlib.metadata
import pathlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from triptych_research import bundle, strict_json
from triptych_research.recipes import Recipe
from triptych_research.store import Store, StoreError

TOKENIZER_FILE = "tokenizer.json"
GOLDEN_FILE = "golden.json"
# What decides, beside this package's own files, which bytes a bundle has.
_LIBRARIES = ("gguf", "jinja2", "numpy", "onnx", "onnxruntime", "protobuf", "safetensors", "tokenizers")

# Announces a step that takes a while, until the context ends.
Step = Callable[[str], AbstractContextManager[None]]


class ExportError(Exception):
    """The model did not pass a gate."""


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


def fingerprint(recipe: Recipe) -> str:
    """Return a hash of all that decides which bytes a bundle has: origin, this package, and the libraries it uses."""
    digest = hashlib.sha256(f"{recipe.name} {recipe.origin.identity()}".encode())
    for path in sorted(pathlib.Path(__file__).parent.rglob("*")):
        if path.suffix in (".py", ".txt", ".json"):
            digest.update(path.read_bytes())
    for library in _LIBRARIES:
        digest.update(f"{library}=={importlib.metadata.version(library)}".encode())
    return digest.hexdigest()
