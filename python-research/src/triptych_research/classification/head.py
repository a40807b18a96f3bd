"""The head that is committed: `head.json`, written by training and read by export. It knows no data and no graph."""

import json
import pathlib
from dataclasses import asdict, dataclass

import numpy as np

from triptych_research import json_fields
from triptych_research.classification import logistic
from triptych_research.classification.logistic import Floats
from triptych_research.sources import Source

FILE = "head.json"
_DECIMALS = 4  # of weights, which are below 100: scores change by less than 1e-4


@dataclass(frozen=True)
class HeadLabel:
    """One label: a linear function of the vector, and from which score on a text is said to be it."""

    name: str
    threshold: float
    advisory: bool  # whether what is said is no more than a hint
    bias: float
    weights: list[float]  # [dimensions]


@dataclass(frozen=True)
class Head:
    """Vectors to scores."""

    encoder: str  # name of its recipe
    encoder_sha256: str  # of the source of the encoder's weights
    labels: list[HeadLabel]

    def matrix(self) -> Floats:
        """Return the weights [labels, dimensions]."""
        return np.array([label.weights for label in self.labels])

    def biases(self) -> Floats:
        """Return the biases [labels]."""
        return np.array([label.bias for label in self.labels])

    def scores(self, vectors: Floats) -> Floats:
        """Return the scores [texts, labels] of vectors [texts, dimensions]: the reference, in float64."""
        return logistic.sigmoid(vectors @ self.matrix().T + self.biases())

    def write(self, folder: pathlib.Path) -> None:
        """Write the head's file into a folder."""
        (folder / FILE).write_text(
            json.dumps(asdict(self), indent=1, separators=(",", ":")).replace(",\n    ", ",") + "\n"
        )


def rounded(value: float) -> float:
    """Return a weight as it is committed."""
    return round(float(value), _DECIMALS)


def load(source: Source) -> Head:
    """Read and check a head. Raises CheckpointError, which names the field."""
    raw = json_fields.read(source, FILE)
    labels = [
        _label(each, f"labels[{index}]") for index, each in enumerate(json_fields.field(raw, FILE, "labels", list))
    ]
    if not labels:
        raise json_fields.CheckpointError(f"{FILE}: labels: none")
    if len({label.name for label in labels}) != len(labels):
        raise json_fields.CheckpointError(f"{FILE}: labels: two have the same name")
    if len({len(label.weights) for label in labels}) != 1:
        raise json_fields.CheckpointError(f"{FILE}: labels: weights differ in length")
    return Head(
        json_fields.field(raw, FILE, "encoder", str), json_fields.field(raw, FILE, "encoder_sha256", str), labels
    )


def _label(raw: object, field: str) -> HeadLabel:
    file = f"{FILE}: {field}"
    label = HeadLabel(
        name=json_fields.field(raw, file, "name", str),
        threshold=json_fields.field(raw, file, "threshold", float),
        advisory=json_fields.field(raw, file, "advisory", bool),
        bias=json_fields.field(raw, file, "bias", float),
        weights=json_fields.field(raw, file, "weights", list),
    )
    if not 0 < label.threshold < 1:
        raise json_fields.CheckpointError(f"{file}: threshold: {label.threshold} is not between 0 and 1")
    if not all(isinstance(weight, float) for weight in [label.bias, *label.weights]):
        raise json_fields.CheckpointError(f"{file}: weights: not all are finite numbers")
    return label
