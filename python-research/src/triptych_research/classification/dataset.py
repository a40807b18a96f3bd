"""Labelled texts for moderation: OpenAI's published evaluation set (1,680 texts, MIT licence).

It came with "A Holistic Approach to Undesired Content Detection in the Real World" (Markov et al., 2022), and is used
as it is published: `data/samples-1680.jsonl.gz` of the repository openai/moderation-api-release on GitHub.

The head is *trained* on this set. Whatever it scores there says nothing: nobody may report results on the set with it.
What is stated of it here was measured in cross-validation.

The texts are not part of this repository. Most are vile: nothing here prints one.
"""

import gzip
import hashlib
import json
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FILE = "samples-1680.jsonl.gz"
ORIGIN = "https://github.com/openai/moderation-api-release"  # in its folder `data`
SHA256 = "ef3f7de86ee394fe337b0a566ba4b9c7db058f3caa8d6a4a0006138b663ab9a8"
# The set's keys, and what OpenAI's moderation endpoint calls them.
CATEGORIES: Mapping[str, str] = {
    "H": "hate",
    "H2": "hate/threatening",
    "HR": "harassment",
    "SH": "self-harm",
    "S": "sexual",
    "S3": "sexual/minors",
    "V": "violence",
    "V2": "violence/graphic",
}
UNKNOWN = -1


class DatasetError(Exception):
    """The labelled texts are not there, or not the ones that scores are stated for."""


@dataclass(frozen=True)
class Dataset:
    """Texts, and for each category of CATEGORIES whether they are it."""

    texts: list[str]
    labels: NDArray[np.int8]  # [texts, categories]: 1, 0 or UNKNOWN


def load(folder: pathlib.Path, sha256: str = SHA256) -> Dataset:
    """Read the set from the folder that holds FILE. Raises DatasetError."""
    path = folder / FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"{path}: {error.strerror}; --data names the folder that holds {FILE}, from {ORIGIN}"
        ) from error
    if (actual := hashlib.sha256(content).hexdigest()) != sha256:
        raise DatasetError(f"{path}: sha256 is {actual}, not {sha256}")
    rows = [json.loads(line) for line in gzip.decompress(content).splitlines()]
    labels = [[row.get(key, UNKNOWN) for key in CATEGORIES] for row in rows]
    return Dataset([row["prompt"] for row in rows], np.array(labels, np.int8))
