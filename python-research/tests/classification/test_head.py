"""What is committed of a head is read strictly."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from triptych_research.classification import graph
from triptych_research.classification import head as head_file
from triptych_research.classification.head import Head, HeadLabel
from triptych_research.json_fields import CheckpointError
from triptych_research.sources import Packaged

HEAD = Head(
    "tiny",
    "0" * 64,
    [HeadLabel("rude", 0.4, True, -0.5, [1.0, -2.5, 0.0]), HeadLabel("kind", 0.6, False, 0.25, [0.0] * 3)],
)


def load(folder: pathlib.Path) -> Head:
    return head_file.load(Packaged(folder, "small", head_file.FILE, "MIT", "me").fetch(folder))


def test_what_is_written_is_read(tmp_path: pathlib.Path) -> None:
    HEAD.write(tmp_path)
    assert load(tmp_path) == HEAD


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda raw: raw.pop("encoder"), "head.json: encoder: missing"),
        (lambda raw: raw["labels"].clear(), "head.json: labels: none"),
        (lambda raw: raw["labels"][1].update(name="rude"), "head.json: labels: two have the same name"),
        (lambda raw: raw["labels"][1]["weights"].pop(), "head.json: labels: weights differ in length"),
        (lambda raw: raw["labels"][1].pop("bias"), "head.json: labels[1]: bias: missing"),
        (lambda raw: raw["labels"][0].update(threshold=1.5), "labels[0]: threshold: 1.5 is not between 0 and 1"),
        (lambda raw: raw["labels"][0].update(advisory=0), "labels[0]: advisory: expected bool, not 0"),
        (
            lambda raw: raw["labels"][0]["weights"].__setitem__(1, "x"),
            "labels[0]: weights: not all are finite numbers",
        ),
        (lambda raw: raw["labels"][0]["weights"].__setitem__(1, float("nan")), "head.json: not JSON: NaN is not JSON"),
    ],
)
def test_a_head_that_is_none_is_refused(
    tmp_path: pathlib.Path, change: Callable[[Any], object], complaint: str
) -> None:
    HEAD.write(tmp_path)
    raw = json.loads((tmp_path / head_file.FILE).read_bytes())
    change(raw)
    (tmp_path / head_file.FILE).write_text(json.dumps(raw))
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    assert complaint in str(caught.value)


def test_scores_are_what_they_say() -> None:
    scores = HEAD.scores(np.array([[1.0, 0.0, 5.0], [0.0, -1.0, 0.0]]))  # [texts, labels]
    rude = [1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(-2.0))]
    np.testing.assert_allclose(scores, [[rude[0], 1 / (1 + np.exp(-0.25))], [rude[1], 1 / (1 + np.exp(-0.25))]])


@pytest.mark.bits
def test_the_graph_gives_the_heads_scores_in_any_batch() -> None:
    session = graph.HeadSession(graph.build(HEAD).SerializeToString())
    vectors = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    together = session.scores(vectors)
    np.testing.assert_allclose(together, HEAD.scores(vectors.astype(np.float64)), atol=1e-6)
    np.testing.assert_array_equal(together, np.concatenate([session.scores(vector[None]) for vector in vectors]))
