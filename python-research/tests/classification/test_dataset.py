"""Labelled texts are the ones that scores are stated for, or training does not begin."""

import gzip
import hashlib
import json
import pathlib

import pytest

from triptych_research.classification import dataset
from triptych_research.classification.dataset import DatasetError


def write(folder: pathlib.Path, rows: list[dict[str, object]]) -> str:
    """Write a set and return its hash."""
    content = gzip.compress("\n".join(json.dumps(row) for row in rows).encode())
    (folder / dataset.FILE).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_a_missing_key_is_an_unknown_label(tmp_path: pathlib.Path) -> None:
    digest = write(tmp_path, [{"prompt": "Hello.", "S": 0, "V2": 1}, {"prompt": "Bye.", "H": 1}])
    data = dataset.load(tmp_path, digest)
    assert data.texts == ["Hello.", "Bye."]
    assert list(dataset.CATEGORIES) == ["H", "H2", "HR", "SH", "S", "S3", "V", "V2"]
    assert data.labels.tolist() == [[-1, -1, -1, -1, 0, -1, -1, 1], [1, -1, -1, -1, -1, -1, -1, -1]]


def test_other_texts_are_refused(tmp_path: pathlib.Path) -> None:
    digest = write(tmp_path, [{"prompt": "Hello.", "S": 0}])
    with pytest.raises(DatasetError, match=f"{dataset.FILE}: sha256 is {digest}, not {dataset.SHA256}"):
        dataset.load(tmp_path)


def test_a_folder_without_the_texts_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DatasetError, match="No such file or directory; --data names the folder that holds"):
        dataset.load(tmp_path / "nowhere")
