"""What an export needs of a family of models: one protocol, which each room implements in its `export`.

A new architecture is a room beside these: a reader, a reference, graphs, golden cases and a card, brought together in a
class like theirs. What its bundles must hold when they are read is a row in `tasks`.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

import onnx
from google.protobuf.message import Message

from triptych.bundle.v1 import bundle_pb2
from triptych_research.card import Card
from triptych_research.sources import Source
from triptych_research.texts import Texts

C = TypeVar("C")
Files = Mapping[str, bytes]
GetTexts = Callable[[], Texts]

TOKENIZER_FILE = "tokenizer.json"
GOLDEN_FILE = "golden.json"


class ExportError(Exception):
    """The model did not pass a gate."""


@dataclass(frozen=True)
class GraphKind:
    """What the manifest says of a graph."""

    precision: bundle_pb2.Precision
    tolerance: bundle_pb2.Tolerance


def graph_file(precision: str) -> str:
    """Return the name of a graph's file."""
    return f"model.{precision}.onnx"


class Family(Protocol[C]):
    """A kind of model. C is what it reads a source as, everything checked."""

    graphs: ClassVar[Mapping[str, GraphKind]]  # by precision, as in "block_quantized", best first

    def needs(self) -> Sequence[str]:
        """Return the models that have to be in the store, because golden cases are replayed with them."""
        return ()

    def load(self, source: Source, cache: pathlib.Path) -> C:
        """Read a source. Raises SourceError, CheckpointError or ExportError."""

    def check_reference(self, source: Source, cache: pathlib.Path) -> float:
        """Return the largest difference of the NumPy reference and PyTorch. Raises ReferenceMismatchError."""

    def build(self, checkpoint: C) -> Mapping[str, onnx.ModelProto]:
        """Return the graphs by precision."""

    def golden(self, checkpoint: C, graphs: Files) -> Message:
        """Return the golden file: what the reference says of some inputs, and of a decoder what each graph says.

        `graphs` are all of them, or those that are not left out.
        """

    def manifest(self, checkpoint: C) -> tuple[bundle_pb2.Manifest, Files]:
        """Return the manifest's fields of the task and its tokenizer, and the files that these name."""

    def judge(self, checkpoint: C, files: Files, get_texts: GetTexts) -> Card:
        """Measure a bundle of all graphs. The card names those that are to be left out, because they keep too little.

        Raises ExportError, or GoldenError, where no bundle can be made of the others.
        """
